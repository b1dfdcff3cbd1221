// What each instruction set provides: the single-threaded pieces the entry points of kernels.h are put
// together from. Ranges [begin, end) are parts of a split over threads.
#pragma once

#include "cpu/kernels.h"

namespace orion::cpu {

/// Inputs multiplied before the sums go to memory, at most.
inline constexpr std::int64_t most_block_inputs = 768;

/// The same for a sum of k inputs: pieces of equal length, whole groups of quantised inputs.
constexpr std::int64_t block_inputs(std::int64_t k) {
  const std::int64_t pieces = (k + most_block_inputs - 1) / most_block_inputs;
  const std::int64_t groups = (k + pieces * group_inputs - 1) / (pieces * group_inputs);
  return groups * group_inputs;
}

/// What a stream that measures memory is read in: whole runs of so many numbers.
inline constexpr std::int64_t ceiling_grain = 4096;

/// Columns [0, width) of a matrix (K, width): the right operand of a product, at most one panel wide. In
/// other formats than `exact` it is a panel, and so it is if pack_columns made it for the same product.
struct Columns {
  const void* data = nullptr;
  DType dtype = DType::fp32;
  std::int64_t row = panel_width;
  std::int64_t col = 1;
  std::int64_t width = panel_width;
  MatrixFormat format = MatrixFormat::exact;
  bool is_packed = false;  // by pack_columns

  /// Bytes before an input, the first of a group.
  std::int64_t bytes_before(std::int64_t input) const {
    if (format == MatrixFormat::exact) return input * row * static_cast<std::int64_t>(dtype_size(dtype));
    return Panels{.format = format}.inputs_bytes(input);
  }
};

/// Where sums go when they are whole, if nothing but adding is left to do: y = sums + bias + residual.
struct Finish {
  float* y = nullptr;
  std::int64_t y_row = 0;
  const float* bias = nullptr;      // (panel_width) or none
  const float* residual = nullptr;  // rows as those of y, or none
  bool streams = false;             // past the caches
};

/// c (rows, panel_width) = a (rows, K) b (K, panel_width); columns beyond b.width are unspecified.
struct ProductPart {
  const float* a = nullptr;  // as pack_rows leaves it, from the first row of a tile on
  std::int64_t rows = 0;
  std::int64_t k = 0;
  Columns b;
  float* wide = nullptr;  // scratch (packed_row(block_inputs(k)), panel_width)
  float* c = nullptr;     // scratch, and the result unless it goes to finish.y
  Finish finish;
  // Fetched into the cache meanwhile:
  Columns next;                   // what the same worker multiplies with next; or no data
  const float* beside = nullptr;  // what the sums meet afterwards, (rows, panel_width); or none
  std::int64_t beside_row = 0;
};

constexpr std::int64_t groups_of(std::int64_t k) {
  return (k + group_inputs - 1) / group_inputs;
}

/// Bytes of a row of K activations that were rounded to 8 bits in groups: their levels, a scale, a sum.
constexpr std::int64_t quantised_bytes(std::int64_t k) {
  return groups_of(k) * (group_inputs + 8);
}

/// Groups multiplied before the sums go to memory, so that a block of a panel stays in the first-level cache.
inline constexpr std::int64_t group_block = 16;

/// c (rows, panel_width) = a (rows, K) times b, a panel in groups; columns beyond its matrix are 0.
struct IntegerPart {
  const std::byte* a = nullptr;  // as quantise_rows leaves it
  std::int64_t rows = 0;
  std::int64_t k = 0;
  Columns b;
  float* c = nullptr;  // scratch, and the result unless it goes to finish.y
  Finish finish;
  Columns next;  // this and the rest as in ProductPart
  const float* beside = nullptr;
  std::int64_t beside_row = 0;
};

/// Rows [first, first + rows) and columns [n, n + width) of a result, on their way to memory.
struct StorePart {
  float* c = nullptr;  // (rows, panel_width)
  std::int64_t first = 0, rows = 0;
  std::int64_t n = 0, width = 0;
  float* y = nullptr;
  std::uint16_t* rounded = nullptr;  // instead of y, if given
  std::int64_t y_row = 0, y_col = 1;
  Epilogue epilogue;
  bool streams = false;  // past the caches
};

/// Up to `query_block` queries of one head.
struct AttentionPart {
  const AttentionCall* call = nullptr;
  std::int64_t batch = 0, head = 0;
  std::int64_t first = 0, count = 0;  // queries
  std::byte* scratch = nullptr;
};

/// A loop of multiply-adds out of registers, or the next thing to it.
struct MultiplyAdds {
  std::int64_t products;              // of a round
  float (*run)(std::int64_t rounds);  // gives 1
};

/// Products of many rows, their operands packed as the arithmetic wants them: floats, or for bfloat16 floats
/// that are rounded, pairs of inputs (kernels_pairs.h) or such pairs for matrix tiles (kernels_tiles.h).
struct ProductKernels {
  std::int64_t tile_rows;  // rows of the left operand that are multiplied at once
  /// Floats that K inputs of a row, or of a column, take in a packing.
  std::int64_t (*packed_row)(std::int64_t k);
  /// x (rows, K) in tiles of tile_rows; rows missing in the last one are left as they are.
  void (*pack_rows)(const float* x, std::int64_t row, std::int64_t col, std::int64_t rows, std::int64_t k,
                    float* to);
  /// K inputs of columns that lie apart, as a panel.
  void (*pack_columns)(const Columns&, std::int64_t k, float* to);
  void (*multiply)(const ProductPart&);
};

struct Kernels {
  std::string_view name;

