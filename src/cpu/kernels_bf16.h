// Matrix products of bfloat16 values with fp32 sums for a vector type V: by matrix tiles where the processor
// has them (V::multiplies_tiles), by pairs of inputs where it multiplies those (V::dots_pairs), else fp32
// arithmetic on rounded values.
#pragma once

#include "cpu/kernels_integers.h"
#include "cpu/kernels_tiles.h"

namespace orion::cpu {

// -- packing --------------------------------------------------------------------------------------

/// What multiplies bfloat16 values.
template <class V>
using Bf16Unit = std::conditional_t<V::multiplies_tiles, TileUnit<V>,
                                    VectorUnit<V, std::conditional_t<V::dots_pairs, PairDot, MultiplyAdd>>>;

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
void pack_rows_pairs(const float* x, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t k,
                     float* to) {
  pack_tiles<V, 2>(x, row, col, rows, k, to,
                   [=](const float* from, std::int64_t count, std::int64_t inputs, float* out) {
                     pack_tile_pairs<V>(from, row, col, count, inputs, out);
                   });
}

/// Rows as a unit multiplies them.
template <class V, class Unit>
void pack_for(const float* x, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t k,
              float* to) {
  if constexpr (Unit::together == 1)
    pack_rows<V>(x, row, col, rows, k, to);
  else if constexpr (V::multiplies_tiles)
    pack_rows_of_tiles<V>(x, row, col, rows, k, to);
  else
    pack_rows_pairs<V>(x, row, col, rows, k, to);
}

template <class V>
void pack_rows_bf16(const float* x, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t k,
                    float* to) {
  using Unit = Bf16Unit<V>;
  pack_for<V, Unit>(x, row, col, rows, k, to);
  if constexpr (Unit::together == 1)
    map<V>(to, to, 0, (rows + Unit::rows - 1) / Unit::rows * Unit::rows * k,
           [](V v) { return round_to_bfloat(v); });
}

/// The same of rows that are rounded already, K even.
template <class V>
void pack_rows_rounded(const std::uint16_t* x, std::int64_t row, std::int64_t rows, std::int64_t k,
                       float* to) {
  if constexpr (V::multiplies_tiles) return pack_rounded_rows_of_tiles<V>(x, row, rows, k, to);
  constexpr std::int64_t R = V::tile_rows;
  for (std::int64_t i = 0; i < rows; i += R, to += R * Bf16Unit<V>::packed_row(k)) {
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
  if (b.format == MatrixFormat::int8 || b.format == MatrixFormat::int4)
    return expand_groups<V, V::dots_pairs>(b, first, rows, wide);
  const float* pairs = static_cast<const float*>(b.data) + first / 2 * panel_width;
  if constexpr (V::dots_pairs)
    return b.format == MatrixFormat::bf16 ? pairs : pair_columns<V>(b, first, rows, wide);
  if (b.format == MatrixFormat::bf16) return split_pairs<V>(pairs, rows, wide);
  const float* dense = dense_columns<V>(b, first, rows, wide);
  map<V>(dense, wide, 0, rows * panel_width, [](V v) { return round_to_bfloat(v); });
  return wide;
}

// -- products -------------------------------------------------------------------------------------

template <class V>
void pack_columns_bf16(const Columns& b, std::int64_t k, float* to) {
  bf16_columns<V>(b, 0, k, to);
}

template <class V>
void multiply_bf16(const ProductPart& part) {
  multiply_blocks<Bf16Unit<V>>(part, [&](std::int64_t first, std::int64_t count) -> RightBlock {
    return {bf16_columns<V>(part.b, first, count, part.wide)};
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
