// Matrix products for a vector type V: register tiles over packed operands.
#pragma once

#include "cpu/kernel_table.h"
#include "cpu/kernels_math.h"

#include <cstddef>
#include <type_traits>

namespace orion::cpu {

constexpr std::int64_t least(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}

template <class V>
inline constexpr int panel_vectors = static_cast<int>(panel_width) / V::lanes;

/// Calls f with the function of that activation.
template <class V, class F>
void with_activation(Activation activation, const F& f) {
  switch (activation) {
    case Activation::none:
      return f([](V x) { return x; });
    case Activation::relu:
      return f([](V x) { return relu_of(x); });
    case Activation::silu:
      return f([](V x) { return silu_of(x); });
    case Activation::gelu_erf:
      return f([](V x) { return gelu_erf_of(x); });
    case Activation::gelu_tanh:
      return f([](V x) { return gelu_tanh_of(x); });
    case Activation::gelu_sigmoid:
      return f([](V x) { return gelu_sigmoid_of(x); });
    case Activation::sigmoid:
      return f([](V x) { return sigmoid_of(x); });
    case Activation::tanh:
      return f([](V x) { return tanh_of(x); });
  }
}

inline constexpr std::int64_t line_floats = cache_line / static_cast<std::int64_t>(sizeof(float));

// -- storing results ------------------------------------------------------------------------------

template <class V, class F>
void store_strided(const StorePart& part, const float* bias, const F& activate) {
  const Epilogue& e = part.epilogue;
  for (std::int64_t i = 0; i < part.rows; ++i) {
    float* c = part.c + i * panel_width;
    for (std::int64_t j = 0; j < panel_width; j += V::lanes)
      activate(V::load(c + j) + V::load(bias + j)).store(c + j);
  }
  for (std::int64_t j = 0; j < part.width; ++j)
    for (std::int64_t i = 0; i < part.rows; ++i) {
      const std::int64_t at = (part.first + i) * part.y_row + (part.n + j) * part.y_col;
      float y = part.c[i * panel_width + j];
      if (e.factor != nullptr) y *= e.factor[at];
      if (e.residual != nullptr) y += e.residual[at];
      part.y[at] = y;
    }
}

/// y = activate(c + bias) factor + residual, for row i.
template <class V, class F>
void store_row(const StorePart& part, std::int64_t i, const float* bias, const F& activate) {
  const Epilogue& e = part.epilogue;
  const float* c = part.c + i * panel_width;
  const std::int64_t at = (part.first + i) * part.y_row + part.n;
  const auto value = [&](std::int64_t j, int n) {
    V y = activate(V::load(c + j) + V::load(bias + j));
    if (e.factor != nullptr) y = y * V::load(e.factor + at + j, n);
    if (e.residual != nullptr) y = y + V::load(e.residual + at + j, n);
    return y;
  };
  if (part.rounded != nullptr) return store_rounded<V>(value, part.width, part.rounded + at, part.streams);
  for (std::int64_t j = 0; j < part.width; j += V::lanes) {
    const int n = static_cast<int>(part.width - j < V::lanes ? part.width - j : V::lanes);
    put(value(j, n), part.y + at + j, n, part.streams);
  }
}

inline constexpr std::int64_t rows_ahead = 4;

/// Fetches what a row of the part meets and where it goes: an activation takes so long that a processor sees
/// no further row coming. Always inlined, as GCC leaves out calls of functions that only fetch.
[[gnu::always_inline]] inline void fetch_row(const StorePart& part, std::int64_t i) {
  if (i >= part.rows) return;
  const Epilogue& e = part.epilogue;
  const std::int64_t at = (part.first + i) * part.y_row + part.n;
  for (std::int64_t j = 0; j < part.width; j += line_floats) {
    if (part.rounded == nullptr && !part.streams) __builtin_prefetch(part.y + at + j, 1);
    if (e.factor != nullptr) __builtin_prefetch(e.factor + at + j);
    if (e.residual != nullptr) __builtin_prefetch(e.residual + at + j);
  }
}

template <class V>
void store_part(const StorePart& part) {
  const Epilogue& e = part.epilogue;
  alignas(64) float bias[panel_width] = {};
  if (e.bias != nullptr)
    for (std::int64_t j = 0; j < part.width; ++j) bias[j] = e.bias[part.n + j];
  with_activation<V>(e.activation, [&](auto activate) {
    if (part.y_col != 1) return store_strided<V>(part, bias, activate);
    for (std::int64_t i = 0; i < part.rows; ++i) {
      fetch_row(part, i + rows_ahead);
      store_row<V>(part, i, bias, activate);
    }
  });
}

// -- matrix times matrix --------------------------------------------------------------------------

/// How a lane of the left operand (or a pair) meets one of the right.
struct MultiplyAdd {
  static constexpr std::int64_t together = 1;  // inputs in a lane
  template <class V>
  static V add(V a, V b, V sum) {
    return fma(a, b, sum);
  }
};

/// Pieces of memory of equal size at equal distances.
struct Runs {
  const std::byte* data = nullptr;
  std::int64_t count = 0, bytes = 0, stride = 0;
};

/// Fetches memory into the caches, a share at each turn: many lines asked for at once would hold up what is
/// computed meanwhile. Few instructions and branches, as a core that shares itself with another thread is
/// short of them.
class Fetching {
 public:
  /// In so many turns. Sets what turn() reads one by one: a core waits for what is stored in pieces and read
  /// as a whole, as it would be if this was copied.
  void start(const Runs& runs, std::int64_t turns, bool to_write = false) {
    const std::int64_t lines = (runs.bytes + cache_line - 1) / cache_line;
    at_ = runs.data;
    run_end_ = at_ + lines * cache_line;
    stride_ = runs.stride;
    to_next_ = stride_ - lines * cache_line;
    left_ = runs.count * lines;
    share_ = (left_ + turns - 1) / turns;
    to_write_ = to_write;
  }
  void turn() {
    if (left_ <= 0) return;
    left_ -= share_;
    const std::byte* at = at_;
    for (std::int64_t i = share_; i > 0; --i) {
      to_write_ ? __builtin_prefetch(at, 1, 2) : __builtin_prefetch(at, 0, 2);
      at += cache_line;
      if (at != run_end_) continue;
      at += to_next_;
      run_end_ += stride_;
    }
    at_ = at;
  }