  /// Whether products of the format bf16 multiply pairs of bfloat16; else they are of fp32 values that were
  /// rounded.
  bool dots_pairs;
  bool multiplies_tiles;  // of such pairs: products are so fast that memory is what they wait for

  /// Whether what `streams` passes the caches by.
  bool streams;

  /// Panels begin to end, M <= few_rows. x is `call.x`, in other formats than `exact` what pack_vectors made
  /// of it.
  void (*linear_vectors)(const LinearCall&, const void* x, std::int64_t begin, std::int64_t end);
  void (*pack_vectors)(const LinearCall&, void* to);
  ProductKernels fp32, bf16;
  /// bf16.pack_rows of x (rows, K) that is rounded already.
  void (*pack_rows_rounded)(const std::uint16_t* x, std::int64_t row, std::int64_t rows, std::int64_t k,
                            float* to);
  void (*store)(const StorePart&);

  /// Whether products of many rows with int8 and int4 panels are of integers too; else the panels are
  /// expanded to fp32 and meet activations rounded to bfloat16.
  bool multiplies_bytes, multiplies_nibbles;
  std::int64_t most_integer_rows;  // for more rows panels are expanded all the same, to bfloat16
  std::int64_t group_rows;         // rows of activations in a tile of such a product
  /// Rows [first, first + rows) of x rounded to 8 bits, in tiles of group_rows of quantised_bytes(K) each.
  void (*quantise_rows)(const LinearCall&, std::int64_t first, std::int64_t rows, std::byte* to);
  void (*multiply_integers)(const IntegerPart&);

  void (*attend)(const AttentionPart&);
  std::size_t (*attend_scratch)(const AttentionCall&);
  void (*attend_few)(const AttentionPart&);  // the same for a handful of queries, without scratch

  void (*pack_panels)(const MatrixView&, const Panels&, std::int64_t begin, std::int64_t end);
  void (*pack_panels_quantised)(const MatrixView&, const Panels&, std::int64_t begin, std::int64_t end);
  void (*widen)(const std::uint16_t*, float*, std::int64_t count);
  void (*narrow)(const float*, std::uint16_t*, std::int64_t count);
  void (*layer_norm)(const RowsCall&, std::int64_t begin, std::int64_t end);
  void (*rms_norm)(const RowsCall&, std::int64_t begin, std::int64_t end);
  void (*softmax)(const RowsCall&, std::int64_t begin, std::int64_t end);
  void (*layer_norm_gradient)(const RowsGradientCall&, std::int64_t begin, std::int64_t end);
  void (*rms_norm_gradient)(const RowsGradientCall&, std::int64_t begin, std::int64_t end);
  void (*softmax_gradient)(const RowsGradientCall&, std::int64_t begin, std::int64_t end);
  void (*cross_entropy)(const CrossEntropyCall&, std::int64_t begin, std::int64_t end);
  void (*sum_rows)(const SumCall&, std::int64_t begin, std::int64_t end);  // inner 1; of outer
  /// Columns begin to end of (outer, inner) seen as one axis; no part crosses from one `outer` to the next.
  void (*sum_columns)(const SumCall&, std::int64_t begin, std::int64_t end);
  void (*largest_rows)(const SumCall&, std::int64_t begin, std::int64_t end);  // the same parts
  void (*largest_columns)(const SumCall&, std::int64_t begin, std::int64_t end);
  void (*adamw)(const AdamwCall&, std::int64_t begin, std::int64_t end);
  float (*square_sum)(const float*, std::int64_t count);
  std::int64_t (*argmax)(const float*, std::int64_t count);
  void (*rope)(const RopeCall&, std::int64_t begin, std::int64_t end);  // of B * H * T vectors
  void (*unary)(const UnaryCall&, std::int64_t begin, std::int64_t end);
  void (*binary)(const BinaryCall&, std::int64_t begin, std::int64_t end);  // rows

  // What the instruction set can do at most (ceiling.h).
  MultiplyAdds multiply_adds, multiply_adds_bf16, multiply_adds_int8;
  float (*read_stream)(const float*, std::int64_t count);  // count: a multiple of ceiling_grain
};

/// Queries that share one packing of the keys.
inline constexpr std::int64_t query_block = 256;

extern const Kernels portable_kernels;
extern const Kernels avx2_kernels;         // x86-64 only
extern const Kernels avx512_kernels;       // x86-64 only
extern const Kernels avx512_bf16_kernels;  // x86-64 only
extern const Kernels avx512_amx_kernels;   // x86-64 only
extern const Kernels neon_kernels;         // aarch64 only
extern const Kernels neon_bf16_kernels;    // aarch64 only

/// The instruction sets this machine can run, best first.
std::span<const Kernels* const> supported_kernels();
/// The one of that name, or the best for an empty name; Error listing the supported ones if not among them.
const Kernels& find_kernels(std::string_view name);
/// The ones in use, chosen at first call.
const Kernels& kernels();
/// Replaces that choice, so that tests and benchmarks can go through them all in one process.
void use_kernels(const Kernels& set);

}  // namespace orion::cpu
