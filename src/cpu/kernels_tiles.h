// Products of bfloat16 by registers of whole matrices (V::Tiles) for a vector type V that has them: two by
// two tiles of sums, 32 rows of the left operand by a panel.
#pragma once

#include "cpu/kernels_pairs.h"

#include <cstring>

namespace orion::cpu {

inline constexpr std::int64_t matrix_rows = 16;    // of a tile
inline constexpr std::int64_t matrix_inputs = 32;  // of the left operand in a tile's row
inline constexpr std::int64_t matrix_pairs = matrix_inputs / 2;
inline constexpr std::int64_t unit_rows = 2 * matrix_rows;  // multiplied at once

// -- packing --------------------------------------------------------------------------------------

// Rows are packed as [ceil(rows / unit_rows)][ceil(K / matrix_inputs)][unit_rows][matrix_pairs] of pairs, the
// inputs missing 0, so that a tile is a kilobyte of memory.

constexpr std::int64_t packed_row_of_tiles(std::int64_t k) {
  return (k + matrix_inputs - 1) / matrix_inputs * matrix_pairs;
}

/// Where input 0 of a row goes; its next ones, in pieces of matrix_inputs, are unit_rows pieces apart.
inline float* row_in_tiles(float* packing, std::int64_t row, std::int64_t k) {
  const std::int64_t within = row % unit_rows;
  return packing + (row - within) * packed_row_of_tiles(k) + within * matrix_pairs;
}

/// The inputs [0, inputs) of a row as pairs, at most matrix_inputs of them, the others 0.
template <class V>
V load_tile_row(const float* x, std::int64_t col, std::int64_t inputs) {
  static_assert(V::lanes == matrix_pairs);
  if (col == 1 && inputs >= matrix_inputs) return LoadPairs<V>::whole(x);
  alignas(64) float piece[matrix_inputs] = {};
  for (std::int64_t i = 0; i < least(inputs, matrix_inputs); ++i) piece[i] = x[i * col];
  return LoadPairs<V>::whole(piece);
}

/// A tile of rows that lie side by side, `col` apart from input to input.
template <class V>
void pack_tile_of_columns(const float* x, std::int64_t col, std::int64_t rows, std::int64_t inputs,
                          float* to) {
  V square[V::lanes];
  const int n = static_cast<int>(rows);
  for (std::int64_t i = 0; i < matrix_pairs; ++i) {
    const std::int64_t lower = 2 * i, upper = lower + 1;
    square[i] = pairs_of(lower < inputs ? V::load(x + lower * col, n) : V(0.0F),
                         upper < inputs ? V::load(x + upper * col, n) : V(0.0F));
  }
  transpose(square);
  for (std::int64_t r = 0; r < matrix_rows; ++r) square[r].store(to + r * matrix_pairs);
}

/// Inputs are the outer loop: those of neighbouring rows share cache lines.
template <class V>
void pack_columns_of_tiles(const float* x, std::int64_t col, std::int64_t rows, std::int64_t k, float* to) {
  for (std::int64_t i = 0; i < k; i += matrix_inputs, to += unit_rows * matrix_pairs)
    for (std::int64_t r = 0; r < rows; r += matrix_rows)
      pack_tile_of_columns<V>(x + i * col + r, col, least(rows - r, matrix_rows), least(k - i, matrix_inputs),
                              row_in_tiles(to, r, k));
}

template <class V>
void pack_rows_of_tiles(const float* x, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t k,
                        float* to) {
  if (row == 1) return pack_columns_of_tiles<V>(x, col, rows, k, to);
  for (std::int64_t r = 0; r < rows; ++r, x += row) {
    float* out = row_in_tiles(to, r, k);
    for (std::int64_t i = 0; i < k; i += matrix_inputs, out += unit_rows * matrix_pairs)
      load_tile_row<V>(x + i * col, col, k - i).store(out);
  }
}

/// The same of rows that are rounded already.
template <class V>
void pack_rounded_rows_of_tiles(const std::uint16_t* x, std::int64_t row, std::int64_t rows, std::int64_t k,
                                float* to) {
  for (std::int64_t r = 0; r < rows; ++r, x += row) {
    float* out = row_in_tiles(to, r, k);
    for (std::int64_t i = 0; i < k; i += matrix_inputs, out += unit_rows * matrix_pairs) {
      const auto* pairs = reinterpret_cast<const float*>(x + i);
      const std::int64_t left = (k - i) / 2;
      left < matrix_pairs ? V::load(pairs, static_cast<int>(left)).store(out) : V::load(pairs).store(out);
    }
  }
}

// -- products -------------------------------------------------------------------------------------

/// Sums of two tiles side by side, and if Both of two more below them: tiles 0 to 3, of operands in 4 to 7.
template <class V, bool Both>
struct TileSums {
  using Tiles = typename V::Tiles;

