// Matrix products over threads: linear and gemm of kernels.h.
#include "cpu/kernel_table.h"
#include "cpu/kernel_work.h"

#include <algorithm>

namespace orion::cpu {
namespace {

/// Rows [from, to) of a packing, whole tiles, and the panel of weights that they meet.
struct PanelPart {
  std::int64_t panel;
  std::int64_t from, to;
  std::int64_t next_panel;  // of the part that the same worker goes on with, or the number of panels
};

/// y (M, N) = epilogue(a b), b (K, N) either panels or strided.
struct Product {
  std::int64_t m, n, k;
  const float* a;
  const std::uint16_t* a_rounded;  // instead, if given
  std::int64_t a_row, a_col;
  Columns b;             // the first panel
  std::int64_t b_panel;  // bytes to the next one
  float* y;
  std::uint16_t* rounded;  // instead, if given
  std::int64_t y_row, y_col;
  Epilogue epilogue;
  bool bf16;             // whether the instruction set's products of bfloat16 are used
  bool streams = false;  // y goes past the caches

  std::int64_t panels() const { return ceil_div(n, panel_width); }
  const ProductKernels& unit() const { return bf16 ? kernels().bf16 : kernels().fp32; }
  std::int64_t tile_rows() const { return unit().tile_rows; }
  std::int64_t packed_row() const { return unit().packed_row(k); }
  Columns columns(std::int64_t panel) const {
    Columns part = b;
    part.data = static_cast<const std::byte*>(b.data) + panel * b_panel;
    part.width = std::min(b.width, n - panel * panel_width);
    return part;
  }
  /// What the worker of a part multiplies with after it.
  Columns next(const PanelPart& part) const {
    const bool goes_on = part.next_panel < panels() && part.next_panel != part.panel;
    return goes_on ? columns(part.next_panel) : Columns();
  }
  /// The sums c of a part of the rows from `first` on, on their way to y.
  StorePart stored(float* c, std::int64_t first, const PanelPart& part) const {
    return {c,
            first + part.from,
            part.to - part.from,
            part.panel * panel_width,
            columns(part.panel).width,
            y,
            rounded,
            y_row,
            y_col,
            epilogue,
            streams};
  }
  bool has_panels() const { return b.row == panel_width && b.col == 1; }
  /// Whether sums become y by adding to them.
  bool only_adds() const {
    return epilogue.activation == Activation::none && epilogue.factor == nullptr && rounded == nullptr;
  }
  /// For sums of whole panels that only more is added to.
  Finish finish(std::int64_t row, std::int64_t panel) const {
    const std::int64_t first = panel * panel_width;
    if (!only_adds() || y_col != 1 || first + panel_width > n) return {};
    const std::int64_t at = row * y_row + first;
    return {y + at, y_row, epilogue.bias == nullptr ? nullptr : epilogue.bias + first,
            epilogue.residual == nullptr ? nullptr : epilogue.residual + at, streams};
  }
  /// What the sums meet first, unless that is where they go.
  const float* beside(std::int64_t row, std::int64_t panel) const {
    const float* met = epilogue.factor != nullptr ? epilogue.factor : epilogue.residual;
    return met == nullptr || met == y || y_col != 1 ? nullptr : met + row * y_row + panel * panel_width;
  }
};

/// Rows that are packed together: whole tiles, about `most` of m rows at most, and all packings alike.
std::int64_t even_rows(std::int64_t m, std::int64_t most, std::int64_t tile) {
  return ceil_div(ceil_div(m, ceil_div(m, most)), tile) * tile;
}

/// Pieces that work is handed out in, enough to keep all workers busy to the end.
std::int64_t shares_for(std::int64_t workers) {
  return workers == 1 ? 1 : 4 * workers;
}

/// How all panels and rows are handed out, every worker having panels of its own: a panel at once, or some of
/// its rows where there are few panels, and less of the last panels, so that no worker waits long for the
/// others.
class PanelParts {
 public:
  PanelParts(std::int64_t workers, std::int64_t panels, std::int64_t rows, std::int64_t tile)
      : queues_(queues_for(workers)),
        panels_(panels),
        rows_(rows),
        tile_(tile),
        tiles_(ceil_div(rows, tile)) {
    shares_ = std::min(tiles_, ceil_div(shares_for(workers), panels));
    last_shares_ = workers == 1 ? shares_ : std::min(tiles_, 4 * shares_);
  }
  std::int64_t count(std::int64_t queue) const {
    const std::int64_t panels = first_panel(queue + 1) - first_panel(queue);
    return panels == 0 ? 0 : (panels - 1) * shares_ + last_shares_;
  }
  PanelPart part(const Item& item, const std::optional<Item>& next) const {
    const Place place = place_of(item);
    return {place.panel, row(place.share, place.shares), row(place.share + 1, place.shares),
            next ? place_of(*next).panel : panels_};
  }