 private:
  const std::byte* at_ = nullptr;
  const std::byte* run_end_ = nullptr;
  std::int64_t stride_ = 0, to_next_ = 0;
  std::int64_t left_ = 0, share_ = 0;  // lines
  bool to_write_ = false;
};

/// What is fetched while tiles are multiplied, at every few of their inputs.
struct Ahead {
  static constexpr std::int64_t inputs = 8;
  static std::int64_t turns(std::int64_t k) { return (k + inputs - 1) / inputs; }
  Fetching operand;
  Fetching meeting;  // where sums go, or what they meet before
  void turn() {
    operand.turn();
    meeting.turn();
  }
};

/// One tile: c (R, NV * lanes) = or += a (R, k) b (k, NV * lanes). Element (r, k) of a at k * a_k + r. What
/// `finish` gives a place goes there instead of to c. Tiles of tile_rows leave b in `copy` as a panel, if
/// given: beside multiply-adds that costs next to nothing.
struct Tile {
  const float* a = nullptr;
  std::int64_t a_k = 0;
  const float* b = nullptr;
  std::int64_t b_k = 0;
  float* c = nullptr;
  std::int64_t c_row = 0;
  std::int64_t k = 0;
  bool add = false;
  Finish finish = {};
  Ahead* ahead = nullptr;
  float* copy = nullptr;
};

/// The sums of a tile of R rows and NV vectors, `sum_of(row, vector)`, to where they belong from `column` on.
template <class V, int R, int NV, class Sums>
[[gnu::always_inline]] inline void finish_tile(const Sums& sum_of, const Finish& finish,
                                               std::int64_t column = 0) {
  V bias[std::size_t{NV}];
#pragma GCC unroll 8
  for (int j = 0; j < NV; ++j)
    bias[j] = finish.bias == nullptr ? V(0.0F) : V::load(finish.bias + column + j * V::lanes);
  float* y = finish.y + column;
  const float* more = finish.residual == nullptr ? nullptr : finish.residual + column;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r, y += finish.y_row) {
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      V value = sum_of(r, j) + bias[j];
      if (more != nullptr) value = value + V::load(more + j * V::lanes);
      put(value, y + j * V::lanes, finish.streams);
    }
    if (more != nullptr) more += finish.y_row;
  }
}

