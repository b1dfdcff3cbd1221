// Kernels over rows for a vector type V: normalisations, softmax, argmax, rotary embedding.
#pragma once

#include "cpu/kernels_elements.h"

namespace orion::cpu {

/// Sum of f(vector) over a row; lanes beyond its end are 0 after f.
template <class V, class F>
float row_sum(const float* x, std::int64_t cols, const F& f) {
  V a(0.0F);
  V b(0.0F);
  std::int64_t i = 0;
  for (; i + 2 * V::lanes <= cols; i += 2 * V::lanes) {
    a = a + f(V::load(x + i));
    b = b + f(V::load(x + i + V::lanes));
  }
  for_vectors<V>(i, cols, [&](std::int64_t j, int n) {
    alignas(64) float part[V::lanes];
    f(V::load(x + j, n)).store(part);
    a = a + V::load(part, n);
  });
  return sum(a + b);
}

/// y = (x - mean) * scale * gamma + beta, for one row.
template <class V>
void normalise(const RowsCall& call, std::int64_t row, float mean, float scale) {
  const float* x = call.x + row * call.cols;
  const auto value = [&](std::int64_t j, int n) {
    V y = (V::load(x + j, n) - V(mean)) * V(scale);
    if (call.gamma != nullptr) y = y * V::load(call.gamma + j, n);
    if (call.beta != nullptr) y = y + V::load(call.beta + j, n);
    return y;
  };
  if (call.rounded != nullptr)
    return store_rounded<V>(value, call.cols, call.rounded + row * call.cols, call.streams);
  float* y = call.y + row * call.cols;
  for_vectors<V>(0, call.cols, [&](std::int64_t j, int n) { put(value(j, n), y + j, n, call.streams); });
}

struct Spread {
  float mean, variance;
};

template <class V>
Spread spread_of(const float* x, std::int64_t cols) {
  const auto size = static_cast<float>(cols);
  const float mean = row_sum<V>(x, cols, [](V v) { return v; }) / size;
  return {mean, row_sum<V>(x, cols, [=](V v) { return (v - V(mean)) * (v - V(mean)); }) / size};
}

template <class V>
float mean_square_of(const float* x, std::int64_t cols) {
  return row_sum<V>(x, cols, [](V v) { return v * v; }) / static_cast<float>(cols);
}

template <class V>
void layer_norm(const RowsCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    const Spread spread = spread_of<V>(call.x + i * call.cols, call.cols);
    normalise<V>(call, i, spread.mean, 1.0F / __builtin_sqrtf(spread.variance + call.epsilon));
  }
}

template <class V>
void rms_norm(const RowsCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    const float mean_square = mean_square_of<V>(call.x + i * call.cols, call.cols);
    normalise<V>(call, i, 0.0F, 1.0F / __builtin_sqrtf(mean_square + call.epsilon));
  }
}

/// The largest element; unspecified if one is NaN.
template <class V>
float row_max(const float* x, std::int64_t cols) {
  V largest(-__builtin_inff());
  std::int64_t i = 0;
  for (; i + V::lanes <= cols; i += V::lanes) largest = max(largest, V::load(x + i));
  float result = max_of(largest);
  for (; i < cols; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

template <class V>
void softmax(const RowsCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    const float* x = call.x + i * call.cols;
    float* y = call.y + i * call.cols;
    const V largest(row_max<V>(x, call.cols));
    map<V>(x, y, 0, call.cols, [=](V v) { return weight_of(v - largest); });
    const V total(row_sum<V>(y, call.cols, [](V v) { return v; }));
    map<V>(y, y, 0, call.cols, [=](V v) { return v / total; });
  }
}

template <class V>
std::int64_t argmax(const float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    if (x[i] != x[i]) return i;
  const float largest = row_max<V>(x, count);
  std::int64_t i = 0;
  while (x[i] != largest) ++i;
  return i;
}

template <class V>
void rotate_halves(const RopeCall& call, const float* x, float* y, const float* cos, const float* sin) {
  const std::int64_t half = call.d / 2;
  const std::int64_t upper = call.full_table ? half : 0;
  for_vectors<V>(0, half, [&](std::int64_t i, int n) {
    const V u = V::load(x + i, n);
    const V v = V::load(x + half + i, n);
    const V lower = u * V::load(cos + i, n) - v * V::load(sin + i, n);
    const V higher = v * V::load(cos + upper + i, n) + u * V::load(sin + upper + i, n);
    put(lower, y + i, n, call.streams);
    put(higher, y + half + i, n, call.streams);
  });
}

template <class V>
void rotate_neighbours(const RopeCall& call, const float* x, float* y, const float* cos, const float* sin) {
  const std::int64_t step = call.full_table ? 2 : 1;
  const std::int64_t upper = call.full_table ? 1 : 0;
  for (std::int64_t i = 0; i < call.d / 2; ++i) {
    const float u = x[2 * i];
    const float v = x[2 * i + 1];
    y[2 * i] = u * cos[i * step] - v * sin[i * step];
    y[2 * i + 1] = v * cos[i * step + upper] + u * sin[i * step + upper];
  }
}

/// Vectors in the order in which x has them: by tokens where a token's heads lie side by side.
template <class V>
void rope(const RopeCall& call, std::int64_t begin, std::int64_t end) {
  const bool by_tokens = call.x_rows.h < call.x_rows.t;
  const std::int64_t inner = by_tokens ? call.h : call.t;
  const std::int64_t outer = by_tokens ? call.t : call.h;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t i = row % inner, o = row / inner % outer, b = row / inner / outer;
    const std::int64_t h = by_tokens ? i : o, t = by_tokens ? o : i;
    const float* x = call.x + call.x_rows.at(b, h, t);
    float* y = call.y + call.y_rows.at(b, h, t);
    const std::int64_t at = b * call.table_b + t * call.table_t;
    if (call.interleaved)
      rotate_neighbours<V>(call, x, y, call.cos + at, call.sin + at);
    else
      rotate_halves<V>(call, x, y, call.cos + at, call.sin + at);
  }
}

}  // namespace orion::cpu
