// What a processor can do at most, for a vector type V: multiply-adds out of registers, and a stream read.
#pragma once

#include "cpu/kernel_table.h"

#include <array>

namespace orion::cpu {

template <class V>
float add_up(const std::array<V, V::vector_accumulators>& sums) {
  float total = 0.0F;
  for (const V& one : sums) total += sum(one);
  return total;
}

/// `rounds` multiply-adds of every accumulator, which all stay at 1. Their sum, so that none is left out.
template <class V>
float multiply_adds(std::int64_t rounds) {
  volatile float half = 0.5F;  // the compiler must not know what comes out
  const V factor(half);
  std::array<V, V::vector_accumulators> sums;
  for (V& one : sums) one = V(1.0F);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 16
    for (V& one : sums) one = fma(one, factor, factor);
  }
  return add_up<V>(sums);
}

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
