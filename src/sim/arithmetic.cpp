#include "sim/arithmetic.h"

#include <cstddef>

namespace orion::sim {
namespace {

template <bool ties_away>
void round_each(std::span<float> values) {
  for (float& value : values) value = rounded<ties_away>(value);
}

}  // namespace

Arithmetic arithmetic_of(const ane::Profile& profile) {
  return {.round_products = profile.has("products-rounded"),
          .ties_away = profile.has("ties-away"),
          .flush_products = profile.has("denormals-flushed"),
          .narrow_sums = profile.has("reduce-sum-narrow"),
          .nan_loses = profile.has("nan-not-propagated"),
          .ignore_mask = profile.has("sdpa-mask-ignored"),
          .ignore_conv_inputs = profile.has("conv-weight-constant"),
          .lose_batches = profile.has("mul-batch-broadcast"),
          .tile_softmax = profile.has("softmax-long-axis"),
          .overflow_early = profile.has("matmul-overflow")};
}

void round_all(std::span<float> values, const Arithmetic& arithmetic) {
  if (arithmetic.ties_away)
    round_each<true>(values);
  else
    round_each<false>(values);
}

// The bits of a half, moved into place, are its value times 2^-112; infinities and NaNs need all exponent
// bits.
void widen(const std::uint16_t* from, float* to, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = from[i];
    const std::uint32_t magnitude = (bits & 0x7fffU) << 13U;
    const auto scaled = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112F);
    const std::uint32_t value = magnitude >= 0x0f800000U ? magnitude | 0x7f800000U : scaled;
    to[i] = std::bit_cast<float>((bits & 0x8000U) << 16U | value);
  }
}

Tensor widened(const Tensor& tensor) {
  if (tensor.empty() || tensor.dtype() != DType::fp16) return tensor;
  const Tensor wide(TensorType{DType::fp32, tensor.shape()});
  widen(tensor.as<std::uint16_t>().data(), wide.as<float>().data(), wide.as<float>().size());
  return wide;
}

Tensor as_engine_values(const Tensor& tensor, const Arithmetic& arithmetic) {
  if (tensor.dtype() != DType::fp32) return widened(tensor);
  const Tensor values = tensor.clone();
  round_all(values.as<float>(), arithmetic);
  return values;
}

}  // namespace orion::sim
