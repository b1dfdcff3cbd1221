// Pairs of neighbouring inputs, rounded to bfloat16, in a lane: how operands of products become such, for a
// vector type V that has them (V::dots_pairs).
#pragma once

#include "cpu/kernels_matmul.h"

namespace orion::cpu {

struct PairDot {
  static constexpr std::int64_t together = 2;
  template <class V>
  static V add(V a, V b, V sum) {
    return dot_pairs(a, b, sum);
  }
};

/// A lane holds two neighbouring floats, rounded.
template <class V>
struct LoadPairs {
  static constexpr std::int64_t floats = 2;
  static V whole(const float* p) { return pairs_of_neighbours(V::load(p), V::load(p + V::lanes)); }
  /// As many lanes only.
  static V part(const float* p, int lanes) {
    const int first = 2 * lanes < V::lanes ? 2 * lanes : V::lanes;
    return pairs_of_neighbours(V::load(p, first), V::load(p + first, 2 * lanes - first));
  }
};

/// to[j * to_row + i] = the pair from[i * row + 2 j], from[i * row + 2 j + 1] for i < rows, 2 j < cols; a
/// missing float is 0.
template <class V>
void transpose_pairs(const float* from, std::int64_t row, std::int64_t rows, std::int64_t cols, float* to,
                     std::int64_t to_row) {
  transpose_block<V, LoadPairs<V>>(from, row, rows, cols / 2, to, to_row);
  if (cols % 2 == 0) return;
  for (std::int64_t i = 0; i < rows; ++i)
    pairs_of(V::load(from + i * row + cols - 1, 1), V(0.0F)).store(to + cols / 2 * to_row + i, 1);
}

/// to (ceil(rows / 2), N) = pairs of neighbouring rows of `from` (rows, width); the columns missing are 0.
template <class V, int N>
void pair_rows(const float* from, std::int64_t row, std::int64_t rows, std::int64_t width, float* to) {
  for (std::int64_t i = 0; i < rows; i += 2, to += N)
    for (std::int64_t j = 0; j < N; j += V::lanes) {
      const std::int64_t left = width - j < 0 ? 0 : width - j;
      const int n = static_cast<int>(left < V::lanes ? left : V::lanes);
      const V lower = V::load(from + i * row + j, n);
      const V upper = i + 1 < rows ? V::load(from + (i + 1) * row + j, n) : V(0.0F);
      pairs_of(lower, upper).store(to + j, static_cast<int>(N - j < V::lanes ? N - j : V::lanes));
    }
}

/// Rows [first, first + rows) of fp32 columns, as pairs.
template <class V>
const float* pair_columns(const Columns& b, std::int64_t first, std::int64_t rows, float* wide) {
  const float* from = static_cast<const float*>(b.data) + first * b.row;
  if (b.row == 1)
    transpose_pairs<V>(from, b.col, b.width, rows, wide, panel_width);
  else if (b.col == 1)
    pair_rows<V, panel_width>(from, b.row, rows, b.width, wide);
  else
    for (std::int64_t i = 0; i < rows; i += 2)
      for (std::int64_t j = 0; j < b.width; ++j) {
        const float* pair = from + i * b.row + j * b.col;
        pairs_of(V(pair[0]), V(i + 1 < rows ? pair[b.row] : 0.0F)).store(wide + i / 2 * panel_width + j, 1);
      }
  return wide;
}

}  // namespace orion::cpu
