// Elementwise kernels for a vector type V: unary and binary functions.
#pragma once

#include "cpu/kernel_table.h"
#include "cpu/kernels_math.h"

#include <cmath>

namespace orion::cpu {

/// Calls f(i, V::lanes) for whole vectors of [begin, end), then once f(i, rest) if some are left.
template <class V, class F>
void for_vectors(std::int64_t begin, std::int64_t end, const F& f) {
  std::int64_t i = begin;
  for (; i + V::lanes <= end; i += V::lanes) f(i, V::lanes);
  if (i < end) f(i, static_cast<int>(end - i));
}

/// to[i] = f(from[i]); from may be to.
template <class V, class From, class To, class F>
void map(const From* from, To* to, std::int64_t begin, std::int64_t end, const F& f) {
  std::int64_t i = begin;
  for (; i + V::lanes <= end; i += V::lanes) f(V::load(from + i)).store(to + i);
  if (i == end) return;
  const int n = static_cast<int>(end - i);
  f(V::load(from + i, n)).store(to + i, n);
}

template <class V>
void unary(const UnaryCall& call, std::int64_t begin, std::int64_t end) {
  const V alpha(call.alpha);
  const V beta(call.beta);
  const auto apply = [&](const auto& f) { map<V>(call.x, call.y, begin, end, f); };
  switch (call.op) {
    case Unary::relu:
      return apply([](V x) { return relu_of(x); });
    case Unary::silu:
      return apply([](V x) { return silu_of(x); });
    case Unary::gelu_erf:
      return apply([](V x) { return gelu_erf_of(x); });
    case Unary::gelu_tanh:
      return apply([](V x) { return gelu_tanh_of(x); });
    case Unary::gelu_sigmoid:
      return apply([](V x) { return gelu_sigmoid_of(x); });
    case Unary::sigmoid:
      return apply([](V x) { return sigmoid_of(x); });
    case Unary::tanh:
      return apply([](V x) { return tanh_of(x); });
    case Unary::exp:
      return apply([](V x) { return exp_of(x); });
    case Unary::log:
      return apply([=](V x) { return log_of(x + alpha); });
    case Unary::sqrt:
      return apply([](V x) { return sqrt(x); });
    case Unary::rsqrt:
      return apply([=](V x) { return V(1.0F) / sqrt(x + alpha); });
    case Unary::erf:
      return apply([](V x) { return erf_of(x); });
    case Unary::neg:
      return apply([](V x) { return neg(x); });
    case Unary::abs:
      return apply([](V x) { return abs(x); });
    case Unary::square:
      return apply([](V x) { return x * x; });
    case Unary::clip:
      return apply([=](V x) { return min(beta, max(alpha, x)); });  // keeps NaN
  }
}

/// One lane at a time: the only function here that no polynomial serves well.
template <class V>
V pow_of(V a, V b) {
  float base[V::lanes];
  float exponent[V::lanes];
  a.store(base);
  b.store(exponent);
  for (int i = 0; i < V::lanes; ++i) base[i] = std::pow(base[i], exponent[i]);
  return V::load(base);
}

template <class V, class F>
void map_rows(const BinaryCall& call, std::int64_t begin, std::int64_t end, const F& f) {
  const auto operand = [](const float* row, std::int64_t col, std::int64_t j, int n) {
    return col == 0 ? V(*row) : n == V::lanes ? V::load(row + j) : V::load(row + j, n);
  };
  for (std::int64_t i = begin; i < end; ++i) {
    const float* a = call.a + i * call.a_row;
    const float* b = call.b + i * call.b_row;
    float* y = call.y + i * call.cols;
    for_vectors<V>(0, call.cols, [&](std::int64_t j, int n) {
      const V result = f(operand(a, call.a_col, j, n), operand(b, call.b_col, j, n));
      n == V::lanes ? result.store(y + j) : result.store(y + j, n);
    });
  }
}

template <class V>
void binary(const BinaryCall& call, std::int64_t begin, std::int64_t end) {
  const auto apply = [&](const auto& f) { map_rows<V>(call, begin, end, f); };
  switch (call.op) {
    case Binary::add:
      return apply([](V a, V b) { return a + b; });
    case Binary::sub:
      return apply([](V a, V b) { return a - b; });
    case Binary::mul:
      return apply([](V a, V b) { return a * b; });
    case Binary::real_div:
      return apply([](V a, V b) { return a / b; });
    case Binary::maximum:
      return apply([](V a, V b) { return select(is_nan(a), a, max(a, b)); });
    case Binary::minimum:
      return apply([](V a, V b) { return select(is_nan(a), a, min(a, b)); });
    case Binary::pow:
      return apply([](V a, V b) { return pow_of(a, b); });
    case Binary::silu_gradient:
      return apply([](V x, V dy) { return dy * silu_slope(x); });
    case Binary::gelu_erf_gradient:
      return apply([](V x, V dy) { return dy * gelu_erf_slope(x); });
    case Binary::gelu_tanh_gradient:
      return apply([](V x, V dy) { return dy * gelu_tanh_slope(x); });
    case Binary::gelu_sigmoid_gradient:
      return apply([](V x, V dy) { return dy * gelu_sigmoid_slope(x); });
  }
}

}  // namespace orion::cpu
