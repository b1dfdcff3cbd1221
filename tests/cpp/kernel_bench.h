// What tests of the kernels share: numbers, and runs on every instruction set and on several threads.
#pragma once

#include "base/f16.h"
#include "cpu/kernel_table.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

namespace orion::cpu {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

inline constexpr float infinity = std::numeric_limits<float>::infinity();
inline constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

inline std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

inline Floats random_floats(std::int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  Floats values(index(count));
  for (float& value : values) value = uniform(generator);
  return values;
}

/// Runs `test` once per instruction set and restores the choice.
inline void on_every_isa(const std::function<void()>& test) {
  const Kernels& before = kernels();
  for (const Kernels* set : supported_kernels()) {
    INFO("instruction set " << set->name);
    use_kernels(*set);
    test();
  }
  use_kernels(before);
}

/// Results with one and with three threads, which must agree bit for bit.
inline Floats with_threads(const std::function<Floats(ThreadPool&)>& kernel) {
  static ThreadPool one(1);
  static ThreadPool three(3);
  const Floats result = kernel(one);
  const Floats again = kernel(three);
  REQUIRE(result.size() == again.size());
  CHECK(std::memcmp(result.data(), again.data(), result.size() * sizeof(float)) == 0);
  return result;
}

inline void check_close(const Floats& got, const Doubles& want, double tolerance) {
  REQUIRE(got.size() == want.size());
  double worst = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i])) {
      CHECK(std::isnan(got[i]));
      continue;
    }
    const double error = std::fabs(static_cast<double>(got[i]) - want[i]) / (1.0 + std::fabs(want[i]));
    worst = std::isnan(error) ? infinity : std::max(worst, error);
  }
  CHECK(worst <= tolerance);
}

/// A matrix in fp32 or fp16 memory, its values representable in either.
struct Stored {
  DType dtype;
  Floats values;
  std::vector<std::uint16_t> halves;

  Stored(DType type, Floats from) : dtype(type), values(std::move(from)) {
    for (float& value : values) value = round_to_half(value);
    for (const float value : values) halves.push_back(float_to_half(value));
  }
  const void* data() const {
    return dtype == DType::fp16 ? static_cast<const void*>(halves.data())
                                : static_cast<const void*>(values.data());
  }
};

/// A matrix (N, K) in panels of some format.
struct PackedMatrix {
  Panels panels;
  std::vector<std::byte> memory;

  PackedMatrix(ThreadPool& pool, MatrixFormat format, const Floats& w, std::int64_t n, std::int64_t k)
      : panels{nullptr, DType::fp32, n, k, format}, memory(panels.bytes()) {
    panels.data = memory.data();
    pack_panels(pool, {w.data(), DType::fp32, k, 1}, panels);
  }
  Floats unpacked(ThreadPool& pool) const {
    Floats w(index(panels.n * panels.k));
    unpack_panels(pool, panels, {w.data(), DType::fp32, panels.k, 1});
    return w;
  }
};

/// An activation in double precision.
inline double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu_erf:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh:
      return x /
             (1.0 + std::exp(-2.0 * std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_sigmoid:
      return x / (1.0 + std::exp(-1.702 * x));
    case Activation::sigmoid:
      return 1.0 / (1.0 + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
  }
  return not_a_number;
}

/// x (M, K) times W (N, K) transposed.
inline Doubles product(const Floats& x, const Floats& w, std::int64_t m, std::int64_t n, std::int64_t k) {
  Doubles y;
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0.0;
      for (std::int64_t a = 0; a < k; ++a)
        sum += static_cast<double>(x[index(i * k + a)]) * static_cast<double>(w[index(j * k + a)]);
      y.push_back(sum);
    }
  return y;
}

/// To bfloat16.
inline Floats rounded(Floats values) {
  for (float& value : values) value = bfloat_to_float(float_to_bfloat(value));
  return values;
}

/// The same as bits.
inline std::vector<std::uint16_t> bits_of(const Floats& values) {
  std::vector<std::uint16_t> bits;
  for (const float value : values) bits.push_back(float_to_bfloat(value));
  return bits;
}

/// Of heads and tokens: dense_rows or tokens_first.
using Order = HeadRows (*)(std::int64_t heads, std::int64_t tokens, std::int64_t size);

/// A value (B, H, T, D) kept in one order, in another.
inline Floats reordered(std::span<const float> x, const Shape& shape, Order from, Order to) {
  const HeadRows here = from(shape[1], shape[2], shape[3]), there = to(shape[1], shape[2], shape[3]);
  Floats y(x.size());
  for (std::int64_t b = 0; b < shape[0]; ++b)
    for (std::int64_t h = 0; h < shape[1]; ++h)
      for (std::int64_t t = 0; t < shape[2]; ++t)
        std::copy_n(x.data() + here.at(b, h, t), shape[3], y.data() + there.at(b, h, t));
  return y;
}

/// Attention with scratch memory of its own.
inline void attend(ThreadPool& pool, const AttentionCall& call) {
  std::vector<std::byte> scratch(attention_scratch(call, pool.size()));
  attention(pool, call, scratch);
}

inline constexpr std::int64_t odd_sizes[] = {1, 2, 3, 7, 17, 31, 33, 64, 65, 100, 129};

}  // namespace orion::cpu