/// Rows of a right operand that are fetched into the first-level cache before a tile, or a copy, reads them.
inline constexpr std::int64_t rows_fetched_ahead = 24;

/// The tile's vectors from `column` on.
template <class V, int R, class Step, bool Copies = false>
void multiply_tile(const Tile& tile, std::int64_t column) {
  constexpr int NV = V::tile_vectors;
  V sums[std::size_t{R}][std::size_t{NV}];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j)
      sums[r][j] = tile.add ? V::load(tile.c + column + r * tile.c_row + j * V::lanes) : V(0.0F);
  const float* a = tile.a;
  const float* b = tile.b + column;
  float* copy = Copies ? tile.copy + column : nullptr;
  const auto step = [&] {
    V columns[std::size_t{NV}];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) columns[j] = V::load(b + j * V::lanes);
    const float* ahead = b + rows_fetched_ahead * tile.b_k;
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < NV * V::lanes; j += line_floats) __builtin_prefetch(ahead + j);
    if constexpr (Copies) {
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) columns[j].store(copy + j * V::lanes);
      copy += panel_width;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V row(a[r]);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) sums[r][j] = Step::add(row, columns[j], sums[r][j]);
    }
    a += tile.a_k;
    b += tile.b_k;
  };
  for (std::int64_t left = tile.k; left > 0; left -= Ahead::inputs) {
    if (tile.ahead != nullptr) tile.ahead->turn();
    if (left < Ahead::inputs) {
      for (std::int64_t k = left; k > 0; --k) step();
    } else {
#pragma GCC unroll 8
      for (std::int64_t k = 0; k < Ahead::inputs; ++k) step();
    }
  }
  if (tile.finish.y != nullptr)
    return finish_tile<V, R, NV>([&](int r, int j) { return sums[r][j]; }, tile.finish, column);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) sums[r][j].store(tile.c + column + r * tile.c_row + j * V::lanes);
}

/// A tile one panel wide with 1 to tile_rows rows.
template <class V, class Step = MultiplyAdd, int R = V::tile_rows>
void multiply_rows(std::int64_t rows, const Tile& tile) {
  if constexpr (R > 1)
    if (rows < R) return multiply_rows<V, Step, R - 1>(rows, tile);
  for (std::int64_t column = 0; column < panel_width; column += V::tile_vectors * V::lanes)
    if (R == V::tile_rows && tile.copy != nullptr)
      multiply_tile<V, V::tile_rows, Step, true>(tile, column);
    else
      multiply_tile<V, R, Step>(tile, column);
}

/// Vectors of floats as they are.
template <class V>
struct LoadFloats {
  static constexpr std::int64_t floats = 1;  // in a lane
  static V whole(const float* p) { return V::load(p); }
  static V part(const float* p, int lanes) { return V::load(p, lanes); }
};

/// to (lanes, Height) = the transpose of `from` (Height, lanes), its registers known to the compiler.
template <class V, int Height, class Load>
void transpose_square(const float* from, std::int64_t row, float* to, std::int64_t to_row) {
  V square[V::lanes];
#pragma GCC unroll 16
  for (int r = 0; r < V::lanes; ++r) square[r] = r < Height ? Load::whole(from + r * row) : V(0.0F);
  transpose(square);
#pragma GCC unroll 16
  for (int c = 0; c < V::lanes; ++c)
    Height == V::lanes ? square[c].store(to + c * to_row) : square[c].store(to + c * to_row, Height);
}

/// The same for any height and width up to the lanes.
template <class V, class Load>
void transpose_part(const float* from, std::int64_t row, int height, int width, float* to,
                    std::int64_t to_row) {
  V square[V::lanes];
  for (int r = 0; r < V::lanes; ++r) square[r] = r < height ? Load::part(from + r * row, width) : V(0.0F);
  transpose(square);
  for (int c = 0; c < width; ++c) square[c].store(to + c * to_row, height);
}

