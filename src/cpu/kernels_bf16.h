// Matrix products of bfloat16 values with fp32 sums for a vector type V: pairs of inputs at once where the
// processor multiplies them (V::dots_pairs), else fp32 arithmetic on rounded values.
#pragma once

#include "cpu/kernels_integers.h"

namespace orion::cpu {

// -- packing --------------------------------------------------------------------------------------

/// A lane holds two neighbouring floats, rounded.
template <class V>
struct LoadPairs {
  static constexpr std::int64_t floats = 2;
  static V whole(const float* p) { return pairs_of_neighbours(V::load(p), V::load(p + V::lanes)); }
  /// The last pair of an odd number of floats is completed by `odd`.
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

/// One tile as pairs (ceil(K / 2), tile_rows).
template <class V>
void pack_tile_pairs(const float* from, std::int64_t row, std::int64_t col, std::int64_t count,
                     std::int64_t k, float* out) {
  constexpr std::int64_t R = V::tile_rows;
  if (col == 1) return transpose_pairs<V>(from, row, count, k, out, R);
  if (row == 1) return pair_rows<V, R>(from, col, k, count, out);
  for (std::int64_t i = 0; i < k; i += 2)
    for (std::int64_t r = 0; r < count; ++r) {
      const float* pair = from + r * row + i * col;
      pairs_of(V(pair[0]), V(i + 1 < k ? pair[col] : 0.0F)).store(out + i / 2 * R + r, 1);
    }
}

template <class V>
void pack_rows_bf16(const float* x, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t k,
                    float* to) {
  constexpr std::int64_t R = V::tile_rows;
  if constexpr (V::dots_pairs) {
    pack_tiles<V, 2>(x, row, col, rows, k, to,
                     [=](const float* from, std::int64_t count, std::int64_t inputs, float* out) {
                       pack_tile_pairs<V>(from, row, col, count, inputs, out);
                     });
  } else {
    pack_rows<V>(x, row, col, rows, k, to);
    map<V>(to, to, 0, (rows + R - 1) / R * R * k, [](V v) { return round_to_bfloat(v); });
  }
}

/// The same of rows that are rounded already, K even.
template <class V>
void pack_rows_rounded(const std::uint16_t* x, std::int64_t row, std::int64_t rows, std::int64_t k,
                       float* to) {
  constexpr std::int64_t R = V::tile_rows;
  for (std::int64_t i = 0; i < rows; i += R, to += R * k) {
    const std::int64_t count = rows - i < R ? rows - i : R;
    if constexpr (V::dots_pairs)
      transpose_block<V>(reinterpret_cast<const float*>(x + i * row), row / 2, count, k / 2, to, R);
    else
      for (std::int64_t r = 0; r < count; ++r)
        for (std::int64_t j = 0; j < k; ++j)
          to[j * R + r] = __builtin_bit_cast(float, std::uint32_t{x[(i + r) * row + j]} << 16);
  }
}

// -- the right operand ----------------------------------------------------------------------------

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

/// Rows [first, first + rows) of a panel of pairs as floats.
template <class V>
const float* split_pairs(const float* pairs, std::int64_t rows, float* wide) {
  for (std::int64_t i = 0; i < rows; i += 2, pairs += panel_width)
    for (std::int64_t j = 0; j < panel_width; j += V::lanes) {
      const V both = V::load(pairs + j);
      lower_halves(both).store(wide + i * panel_width + j);
      if (i + 1 < rows) upper_halves(both).store(wide + (i + 1) * panel_width + j);
    }
  return wide;
}

/// Rows [first, first + rows) of b: pairs if V has products of them, else floats.
template <class V>
const float* bf16_columns(const Columns& b, std::int64_t first, std::int64_t rows, float* wide) {
  const float* pairs = static_cast<const float*>(b.data) + first / 2 * panel_width;
  if constexpr (V::dots_pairs) {
    static_assert(V::multiplies_bytes && V::multiplies_nibbles);  // so that none are expanded
    return b.format == MatrixFormat::bf16 ? pairs : pair_columns<V>(b, first, rows, wide);
  }
  if (b.format == MatrixFormat::int8 || b.format == MatrixFormat::int4)
    return expand_groups<V>(b, first, rows, wide);
  if (b.format == MatrixFormat::bf16) return split_pairs<V>(pairs, rows, wide);
  const float* dense = dense_columns<V>(b, first, rows, wide);
  map<V>(dense, wide, 0, rows * panel_width, [](V v) { return round_to_bfloat(v); });
  return wide;
}

// -- products -------------------------------------------------------------------------------------

struct PairDot {
  template <class V>
  static V add(V a, V b, V sum) {
    return dot_pairs(a, b, sum);
  }
};

template <class V>
void pack_columns_bf16(const Columns& b, std::int64_t k, float* to) {
  bf16_columns<V>(b, 0, k, to);
}

template <class V>
void multiply_bf16(const ProductPart& part) {
  using Step = std::conditional_t<V::dots_pairs, PairDot, MultiplyAdd>;
  multiply_blocks<V, Step, V::dots_pairs ? 2 : 1>(part, [&](std::int64_t first, std::int64_t count) {
    return bf16_columns<V>(part.b, first, count, part.wide);
  });
}

// -- few vectors ----------------------------------------------------------------------------------

/// A row of a panel holds a pair of inputs of every output. x holds pairs, or the floats one by one.
struct PairsOfInputs {
  template <class V>
  static V add(const float* x, std::int64_t k, V column, V sum) {
    if constexpr (V::dots_pairs)
      return dot_pairs(V(x[k]), column, sum);
    else
      return fma(V(x[2 * k + 1]), upper_halves(column), fma(V(x[2 * k]), lower_halves(column), sum));
  }
};

/// Floats between neighbouring rows of packed vectors.
constexpr std::int64_t packed_row(std::int64_t k) {
  return (k + 1) / 2 * 2;
}

template <class V>
void pack_vectors_bf16(const LinearCall& call, float* to) {
  const std::int64_t k = call.w.k;
  for (std::int64_t r = 0; r < call.m; ++r) {
    const float* x = call.x + r * call.x_row;
    float* row = to + r * packed_row(k);
    if constexpr (V::dots_pairs) {
      transpose_pairs<V>(x, 0, 1, k, row, 1);
    } else {
      row[packed_row(k) - 1] = 0.0F;
      map<V>(x, row, 0, k, [](V v) { return round_to_bfloat(v); });
    }
  }
}

template <class V>
void pack_vectors(const LinearCall& call, void* to) {
  if (call.w.format == MatrixFormat::bf16)
    pack_vectors_bf16<V>(call, static_cast<float*>(to));
  else
    quantise_vectors<V>(call, to);
}

template <class V>
void linear_vectors_bf16(const LinearCall& call, const float* x, std::int64_t begin, std::int64_t end) {
  const std::int64_t k = call.w.k;
  with_rows<few_rows>(call.m, [&](auto m) {
    linear_panels<V>(call, begin, end, [&](const std::byte* panel, float* c) {
      multiply_vectors<V, m.value, PairsOfInputs>(x, packed_row(k), reinterpret_cast<const float*>(panel),
                                                  (k + 1) / 2, c);
    });
  });
}

template <class V>
void linear_vectors_of_any_format(const LinearCall& call, const void* x, std::int64_t begin,
                                  std::int64_t end) {
  switch (call.w.format) {
    case MatrixFormat::exact:
      return call.w.dtype == DType::fp16 ? linear_vectors<V, std::uint16_t>(call, begin, end)
                                         : linear_vectors<V, float>(call, begin, end);
    case MatrixFormat::bf16:
      return linear_vectors_bf16<V>(call, static_cast<const float*>(x), begin, end);
    case MatrixFormat::int8:
      return linear_vectors_quantised<V, Bytes>(call, x, begin, end);
    case MatrixFormat::int4:
      return linear_vectors_quantised<V, Nibbles>(call, x, begin, end);
  }
}

}  // namespace orion::cpu
