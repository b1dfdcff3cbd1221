// How the engine computes: in fp16, and where it differs from IEEE arithmetic, as a profile's rows say.
//
// Values between ops are fp16 values held in fp32 memory.
#pragma once

#include "orion/ane.h"
#include "orion/tensor.h"

#include <bit>
#include <cstdint>
#include <span>

namespace orion::sim {

struct Arithmetic {
  bool round_products = true;       // inside matmul and conv
  bool ties_away = false;           // rounding takes ties away from zero, not to even
  bool flush_products = false;      // inside matmul and conv, products below 2^-14 are zero
  bool narrow_sums = false;         // reduce_sum and reduce_mean round after each addition
  bool nan_loses = false;           // maximum, minimum, relu, clip and reduce_max give the number, not NaN
  bool ignore_mask = false;         // scaled_dot_product_attention sees every key
  bool ignore_conv_inputs = false;  // a conv whose weight is not a constant gives zeros
  bool lose_batches = false;    // a mul that stretches an operand over the batch gives zeros after the first
  bool tile_softmax = false;    // softmax of a long axis is normalised tile by tile
  bool overflow_early = false;  // results of matmul and conv are infinite from 32752 on, not above 65504
};

Arithmetic arithmetic_of(const ane::Profile& profile);

// As bits of an fp32.
inline constexpr std::uint32_t smallest_normal_half = 0x38800000;  // 2^-14
inline constexpr std::uint32_t too_large_half = 0x47800000;        // 65536
inline constexpr std::uint32_t infinite = 0x7f800000;
inline constexpr std::uint32_t quiet_nan = 0x7fc00000;

/// A magnitude's bits with its mantissa cut to fp16's ten bits, rounded. Infinity and fp16's NaNs stay.
template <bool ties_away>
std::uint32_t rounded_mantissa(std::uint32_t magnitude) {
  const std::uint32_t half = ties_away ? 0x1000U : 0xfffU + ((magnitude >> 13U) & 1U);
  return (magnitude + half) & ~0x1fffU;
}

/// A magnitude below 2^-14 rounded to a multiple of 2^-24.
template <bool ties_away>
float rounded_subnormal(float magnitude) {
  if constexpr (!ties_away) return (magnitude + 0.5F) - 0.5F;  // fp32's own rounding, in steps of 2^-24
  const float steps = magnitude * 0x1p24F;
  const auto whole = static_cast<float>(static_cast<std::int32_t>(steps));
  return (steps - whole >= 0.5F ? whole + 1.0F : whole) * 0x1p-24F;
}

/// `value` as fp16; 65520 and more become infinite.
template <bool ties_away>
float rounded(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const bool tiny = magnitude < smallest_normal_half;
  const float small = rounded_subnormal<ties_away>(tiny ? std::bit_cast<float>(magnitude) : 0.0F);
  const std::uint32_t normal = rounded_mantissa<ties_away>(magnitude);
  std::uint32_t result = tiny ? std::bit_cast<std::uint32_t>(small) : normal;
  result = result >= too_large_half ? infinite : result;
  result = magnitude > infinite ? quiet_nan : result;
  return std::bit_cast<float>((bits & 0x80000000U) | result);
}

inline float rounded(float value, const Arithmetic& arithmetic) {
  return arithmetic.ties_away ? rounded<true>(value) : rounded<false>(value);
}
/// Each value as fp16.
void round_all(std::span<float> values, const Arithmetic& arithmetic);

/// fp16 bit patterns as fp32, in a form that compilers vectorise.
void widen(const std::uint16_t* from, float* to, std::size_t count);
/// An fp16 tensor's values in fp32 memory; any other tensor itself.
Tensor widened(const Tensor& tensor);
/// The same, fp32 values rounded to fp16: the engine holds nothing wider.
Tensor as_engine_values(const Tensor& tensor, const Arithmetic& arithmetic);

}  // namespace orion::sim
