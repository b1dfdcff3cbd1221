// A packed matrix times few vectors, for a vector type V: it is read once, as fast as memory gives it.
#pragma once

#include "cpu/kernels_matmul.h"

namespace orion::cpu {

constexpr int power_of_two_up_to(int limit) {
  int power = 1;
  while (power * 2 <= limit) power *= 2;
  return power;
}

/// A row of a panel holds one input of every output, which meets x[k].
struct SingleInputs {
  template <class V>
  static V add(const float* x, std::int64_t k, V column, V sum) {
    return fma(V(x[k]), column, sum);
  }
};

/// c (R, panel_width) = x (R, `size` inputs or pairs) times one panel. Several sums per output hide the
/// latency of the multiply-add: input k goes to sum k mod U.
template <class V, int R, class Inputs, class T>
void multiply_vectors(const float* x, std::int64_t x_row, const T* panel, std::int64_t size, float* c) {
  constexpr int budget = V::vector_accumulators;
  constexpr int fitting = power_of_two_up_to(budget / R);
  constexpr int NV = fitting < panel_vectors<V> ? fitting : panel_vectors<V>;
  constexpr int U = budget / (R * NV) < 4 ? power_of_two_up_to(budget / (R * NV)) : 4;
  for (int first = 0; first < panel_vectors<V>; first += NV) {
    const T* w = panel + first * V::lanes;
    V sums[std::size_t{U}][std::size_t{R}][std::size_t{NV}];
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int j = 0; j < NV; ++j) sums[u][r][j] = V(0.0F);
    const auto step = [&](int u, std::int64_t k) {
      fetch_stream<V, NV * V::lanes * std::int64_t{sizeof(T)}>(w + k * panel_width);
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) {
        const V column = V::load(w + k * panel_width + j * V::lanes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[u][r][j] = Inputs::add(x + r * x_row, k, column, sums[u][r][j]);
      }
    };
    std::int64_t k = 0;
    for (; k + U <= size; k += U) {
#pragma GCC unroll 4
      for (int u = 0; u < U; ++u) step(u, k + u);
    }
    for (; k < size; ++k) step(0, k);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) {
        V total = sums[0][r][j];
#pragma GCC unroll 4
        for (int u = 1; u < U; ++u) total = total + sums[u][r][j];
        total.store(c + r * panel_width + (first + j) * V::lanes);
      }
  }
}

/// Calls f(std::integral_constant<int, rows>) for 1 <= rows <= Most.
template <int Most, class F>
void with_rows(std::int64_t rows, const F& f) {
  if constexpr (Most > 1)
    if (rows < Most) return with_rows<Most - 1>(rows, f);
  f(std::integral_constant<int, Most>());
}

/// Multiplies panels begin to end by `multiply(panel, c)` and stores what they give.
template <class V, class F>
void linear_panels(const LinearCall& call, std::int64_t begin, std::int64_t end, const F& multiply) {
  alignas(64) float c[few_rows * panel_width];
  for (std::int64_t p = begin; p < end; ++p) {
    multiply(static_cast<const std::byte*>(call.w.data) + p * call.w.panel_bytes(), c);
    const std::int64_t n = p * panel_width;
    const std::int64_t left = call.w.n - n;
    store_part<V>({.c = c,
                   .rows = call.m,
                   .n = n,
                   .width = left < panel_width ? left : panel_width,
                   .y = call.y,
                   .y_row = call.y_row,
                   .y_col = call.y_col,
                   .epilogue = call.epilogue});
  }
}

template <class V, class T>
void linear_vectors(const LinearCall& call, std::int64_t begin, std::int64_t end) {
  with_rows<few_rows>(call.m, [&](auto m) {
    linear_panels<V>(call, begin, end, [&](const std::byte* panel, float* c) {
      multiply_vectors<V, m.value, SingleInputs>(call.x, call.x_row, reinterpret_cast<const T*>(panel),
                                                 call.w.k, c);
    });
  });
}

}  // namespace orion::cpu