  static void clear() {
    Tiles::template zero<0>();
    Tiles::template zero<1>();
    if constexpr (!Both) return;
    Tiles::template zero<2>();
    Tiles::template zero<3>();
  }
  static void load(const float* c, std::int64_t row) {
    Tiles::template load<0>(c, row);
    Tiles::template load<1>(c + matrix_rows, row);
    if constexpr (!Both) return;
    Tiles::template load<2>(c + matrix_rows * row, row);
    Tiles::template load<3>(c + matrix_rows * row + matrix_rows, row);
  }
  static void store(float* c, std::int64_t row) {
    Tiles::template store<0>(c, row);
    Tiles::template store<1>(c + matrix_rows, row);
    if constexpr (!Both) return;
    Tiles::template store<2>(c + matrix_rows * row, row);
    Tiles::template store<3>(c + matrix_rows * row + matrix_rows, row);
  }
  /// Adds the products of matrix_inputs inputs.
  static void add_products(const float* a, const float* b, std::int64_t b_row) {
    Tiles::template load<4>(a, matrix_pairs);
    Tiles::template load<6>(b, b_row);
    Tiles::template add_products<0, 4, 6>();
    Tiles::template load<7>(b + matrix_rows, b_row);
    Tiles::template add_products<1, 4, 7>();
    if constexpr (!Both) return;
    Tiles::template load<5>(a + matrix_rows * matrix_pairs, matrix_pairs);
    Tiles::template add_products<2, 5, 6>();
    Tiles::template add_products<3, 5, 7>();
  }
};

/// Multiplies tiles as VectorUnit does.
template <class V>
struct TileUnit {
  using Vector = V;
  static constexpr std::int64_t rows = unit_rows;
  static constexpr std::int64_t together = 2;
  static std::int64_t packed_row(std::int64_t k) { return packed_row_of_tiles(k); }

  void multiply(std::int64_t rows_left, const Tile& tile) const {
    rows_left > matrix_rows ? multiply_tiles<true>(least(rows_left, rows), tile)
                            : multiply_tiles<false>(rows_left, tile);
  }

 private:
  template <bool Both>
  void multiply_tiles(std::int64_t rows_left, const Tile& tile) const {
    using Sums = TileSums<V, Both>;
    tile.add ? Sums::load(tile.c, tile.c_row) : Sums::clear();
    const float* a = tile.a;
    const float* b = tile.b;
    std::int64_t left = tile.k;
    for (; left >= matrix_pairs; left -= matrix_pairs) {
      if (tile.ahead != nullptr)
        for (std::int64_t i = 0; i < matrix_pairs; i += Ahead::inputs) tile.ahead->turn();
      Sums::add_products(a, b, tile.b_k);
      a += unit_rows * matrix_pairs;
      b += matrix_pairs * tile.b_k;
    }
    if (left > 0) {
      alignas(64) float last[matrix_pairs * panel_width] = {};  // what lies behind b might be no number
      for (std::int64_t i = 0; i < left; ++i)
        std::memcpy(last + i * panel_width, b + i * tile.b_k, panel_width * sizeof(float));
      Sums::add_products(a, last, panel_width);
    }
    if (tile.finish.y == nullptr) return Sums::store(tile.c, tile.c_row);
    alignas(64) float sums[unit_rows * panel_width];
    Sums::store(sums, panel_width);
    finish(rows_left, sums, tile.finish);
  }

  static void finish(std::int64_t count, const float* sums, Finish to) {
    for (std::int64_t i = 0; i < count; ++i, sums += panel_width) {
      finish_tile<V, 1, panel_vectors<V>>([&](int, int j) { return V::load(sums + j * V::lanes); }, to);
      to.y += to.y_row;
      if (to.residual != nullptr) to.residual += to.y_row;
    }
  }

  typename V::Tiles registers_;
};

}  // namespace orion::cpu