/// Fetches a piece of `rows` rows.
inline void fetch_rows(const float* from, std::int64_t row, std::int64_t rows) {
  for (std::int64_t i = 0; i < rows; ++i) __builtin_prefetch(from + i * row);
}

/// to[j * to_row + i] = from[i * row + j] for i < rows, j < cols. A lane may hold more than one float; `cols`
/// counts lanes, and `row` is in floats.
template <class V, class Load = LoadFloats<V>>
void transpose_block(const float* from, std::int64_t row, std::int64_t rows, std::int64_t cols, float* to,
                     std::int64_t to_row) {
  constexpr int L = V::lanes;
  constexpr int last = V::tile_rows % L == 0 ? L : V::tile_rows % L;  // rows of a tile that fill no square
  constexpr std::int64_t ahead = 128 / Load::floats;
  for (std::int64_t j = 0; j < cols; j += L) {
    const int width = static_cast<int>(cols - j < L ? cols - j : L);
    for (std::int64_t i = 0; i < rows; i += L) {
      const int height = static_cast<int>(rows - i < L ? rows - i : L);
      const float* source = from + i * row + j * Load::floats;
      float* target = to + j * to_row + i;
      if (j + ahead < cols)
        for (std::int64_t part = 0; part < L * Load::floats; part += line_floats)
          fetch_rows(source + ahead * Load::floats + part, row, height);
      if (width == L && height == L)
        transpose_square<V, L, Load>(source, row, target, to_row);
      else if (width == L && height == last)
        transpose_square<V, last, Load>(source, row, target, to_row);
      else
        transpose_part<V, Load>(source, row, height, width, target, to_row);
    }
  }
}

/// to (rows, N) dense = from (rows, N)
template <class V, int N>
void copy_rows(const float* from, std::int64_t row, std::int64_t rows, float* to) {
  for (std::int64_t i = 0; i < rows; ++i, from += row, to += N)
#pragma GCC unroll 4
    for (int j = 0; j < N; j += V::lanes) {
      constexpr int last = N % V::lanes == 0 ? V::lanes : N % V::lanes;
      j + V::lanes <= N ? V::load(from + j).store(to + j) : V::load(from + j, last).store(to + j, last);
    }
}

/// Tiles of x (rows, K), by `pack(from, rows, inputs, to)`, where `together` inputs become one float. Rows
/// that lie side by side are read along, a few inputs of all tiles at a time.
template <class V, std::int64_t together, class Pack>
void pack_tiles(const float* x, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t k,
                float* to, const Pack& pack) {
  constexpr std::int64_t R = V::tile_rows;
  const std::int64_t step = row == 1 ? 4 : k;
  const std::int64_t packed_row = (k + together - 1) / together;
  for (std::int64_t first = 0; first < k; first += step) {
    const std::int64_t inputs = k - first < step ? k - first : step;
    const std::int64_t ahead = first + 2 * step;  // inputs fetched meanwhile
    for (std::int64_t i = 0; i < rows; i += R) {
      const float* from = x + i * row;
      if (ahead < k) fetch_rows(from + ahead * col, col, k - ahead < step ? k - ahead : step);
      pack(from + first * col, rows - i < R ? rows - i : R, inputs,
           to + i * packed_row + first / together * R);
    }
  }
}

template <class V>
void pack_rows(const float* x, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t k,
               float* to) {
  constexpr std::int64_t R = V::tile_rows;
  pack_tiles<V, 1>(x, row, col, rows, k, to,
                   [=](const float* from, std::int64_t count, std::int64_t inputs, float* out) {
                     if (col == 1)
                       transpose_block<V>(from, row, count, inputs, out, R);
                     else if (row == 1 && count == R)
                       copy_rows<V, R>(from, col, inputs, out);
                     else
                       for (std::int64_t i = 0; i < inputs; ++i)
                         for (std::int64_t r = 0; r < count; ++r) out[i * R + r] = from[r * row + i * col];
                   });
}

/// Whether rows lie a multiple of a page apart: they fall into few sets of a cache, which throws out what was
/// fetched long before it is read.
template <class T>
bool rows_collide(std::int64_t row) {
  return row * static_cast<std::int64_t>(sizeof(T)) % 4096 == 0;
}

