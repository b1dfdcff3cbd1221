// Kernels that only training needs, for a vector type V: gradients over rows, the loss, sums over axes, the
// optimizer.
#pragma once

#include "cpu/kernels_rows.h"

#include <array>

namespace orion::cpu {

// -- gradients over rows --------------------------------------------------------------------------

/// dy gamma at place j of a row.
template <class V>
V scaled_back(const RowsGradientCall& call, const float* dy, std::int64_t j, int n) {
  const V g = V::load(dy + j, n);
  return call.gamma == nullptr ? g : g * V::load(call.gamma + j, n);
}

/// With n = (x - mean) scale and g = dy gamma: dx = (g - shift - n mean(g n)) scale + residual
template <class V>
void norm_back(const RowsGradientCall& call, std::int64_t row, float mean, float scale, bool centred) {
  const auto size = static_cast<float>(call.cols);
  const float* x = call.x + row * call.cols;
  const float* dy = call.dy + row * call.cols;
  float* dx = call.dx + row * call.cols;
  V along(0.0F);
  V total(0.0F);
  for_vectors<V>(0, call.cols, [&](std::int64_t j, int n) {
    const V g = scaled_back<V>(call, dy, j, n);
    along = fma(g, V::load(x + j, n) - V(mean), along);  // g is 0 beyond the row
    total = total + g;
  });
  const V shift(centred ? sum(total) / size : 0.0F);
  const V back(sum(along) / size * scale * scale);
  for_vectors<V>(0, call.cols, [&](std::int64_t j, int n) {
    const V g = scaled_back<V>(call, dy, j, n) - shift;
    V result = (g - (V::load(x + j, n) - V(mean)) * back) * V(scale);
    if (call.residual != nullptr) result = result + V::load(call.residual + row * call.cols + j, n);
    result.store(dx + j, n);
  });
}

template <class V>
void layer_norm_gradient(const RowsGradientCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    const Spread spread = spread_of<V>(call.x + i * call.cols, call.cols);
    norm_back<V>(call, i, spread.mean, 1.0F / __builtin_sqrtf(spread.variance + call.epsilon), true);
  }
}

template <class V>
void rms_norm_gradient(const RowsGradientCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i)
    norm_back<V>(call, i, 0.0F,
                 1.0F / __builtin_sqrtf(mean_square_of<V>(call.x + i * call.cols, call.cols) + call.epsilon),
                 false);
}

template <class V>
void softmax_gradient(const RowsGradientCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    const float* y = call.x + i * call.cols;
    const float* dy = call.dy + i * call.cols;
    float* dx = call.dx + i * call.cols;
    V along(0.0F);
    for_vectors<V>(0, call.cols,
                   [&](std::int64_t j, int n) { along = fma(V::load(y + j, n), V::load(dy + j, n), along); });
    const V shift(sum(along));
    for_vectors<V>(0, call.cols, [&](std::int64_t j, int n) {
      (V::load(y + j, n) * (V::load(dy + j, n) - shift)).store(dx + j, n);
    });
  }
}

// -- the loss -------------------------------------------------------------------------------------

template <class V>
float one_log(float x) {
  alignas(64) float lanes[V::lanes];
  log_of(V(x)).store(lanes);
  return lanes[0];
}

template <class V>
void loss_back(const CrossEntropyCall& call, std::int64_t row) {
  const float* x = call.logits + row * call.cols;
  float* dx = call.y + row * call.cols;
  const std::int32_t label = call.labels[row];
  if (label == call.ignored) {
    for_vectors<V>(0, call.cols, [&](std::int64_t j, int n) { V(0.0F).store(dx + j, n); });
    return;
  }
  const V largest(row_max<V>(x, call.cols));
  map<V>(x, dx, 0, call.cols, [=](V v) { return weight_of(v - largest); });
  const V factor(call.dy[row] / row_sum<V>(dx, call.cols, [](V v) { return v; }));
  map<V>(dx, dx, 0, call.cols, [=](V v) { return v * factor; });
  dx[label] -= call.dy[row];
}