 private:
  struct Place {
    std::int64_t panel, share, shares;
  };
  std::int64_t first_panel(std::int64_t queue) const { return panels_ * queue / queues_; }
  Place place_of(const Item& item) const {
    const std::int64_t last = first_panel(item.queue + 1) - 1;
    const std::int64_t before = (last - first_panel(item.queue)) * shares_;
    if (item.index >= before) return {last, item.index - before, last_shares_};
    return {first_panel(item.queue) + item.index / shares_, item.index % shares_, shares_};
  }
  std::int64_t row(std::int64_t share, std::int64_t shares) const {
    return std::min(rows_, tiles_ * share / shares * tile_);
  }

  std::int64_t queues_, panels_, rows_, tile_, tiles_;
  std::int64_t shares_, last_shares_;  // of a panel's rows
};

/// Calls `pack(worker)` and `multiply(worker, part)` for all of a packing and all panels: an element is
/// computed the same way whatever its part. Every worker has a packing of floats of its own, as reading what
/// another core has just written takes longer than to pack it again.
template <class Pack, class Multiply>
void share_panels(ThreadPool& pool, std::int64_t workers, std::int64_t panels, std::int64_t rows,
                  std::int64_t tile, const Pack& pack, const Multiply& multiply) {
  const PanelParts parts(workers, panels, rows, tile);
  share_queues(
      pool, workers, [&](std::int64_t queue) { return parts.count(queue); }, pack,
      [&](std::int64_t w, const Item& item, const std::optional<Item>& next) {
        multiply(w, parts.part(item, next));
      });
}

/// Rows of a block of inputs that the second-level cache holds, packed.
constexpr std::int64_t block_rows = 300;

/// Whether that cache holds all of a, packed, and the sums of a panel.
bool is_cached(const Product& p) {
  constexpr std::int64_t most_rows = 1024, most_floats = block_rows * most_block_inputs;
  return p.m <= most_rows && p.m * p.packed_row() <= most_floats;
}

/// Rows multiplied by one packing of a: all if they are cached, else about block_rows; fewer where many
/// workers would take much memory for theirs.
std::int64_t rows_at_once(const Product& p, std::int64_t workers) {
  constexpr std::int64_t most_floats = 1 << 24;  // of all packings
  const std::int64_t tile = p.tile_rows();
  const std::int64_t most_rows = is_cached(p) ? std::max(p.m, tile) : block_rows;
  return even_rows(p.m, std::clamp(most_floats / (workers * p.packed_row()), tile, most_rows), tile);
}

/// Columns of b that are packed before the rows of a meet them, packing by packing: 0 if there is only one
/// packing, or if b is panels already. A few megabytes at once.
std::int64_t columns_at_once(const Product& p, std::int64_t workers) {
  constexpr std::int64_t most_floats = 1 << 20;
  if (p.has_panels() || p.m <= rows_at_once(p, workers)) return 0;
  const std::int64_t panels = std::max<std::int64_t>(1, most_floats / (p.packed_row() * panel_width));
  return std::min(panels, p.panels()) * panel_width;
}

struct ProductMemory {
  std::int64_t rows, row, block;
  float* a;     // (workers, rows_at_once, packed_row)
  float* b;     // (columns_at_once, packed_row)
  float* wide;  // (workers, packed_row of a block, panel_width)
  float* c;     // (workers, rows_at_once, panel_width)
  template <class From>
  ProductMemory(From& scratch, const Product& p, std::int64_t workers)
      : rows(rows_at_once(p, workers)),
        row(p.packed_row()),
        block(p.unit().packed_row(block_inputs(p.k)) * panel_width),
        a(scratch.take_floats(workers * rows * row)),
        b(scratch.take_floats(columns_at_once(p, workers) * row)),
        wide(scratch.take_floats(workers * block)),
        c(scratch.take_floats(workers * rows * panel_width)) {}
  static std::size_t bytes(const Product& p, std::int64_t workers) {
    ScratchSize size;
    const ProductMemory memory(size, p, workers);
    return size.bytes();
  }
  float* a_of(std::int64_t worker) const { return a + worker * rows * row; }
  float* wide_of(std::int64_t worker) const { return wide + worker * block; }
  float* c_of(std::int64_t worker) const { return c + worker * rows * panel_width; }
};

/// Packs rows [first, first + rows) for a worker.
void pack_rows(const Product& p, const ProductMemory& memory, std::int64_t worker, std::int64_t first,
               std::int64_t rows) {
  if (p.a_rounded != nullptr)
    return kernels().pack_rows_rounded(p.a_rounded + first * p.a_row, p.a_row, rows, p.k,
                                       memory.a_of(worker));
  p.unit().pack_rows(p.a + first * p.a_row, p.a_row, p.a_col, rows, p.k, memory.a_of(worker));
}

/// A part of what a worker has packed, its rows counted from `first` on.
void multiply_part(const Product& p, const ProductMemory& memory, std::int64_t worker, std::int64_t first,
                   const PanelPart& part) {
  float* c = memory.c_of(worker);
  const Finish finish = p.finish(first + part.from, part.panel);
  p.unit().multiply({memory.a_of(worker) + part.from * memory.row, part.to - part.from, p.k,
                     p.columns(part.panel), memory.wide_of(worker), c, finish, p.next(part),
                     p.beside(first + part.from, part.panel), p.y_row});
  if (finish.y == nullptr) kernels().store(p.stored(c, first, part));
}

/// Rows [first, first + rows) of the product, panels shared.
void multiply_rows(ThreadPool& pool, std::int64_t workers, const Product& p, const ProductMemory& memory,
                   std::int64_t first, std::int64_t rows) {
  share_panels(
      pool, workers, p.panels(), rows, p.tile_rows(),
      [&](std::int64_t w) { pack_rows(p, memory, w, first, rows); },
      [&](std::int64_t w, const PanelPart& part) { multiply_part(p, memory, w, first, part); });
}

/// How rows are handed out where b is packed, every worker having rows of its own: fewer and fewer at once,
/// so that no worker waits long.
class RowBlocks {
 public:
  RowBlocks(std::int64_t workers, std::int64_t rows, std::int64_t rows_at_once, std::int64_t tile)
      : queues_(queues_for(workers)),
        rows_(rows),
        tile_(tile),
        tiles_(ceil_div(rows, tile)),
        most_(std::min<std::int64_t>(11, rows_at_once / tile)) {}
  std::int64_t count(std::int64_t queue) const {
    std::int64_t blocks = 0;
    for (std::int64_t tile = first_tile(queue); tile < first_tile(queue + 1); tile += tiles(queue, tile))
      ++blocks;
    return blocks;
  }
  struct Rows {
    std::int64_t first, count;
  };
  Rows rows(const Item& item) const {
    std::int64_t tile = first_tile(item.queue);
    for (std::int64_t block = 0; block < item.index; ++block) tile += tiles(item.queue, tile);
    const std::int64_t first = tile * tile_;
    return {first, std::min(rows_ - first, tiles(item.queue, tile) * tile_)};
  }