template <class V, class T>
void copy_columns(const T* from, std::int64_t row, std::int64_t rows, std::int64_t width, float* to) {
  const std::int64_t fetched = rows_collide<T>(row) ? rows - rows_fetched_ahead : 0;
  for (std::int64_t i = 0; i < rows; ++i, from += row, to += panel_width) {
    if (i < fetched)
      for (std::int64_t j = 0; j < width; j += line_floats)
        __builtin_prefetch(from + rows_fetched_ahead * row + j);
    for (std::int64_t j = 0; j < width; j += V::lanes) {
      const int n = static_cast<int>(width - j < V::lanes ? width - j : V::lanes);
      V::load(from + j, n).store(to + j);
    }
  }
}

template <class V>
void gather_columns(const Columns& b, std::int64_t first, std::int64_t rows, float* to) {
  const float* from = static_cast<const float*>(b.data) + first * b.row;
  if (b.row == 1) return transpose_block<V>(from, b.col, b.width, rows, to, panel_width);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < b.width; ++j) to[i * panel_width + j] = from[i * b.row + j * b.col];
}

/// Rows [first, first + rows) of b as fp32, dense: where they are, or in `wide`.
template <class V>
const float* dense_columns(const Columns& b, std::int64_t first, std::int64_t rows, float* wide) {
  if (b.dtype == DType::fp16) {
    copy_columns<V>(static_cast<const std::uint16_t*>(b.data) + first * b.row, b.row, rows, b.width, wide);
    return wide;
  }
  const float* from = static_cast<const float*>(b.data) + first * b.row;
  if (b.col == 1 && b.row == panel_width && b.width == panel_width) return from;
  if (b.col == 1)
    copy_columns<V>(from, b.row, rows, b.width, wide);
  else
    gather_columns<V>(b, first, rows, wide);
  return wide;
}

inline Finish finish_of(const Finish& whole, std::int64_t row) {
  if (whole.y == nullptr) return {};
  const std::int64_t at = row * whole.y_row;
  return {whole.y + at, whole.y_row, whole.bias, whole.residual == nullptr ? nullptr : whole.residual + at,
          whole.streams};
}

/// Rows [first, first + rows) of a right operand.
inline Runs runs_of(const Columns& b, std::int64_t first, std::int64_t rows) {
  const auto* data = static_cast<const std::byte*>(b.data);
  if (data == nullptr) return {};
  const std::int64_t begin = b.bytes_before(first);
  if (b.col == 1 && b.row == panel_width) return {data + begin, 1, b.bytes_before(first + rows) - begin};
  const auto size = static_cast<std::int64_t>(dtype_size(b.dtype));
  const bool across = b.row == 1;
  return {data + begin, across ? b.width : rows, (across ? rows : b.width) * size,
          (across ? b.col : b.row) * size};
}

/// Rows of a panel of floats.
inline Runs runs_of(const float* data, std::int64_t row, std::int64_t rows) {
  constexpr auto size = static_cast<std::int64_t>(sizeof(float));
  return {reinterpret_cast<const std::byte*>(data), rows, panel_width * size, row * size};
}

/// While a tile's sums are computed in so many turns, fetches where they go or what they meet before. Intel's
/// cores, which have tiles, wait for lines that are asked for to be written: 1 to 2 % of a step.
template <class V, class Part>
void fetch_for(const Part& part, std::int64_t row, std::int64_t rows, std::int64_t turns, Fetching& meeting) {
  const Finish& finish = part.finish;
  const std::int64_t soon = turns / 2 + 1;
  if (finish.y != nullptr && !finish.streams)
    meeting.start(runs_of(finish.y + row * finish.y_row, finish.y_row, rows), soon, !V::multiplies_tiles);
  else if (part.beside != nullptr)
    meeting.start(runs_of(part.beside + row * part.beside_row, part.beside_row, rows), soon);
}