/// Labels have been checked.
template <class V>
void cross_entropy(const CrossEntropyCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    if (call.dy != nullptr) {
      loss_back<V>(call, i);
      continue;
    }
    const float* x = call.logits + i * call.cols;
    const float largest = row_max<V>(x, call.cols);
    const float total = row_sum<V>(x, call.cols, [=](V v) { return weight_of(v - V(largest)); });
    const std::int32_t label = call.labels[i];
    call.y[i] = label == call.ignored ? 0.0F : one_log<V>(total) + (largest - x[label]);
  }
}

// -- sums over an axis ----------------------------------------------------------------------------

inline constexpr std::int64_t summed_at_once = 64;

template <class V>
void sum_rows(const SumCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i)
    call.y[i] = call.factor * row_sum<V>(call.x + i * call.size, call.size, [](V v) { return v; });
}

template <class V>
void sum_columns(const SumCall& call, std::int64_t begin, std::int64_t end) {
  const float* x = call.x + begin / call.inner * call.size * call.inner + begin % call.inner;
  for_vectors<V>(0, end - begin, [&](std::int64_t j, int n) {
    V total(0.0F);
    for (std::int64_t first = 0; first < call.size; first += summed_at_once) {
      const std::int64_t last = first + summed_at_once < call.size ? first + summed_at_once : call.size;
      V part(0.0F);
      for (std::int64_t i = first; i < last; ++i) part = part + V::load(x + i * call.inner + j, n);
      total = total + part;
    }
    (total * V(call.factor)).store(call.y + begin + j, n);
  });
}

template <class V>
V larger_of(V a, V b) {
  return select(is_nan(a), a, max(a, b));
}

template <class V>
void largest_rows(const SumCall& call, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    alignas(64) float lanes[V::lanes];
    V largest(-__builtin_inff());
    const float* x = call.x + i * call.size;
    std::int64_t j = 0;
    for (; j + V::lanes <= call.size; j += V::lanes) largest = larger_of(largest, V::load(x + j));
    largest.store(lanes);
    float result = lanes[0];
    const auto take = [&](float value) { result = result != result || result > value ? result : value; };
    for (int lane = 1; lane < V::lanes; ++lane) take(lanes[lane]);
    for (; j < call.size; ++j) take(x[j]);
    call.y[i] = result;
  }
}

template <class V>
void largest_columns(const SumCall& call, std::int64_t begin, std::int64_t end) {
  const float* x = call.x + begin / call.inner * call.size * call.inner + begin % call.inner;
  for_vectors<V>(0, end - begin, [&](std::int64_t j, int n) {
    V largest = V::load(x + j, n);
    for (std::int64_t i = 1; i < call.size; ++i)
      largest = larger_of(largest, V::load(x + i * call.inner + j, n));
    largest.store(call.y + begin + j, n);
  });
}

// -- the optimizer --------------------------------------------------------------------------------

template <class V>
void adamw(const AdamwCall& call, std::int64_t begin, std::int64_t end) {
  const V scale(call.scale), b1(call.beta1), b2(call.beta2), keep(call.keep), size(call.size);
  const V c1(1.0F - call.beta1), c2(1.0F - call.beta2), root(call.root), epsilon(call.epsilon);
  const std::array<const float*, 4> streams = {call.g, call.m, call.v, call.w};
  for_vectors<V>(begin, end, [&](std::int64_t i, int n) {
    for (const float* stream : streams) fetch_stream<V, V::lanes * std::int64_t{sizeof(float)}>(stream + i);
    const V dw = V::load(call.g + i, n) * scale;
    const V m = b1 * V::load(call.m + i, n) + c1 * dw;
    const V v = b2 * V::load(call.v + i, n) + c2 * dw * dw;
    (V::load(call.w + i, n) * keep - size * m / (sqrt(v) * root + epsilon)).store(call.w + i, n);
    m.store(call.m + i, n);
    v.store(call.v + i, n);
  });
}

template <class V>
float square_sum(const float* x, std::int64_t count) {
  V total(0.0F);
  for_vectors<V>(0, count, [&](std::int64_t i, int n) {
    fetch_stream<V, V::lanes * std::int64_t{sizeof(float)}>(x + i);
    const V value = V::load(x + i, n);
    total = fma(value, value, total);
  });
  return sum(total);
}

}  // namespace orion::cpu
