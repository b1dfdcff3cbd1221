// What a processor can do at most, for a vector type V: products added up out of registers, and a stream
// read.
#pragma once

#include "cpu/kernels_tiles.h"

#include <array>
#include <type_traits>

namespace orion::cpu {

template <class V>
float add_up(const std::array<V, V::vector_accumulators>& sums) {
  float total = 0.0F;
  for (const V& one : sums) total += sum(one);
  return total;
}

template <class V>
inline constexpr std::int64_t lanes_of_round = V::lanes * V::vector_accumulators;

/// `rounds` of `step` for every accumulator, which all stay at 1. Their mean, so that none is left out.
template <class V, class Sum, class Step>
float keep_at_one(std::int64_t rounds, const Step& step) {
  std::array<Sum, V::vector_accumulators> sums;
  for (Sum& one : sums) one = Sum(1);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (Sum& one : sums) one = step(one);
  }
  std::array<V, V::vector_accumulators> floats;
  for (std::size_t i = 0; i < sums.size(); ++i)
    if constexpr (std::is_same_v<Sum, V>)
      floats[i] = sums[i];
    else
      floats[i] = to_floats(sums[i]);
  return add_up<V>(floats) / static_cast<float>(lanes_of_round<V>);
}

// The compiler must not know the factors, or what comes out.

template <class V>
float multiply_adds(std::int64_t rounds) {
  volatile float half = 0.5F;
  const V factor(half);
  return keep_at_one<V, V>(rounds, [&](V one) { return fma(one, factor, factor); });
}

/// Products of tiles that are in the first-level cache: one is loaded for each product, as there are too few
/// registers for less.
template <class V>
float multiply_tiles(std::int64_t rounds) {
  using Sums = TileSums<V, true>;
  constexpr std::int64_t count = unit_rows * panel_width;
  alignas(64) static constexpr float a[unit_rows * matrix_pairs] = {}, b[matrix_pairs * panel_width] = {};
  alignas(64) float sums[count];
  for (float& one : sums) one = 1.0F;
  const typename V::Tiles registers;
  Sums::load(sums, panel_width);
  for (std::int64_t i = 0; i < rounds; ++i) Sums::add_products(a, b, panel_width);
  Sums::store(sums, panel_width);
  float total = 0.0F;
  for (const float one : sums) total += one;
  return total / static_cast<float>(count);
}

/// Two products of bfloat16 a lane, where there are such instructions; else the fp32 ones that stand in for
/// them.
template <class V>
float multiply_adds_bf16(std::int64_t rounds) {
  if constexpr (V::multiplies_tiles) {
    return multiply_tiles<V>(rounds);
  } else if constexpr (V::dots_pairs) {
    volatile float zero = 0.0F;
    const V pair(zero);
    return keep_at_one<V, V>(rounds, [&](V one) { return dot_pairs(pair, pair, one); });
  } else {
    return multiply_adds<V>(rounds);
  }
}

/// Four products of bytes a lane, with weights that are 0.
template <class V>
float multiply_adds_int8(std::int64_t rounds) {
  using Words = typename V::Integers;
  if constexpr (V::sums_nibble_pairs) {
    volatile std::int32_t zero = 0;
    const Words lower(zero), upper(zero);
    return keep_at_one<V, Words>(
        rounds, [&](Words one) { return add_nibble_pairs(add_nibble_pairs(one, lower, one), upper, one); });
  } else {
    volatile std::int32_t zeros =
        static_cast<std::int32_t>(0x01010101U * static_cast<std::uint32_t>(128 - V::dot_bias));
    const Words weights(zeros);
    return keep_at_one<V, Words>(rounds, [&](Words one) { return dot_bytes(one, weights, one); });
  }
}

/// What those three multiply in a round.
template <class V>
inline constexpr std::int64_t products_of_round_bf16 =
    V::multiplies_tiles ? unit_rows * matrix_inputs * panel_width
                        : lanes_of_round<V> * (V::dots_pairs ? 2 : 1);
template <class V>
inline constexpr std::int64_t products_of_round_int8 = lanes_of_round<V> * 4;

/// The sum of x, at least `ceiling_grain` numbers in whole grains.
template <class V>
float read_stream(const float* x, std::int64_t count) {
  constexpr std::int64_t step = V::lanes * V::vector_accumulators;
  static_assert(ceiling_grain % step == 0);
  std::array<V, V::vector_accumulators> sums;
  for (V& one : sums) one = V(0.0F);
  for (std::int64_t i = 0; i < count; i += step) {
    const float* at = x + i;
#pragma GCC unroll 16
    for (V& one : sums) {
      one = one + V::load(at);
      at += V::lanes;
    }
  }
  return add_up<V>(sums);
}

}  // namespace orion::cpu