 private:
  std::int64_t first_tile(std::int64_t queue) const { return tiles_ * queue / queues_; }
  // Of the block that begins at a tile.
  std::int64_t tiles(std::int64_t queue, std::int64_t tile) const {
    constexpr std::int64_t least = 3;
    const std::int64_t left = first_tile(queue + 1) - tile;
    return std::min({left, std::max(left / 2, least), most_});
  }

  std::int64_t queues_, rows_, tile_, tiles_;
  std::int64_t most_;  // tiles
};

/// All rows of the product, rows shared.
void multiply_row_blocks(ThreadPool& pool, std::int64_t workers, const Product& p,
                         const ProductMemory& memory) {
  const RowBlocks blocks(workers, p.m, memory.rows, p.tile_rows());
  share_queues(
      pool, workers, [&](std::int64_t queue) { return blocks.count(queue); }, [](std::int64_t) {},
      [&](std::int64_t w, const Item& item, const std::optional<Item>&) {
        const auto [first, rows] = blocks.rows(item);
        pack_rows(p, memory, w, first, rows);
        for (std::int64_t panel = 0; panel < p.panels(); ++panel)
          multiply_part(p, memory, w, first, {panel, 0, rows, (panel + 1) % p.panels()});
      });
}

/// Columns [first, first + count) of the product, whole panels.
Product columns_of(const Product& p, std::int64_t first, std::int64_t count) {
  Product part = p;
  part.n = count;
  part.b = p.columns(first / panel_width);
  part.b.width = std::min(panel_width, count);
  if (p.rounded != nullptr)
    part.rounded += first;
  else
    part.y += first * p.y_col;
  if (part.epilogue.bias != nullptr) part.epilogue.bias += first;
  if (part.epilogue.factor != nullptr) part.epilogue.factor += first * p.y_col;
  if (part.epilogue.residual != nullptr) part.epilogue.residual += first * p.y_col;
  return part;
}

/// The same product of b packed into `to`.
Product with_packed_columns(ThreadPool& pool, std::int64_t workers, const Product& p, float* to) {
  const std::int64_t panel_floats = p.packed_row() * panel_width;
  share_items(pool, workers, p.panels(), [&](std::int64_t, std::int64_t i) {
    p.unit().pack_columns(p.columns(i), p.k, to + i * panel_floats);
  });
  Product packed = p;
  packed.b.data = to;
  packed.b.is_packed = true;
  packed.b_panel = panel_floats * static_cast<std::int64_t>(sizeof(float));
  return packed;
}

void multiply(ThreadPool& pool, std::int64_t workers, const Product& p, Scratch scratch) {
  const ProductMemory memory(scratch, p, workers);
  const std::int64_t columns = columns_at_once(p, workers);
  if (columns == 0) {
    for (std::int64_t m = 0; m < p.m; m += memory.rows)
      multiply_rows(pool, workers, p, memory, m, std::min(memory.rows, p.m - m));
    return;
  }
  for (std::int64_t n = 0; n < p.n; n += columns) {
    const Product part = columns_of(p, n, std::min(columns, p.n - n));
    multiply_row_blocks(pool, workers, with_packed_columns(pool, workers, part, memory.b), memory);
  }
}

/// Inputs of a sum that are multiplied at once. If all that is done with it is adding, a long one goes in
/// pieces, so that what is packed stays in the second-level cache: 10 to 20 % faster where b is read across
/// its rows, with matrix tiles also where it is panels; else those are read as they lie, and pieces cost 2 %.
std::int64_t inputs_at_once(const Product& p) {
  constexpr std::int64_t most_floats = 512;  // of a packed row
  const bool gains = !p.has_panels() || kernels().multiplies_tiles;
  if (!gains || !p.only_adds() || p.packed_row() <= 2 * most_floats) return p.k;
  const std::int64_t pieces = ceil_div(p.packed_row(), most_floats);
  return ceil_div(p.k, pieces * group_inputs) * group_inputs;
}

/// Inputs [first, first + k) of a product, added to what the ones before gave.
Product part_of(const Product& p, std::int64_t first, std::int64_t k) {
  Product part = p;
  part.k = k;
  part.streams = p.streams && first + k == p.k;
  if (first == 0) return part;
  if (p.a_rounded != nullptr)
    part.a_rounded += first * p.a_col;
  else
    part.a += first * p.a_col;
  part.b.data = static_cast<const std::byte*>(p.b.data) + p.b.bytes_before(first);
  part.epilogue = {.residual = p.y};
  return part;
}

/// For the sum in pieces, the last of which may be shorter; and for the whole one if it may be multiplied at
/// once after all, by a call with an activation, a factor or a rounded result.
std::size_t product_bytes(const Product& p, std::int64_t workers, bool may_be_whole) {
  const auto bytes = [&](std::int64_t k) { return ProductMemory::bytes(part_of(p, 0, k), workers); };
  const std::int64_t step = inputs_at_once(p);
  const std::size_t pieces = std::max(bytes(step), bytes((p.k - 1) % step + 1));
  return may_be_whole ? std::max(pieces, bytes(p.k)) : pieces;
}

void multiply_in_parts(ThreadPool& pool, std::int64_t workers, const Product& p, Scratch scratch) {
  const std::int64_t step = inputs_at_once(p);
  for (std::int64_t first = 0; first < p.k; first += step)
    multiply(pool, workers, part_of(p, first, std::min(step, p.k - first)), scratch);
}

Product product_of(const LinearCall& c) {
  const std::int64_t width = std::min(panel_width, c.w.n);
  return {c.m,
          c.w.n,
          c.w.k,
          c.x,
          c.x_rounded,
          c.x_row,
          c.x_col,
          {c.w.data, c.w.dtype, panel_width, 1, width, c.w.format},
          c.w.panel_bytes(),
          c.y,
          c.rounded,
          c.y_row,
          c.y_col,
          c.epilogue,
          c.w.format != MatrixFormat::exact};
}

ResultMemory result_of(const Product& p) {
  return {p.y, p.rounded, p.y_row, p.m * p.n};
}

Product streamed(ThreadPool& pool, Product p) {
  p.streams = p.y_col == 1 && should_stream(pool, result_of(p));
  return p;
}

/// Whether a result is too large to stay in the caches and comes faster than memory takes lines that are read
/// before they are written.
bool is_bound_by_memory(const Product& p) {
  constexpr std::int64_t least_elements = 1 << 19;
  return kernels().multiplies_tiles && p.bf16 && p.y_col == 1 && p.epilogue.residual == nullptr &&
         p.m * p.n >= least_elements && inputs_at_once(p) == p.k && can_stream(result_of(p));
}

Product product_of(const GemmCall& c) {
  const std::int64_t width = std::min(panel_width, c.n);
  Product p{c.m,
            c.n,
            c.k,
            c.a,
            c.a_rounded,
            c.a_row,
            c.a_col,
            {c.b, DType::fp32, c.b_row, c.b_col, width},
            panel_width * c.b_col * static_cast<std::int64_t>(sizeof(float)),
            c.c,
            c.rounded,
            c.c_row,
            c.c_col,
            c.epilogue,
            c.bf16};
  p.streams = is_bound_by_memory(p);
  return p;
}

// -- products with matrices in groups, of integers ------------------------------------------------

bool is_of_integers(const LinearCall& call) {
  if (call.m <= few_rows || call.m > kernels().most_integer_rows) return false;
  return (call.w.format == MatrixFormat::int8 && kernels().multiplies_bytes) ||
         (call.w.format == MatrixFormat::int4 && kernels().multiplies_nibbles);
}

/// Rows rounded together, few enough to stay in the second-level cache.
std::int64_t rows_rounded_at_once(const LinearCall& call) {
  constexpr std::int64_t most_bytes = 1 << 19;
  const std::int64_t tile = kernels().group_rows;
  return even_rows(call.m, std::max(tile, most_bytes / quantised_bytes(call.w.k)), tile);
}

struct IntegerMemory {
  std::int64_t rows, row_bytes;
  std::byte* a;  // (rows_rounded_at_once, K)
  float* c;      // (workers, rows_rounded_at_once, panel_width)
  template <class From>
  IntegerMemory(From& scratch, const LinearCall& call, std::int64_t workers)
      : rows(rows_rounded_at_once(call)),
        row_bytes(quantised_bytes(call.w.k)),
        a(scratch.take(aligned_bytes(static_cast<std::size_t>(rows * row_bytes)))),
        c(scratch.take_floats(workers * rows * panel_width)) {}
  static std::size_t bytes(const LinearCall& call, std::int64_t workers) {
    ScratchSize size;
    const IntegerMemory memory(size, call, workers);
    return size.bytes();
  }
  std::byte* a_of(std::int64_t row) const { return a + row * row_bytes; }
  float* c_of(std::int64_t worker) const { return c + worker * rows * panel_width; }
};

/// Rounds rows [first, first + rows), once for all workers: it takes longer than to read what another core
/// has rounded.
void round_rows(ThreadPool& pool, const LinearCall& call, const IntegerMemory& memory, std::int64_t first,
                std::int64_t rows) {
  const Kernels& isa = kernels();
  pool.split(rows, isa.group_rows, [&](std::int64_t begin, std::int64_t end) {
    isa.quantise_rows(call, first + begin, end - begin, memory.a_of(begin));
  });
}

/// Rows [first, first + rows) of the product.
void multiply_rounded(ThreadPool& pool, const LinearCall& call, const Product& p, const IntegerMemory& memory,
                      std::int64_t first, std::int64_t rows) {
  const Kernels& isa = kernels();
  round_rows(pool, call, memory, first, rows);
  const auto multiply = [&](std::int64_t w, const PanelPart& part) {
    float* c = memory.c_of(w);
    const Finish finish = p.finish(first + part.from, part.panel);
    isa.multiply_integers({memory.a_of(part.from), part.to - part.from, p.k, p.columns(part.panel), c, finish,
                           p.next(part), p.beside(first + part.from, part.panel), p.y_row});
    if (finish.y == nullptr) isa.store(p.stored(c, first, part));
  };
  share_panels(pool, pool.size(), p.panels(), rows, isa.group_rows, [](std::int64_t) {}, multiply);
}

void multiply_integers(ThreadPool& pool, const LinearCall& call, Scratch scratch) {
  const Product p = streamed(pool, product_of(call));
  const IntegerMemory memory(scratch, call, pool.size());
  for (std::int64_t first = 0; first < call.m; first += memory.rows)
    multiply_rounded(pool, call, p, memory, first, std::min(memory.rows, call.m - first));
}

/// The same call with its rows side by side in memory.
LinearCall with_dense_rows(const LinearCall& call, float* memory) {
  LinearCall dense = call;
  for (std::int64_t m = 0; m < call.m; ++m)
    for (std::int64_t k = 0; k < call.w.k; ++k)
      memory[m * call.w.k + k] = call.x[m * call.x_row + k * call.x_col];
  dense.x = memory;
  dense.x_row = call.w.k;
  dense.x_col = 1;
  return dense;
}

// What a few rows of x become before they meet panels of that format: pairs of bfloat16 (or as many floats),
// or groups.
std::size_t packed_vectors_bytes(const LinearCall& call) {
  if (call.w.format == MatrixFormat::exact) return 0;
  if (call.w.format == MatrixFormat::bf16) return float_bytes(call.m * ceil_div(call.w.k, 2) * 2);
  return aligned_bytes(static_cast<std::size_t>(call.m * quantised_bytes(call.w.k)));
}

}  // namespace

bool rounds_to_bfloat(const LinearCall& call) {
  return call.m > few_rows && call.w.format != MatrixFormat::exact && !is_of_integers(call);
}

std::size_t linear_scratch(const LinearCall& call, int threads) {
  if (is_of_integers(call)) return memory_alignment + IntegerMemory::bytes(call, threads);
  if (call.m > few_rows) return memory_alignment + product_bytes(product_of(call), threads, true);
  const std::size_t dense = call.x_col == 1 ? 0 : float_bytes(call.m * call.w.k);
  const std::size_t bytes = dense + packed_vectors_bytes(call);
  return bytes == 0 ? 0 : memory_alignment + bytes;
}

void linear(ThreadPool& pool, const LinearCall& call, std::span<std::byte> memory) {
  Scratch scratch("linear", memory);
  if (is_of_integers(call)) return multiply_integers(pool, call, scratch);
  if (call.m > few_rows)
    return multiply_in_parts(pool, pool.size(), streamed(pool, product_of(call)), scratch);
  const LinearCall dense =
      call.x_col == 1 ? call : with_dense_rows(call, scratch.take_floats(call.m * call.w.k));
  const std::size_t bytes = packed_vectors_bytes(dense);
  std::byte* packed = bytes == 0 ? nullptr : scratch.take(bytes);
  if (packed != nullptr) kernels().pack_vectors(dense, packed);
  const std::int64_t grain = ceil_div(elements_at_once, panel_width * call.w.k);
  pool.split(call.w.count(), grain, [&](std::int64_t begin, std::int64_t end) {
    kernels().linear_vectors(dense, packed, begin, end);
  });
}

namespace {

std::size_t product_bytes(const GemmCall& call, std::int64_t workers) {
  return product_bytes(product_of(call), workers, call.k <= most_gemm_inputs);
}

}  // namespace

// For all workers together, or each with a product of its own.
std::size_t gemm_scratch(const GemmCall& call, int threads) {
  return memory_alignment +
         std::max(product_bytes(call, threads), static_cast<std::size_t>(threads) * product_bytes(call, 1));
}

void gemm(ThreadPool& pool, const GemmCall& call, std::span<std::byte> scratch) {
  multiply_in_parts(pool, pool.size(), product_of(call), Scratch("gemm", scratch));
}

void gemm(ThreadPool& pool, std::span<const GemmCall> calls, std::span<std::byte> scratch) {
  const auto count = static_cast<std::int64_t>(calls.size());
  if (count < pool.size()) {
    for (const GemmCall& call : calls) gemm(pool, call, scratch);
    return;
  }
  const std::int64_t workers = pool.size();
  const std::size_t bytes = product_bytes(calls[0], 1);
  std::byte* memory = Scratch("gemm", scratch).take(bytes * static_cast<std::size_t>(workers));
  share_items(pool, workers, count, [&](std::int64_t w, std::int64_t i) {
    const std::span own(memory + static_cast<std::size_t>(w) * bytes, bytes);
    multiply_in_parts(pool, 1, product_of(calls[static_cast<std::size_t>(i)]), Scratch("gemm", own));
  });
}

}  // namespace orion::cpu