/// What multiplies a tile: vector registers, a step of the loop over inputs taking as many as are in a lane.
template <class V, class Step>
struct VectorUnit {
  using Vector = V;
  static constexpr std::int64_t rows = V::tile_rows;
  static constexpr std::int64_t together = Step::together;
  /// Floats that a row takes in a packing.
  static std::int64_t packed_row(std::int64_t k) { return (k + together - 1) / together; }
  void multiply(std::int64_t rows_left, const Tile& tile) const { multiply_rows<V, Step>(rows_left, tile); }
};

/// A packed right operand from an input on, the first of a group.
template <class Unit>
const float* packed_inputs(const Columns& b, std::int64_t first) {
  return static_cast<const float*>(b.data) + Unit::packed_row(first) * panel_width;
}

/// Inputs [first, first + rows) of a right operand.
template <class Unit>
Runs operand_runs(const Columns& b, std::int64_t first, std::int64_t rows) {
  if (!b.is_packed) return runs_of(b, first, rows);
  const auto* begin = reinterpret_cast<const std::byte*>(packed_inputs<Unit>(b, first));
  const auto* end = reinterpret_cast<const std::byte*>(packed_inputs<Unit>(b, first + rows));
  return {begin, 1, end - begin};
}

/// A block of a right operand: a panel, or rows further apart that the first tile is to copy.
struct RightBlock {
  const float* data;
  std::int64_t row = panel_width;
  float* copy = nullptr;
};

/// Tiles of a block of inputs; `b_of(first, count)` gives the block of a right operand that is not packed.
template <class Unit, class Block>
void multiply_blocks(const ProductPart& part, const Block& b_of) {
  constexpr std::int64_t R = Unit::rows, together = Unit::together;
  const Unit unit;
  const std::int64_t row = Unit::packed_row(part.k);
  const std::int64_t size = block_inputs(part.k);
  const std::int64_t tiles = (part.rows + R - 1) / R;
  for (std::int64_t first = 0; first < part.k; first += size) {
    const std::int64_t left = part.k - first - size;
    const std::int64_t k = left < 0 ? part.k - first : size;
    const std::int64_t steps = (k + together - 1) / together;
    Ahead ahead;
    ahead.operand.start(left > 0 ? operand_runs<Unit>(part.b, first + size, least(left, size))
                                 : operand_runs<Unit>(part.next, 0, least(part.k, size)),
                        tiles * Ahead::turns(steps));
    const RightBlock b = part.b.is_packed ? RightBlock{packed_inputs<Unit>(part.b, first)} : b_of(first, k);
    Tile tile{.a_k = R,
              .b = b.data,
              .b_k = b.row,
              .c_row = panel_width,
              .k = steps,
              .add = first > 0,
              .ahead = &ahead,
              .copy = b.copy};
    for (std::int64_t i = 0; i < part.rows; i += R) {
      tile.a = part.a + i * row + Unit::packed_row(first) * R;
      tile.c = part.c + i * panel_width;
      if (left <= 0) {
        tile.finish = finish_of(part.finish, i);
        fetch_for<typename Unit::Vector>(part, i, least(part.rows - i, R), Ahead::turns(steps),
                                         ahead.meeting);
      }
      unit.multiply(part.rows - i, tile);
      if (tile.copy == nullptr) continue;
      tile.b = tile.copy;
      tile.b_k = panel_width;
      tile.copy = nullptr;
    }
  }
}

template <class V>
using Fp32Unit = VectorUnit<V, MultiplyAdd>;

template <class V>
void pack_columns_fp32(const Columns& b, std::int64_t k, float* to) {
  dense_columns<V>(b, 0, k, to);
}

/// Whether the first tile can copy a right operand.
template <class V>
bool is_copied_by_tile(const ProductPart& part) {
  const Columns& b = part.b;
  return b.dtype == DType::fp32 && b.col == 1 && b.row != panel_width && b.width == panel_width &&
         part.rows >= V::tile_rows;
}

template <class V>
void multiply_fp32(const ProductPart& part) {
  const bool by_tile = is_copied_by_tile<V>(part);
  multiply_blocks<Fp32Unit<V>>(part, [&](std::int64_t first, std::int64_t count) -> RightBlock {
    if (!by_tile) return {dense_columns<V>(part.b, first, count, part.wide)};
    return {static_cast<const float*>(part.b.data) + first * part.b.row, part.b.row, part.wide};
  });
}

}  // namespace orion::cpu
