// The CPU device's fast kernels: one source (kernels_*.h templates over a vector type) compiled once per
// instruction set.
//
// Shapes in comments: M rows of activations, N outputs, K inputs; B batch, H heads, G key/value heads,
// T queries, S keys, D head size. All activations are fp32 and row-major unless strides are given.
// Strides count elements. Nothing here allocates: kernels that need memory say how much (`..._scratch`)
// and take it. No result depends on the number of threads. Kernels trust their calls: sizes are at
// least 1 and memory is as large as they say; the planner sees to that.
#pragma once

#include "base/threads.h"
#include "orion/matrix_format.h"
#include "orion/tensor.h"

#include <cstdint>
#include <span>

namespace orion::cpu {

// -- constant matrices ----------------------------------------------------------------------------

/// Constant matrices are stored for the multiply-add units: panels of `panel_width` outputs, the inputs
/// running slowest inside a panel, [ceil(N / panel_width)][K][panel_width], padded with zeros. One
/// layout serves matrix-vector (stream a panel, broadcast x[k]) and matrix-matrix (a panel is the packed
/// B operand).
inline constexpr std::int64_t panel_width = 32;

/// Inputs that share a scale in the int8 and int4 formats.
inline constexpr std::int64_t group_inputs = 32;

/// Up to so many rows of activations the weights are streamed, not multiplied in blocks.
inline constexpr int few_rows = 4;

/// The other formats inside a panel: bf16 in pairs of inputs, [ceil(K / 2)][panel_width][2]; int8 and int4 in
/// groups of inputs, [ceil(K / group_inputs)] of { fp16 scale [panel_width]; words [..][panel_width] of four
/// bytes }. int8: byte i of word w is input 4 w + i, 128 added. int4: so are the lower halves of the bytes,
/// 8 added; the upper ones are 16 inputs further on.
struct Panels {
  const void* data = nullptr;
  DType dtype = DType::fp32;  // fp32 or fp16, of format exact
  std::int64_t n = 0;
  std::int64_t k = 0;
  MatrixFormat format = MatrixFormat::exact;

  std::int64_t count() const { return (n + panel_width - 1) / panel_width; }
  std::int64_t panel_bytes() const { return inputs_bytes(k); }
  std::size_t bytes() const { return static_cast<std::size_t>(count() * panel_bytes()); }
  /// Bytes of a panel's first inputs, whole pairs or groups.
  std::int64_t inputs_bytes(std::int64_t inputs) const {
    const std::int64_t groups = (inputs + group_inputs - 1) / group_inputs;
    switch (format) {
      case MatrixFormat::bf16:
        return (inputs + 1) / 2 * panel_width * 4;
      case MatrixFormat::int8:
        return groups * panel_width * (2 + group_inputs);
      case MatrixFormat::int4:
        return groups * panel_width * (2 + group_inputs / 2);
      case MatrixFormat::exact:
        break;
    }
    return inputs * panel_width * static_cast<std::int64_t>(dtype_size(dtype));
  }
};

/// A matrix (N, K) in memory: element (n, k) at n * row + k * col.
struct MatrixView {
  const void* data = nullptr;
  DType dtype = DType::fp32;  // fp32 or fp16
  std::int64_t row = 0;
  std::int64_t col = 1;
};

/// Fills `panels.data` (which must be writable, `panels.bytes()` large) from a matrix (N, K). In the int8
/// and int4 formats every value must be finite.
void pack_panels(ThreadPool& pool, const MatrixView& from, const Panels& panels);
/// Writes the panels as the matrix (N, K) that `to` describes; `to.data` must be writable.
void unpack_panels(ThreadPool& pool, const Panels& panels, const MatrixView& to);

/// y (count, K) = rows `ids` of a table (N, K). Error naming the first id outside [0, N).
void gather_rows(ThreadPool& pool, const Panels& table, std::span<const std::int32_t> ids, float* y);
/// The same from a plain matrix with n rows of k elements.
void gather_rows(ThreadPool& pool, const MatrixView& table, std::int64_t n, std::int64_t k,
                 std::span<const std::int32_t> ids, float* y);

/// Bulk conversion between fp32 and fp16 bit patterns (to fp16: nearest even, infinity beyond the range).
void widen(ThreadPool& pool, const std::uint16_t* from, float* to, std::int64_t count);
void narrow(ThreadPool& pool, const float* from, std::uint16_t* to, std::int64_t count);

// -- matrix products ------------------------------------------------------------------------------

enum class Activation : std::uint8_t { none, relu, silu, gelu_erf, gelu_tanh, gelu_sigmoid, sigmoid, tanh };

/// What happens to y = x W^T before it is stored: y += bias; y = activation(y); y *= factor; y += residual.
struct Epilogue {
  const float* bias = nullptr;  // (N,)
  Activation activation = Activation::none;
  const float* factor = nullptr;    // same layout as y
  const float* residual = nullptr;  // same layout as y; may be y itself
};

// Values that only products of bfloat16 read may be kept as those would round them: the same results from
// half the memory. Where `rounded`, `x_rounded` or `a_rounded` is given, it takes the place of the floats;
// rows are as far apart, in elements, and have even lengths.

struct LinearCall {
  const float* x = nullptr;  // (M, K): element (m, k) at m * x_row + k * x_col
  std::int64_t m = 0;
  std::int64_t x_row = 0;
  std::int64_t x_col = 1;
  Panels w;
  float* y = nullptr;  // (M, N): element (m, n) at m * y_row + n * y_col; must not overlap x
  std::int64_t y_row = 0;
  std::int64_t y_col = 1;
  Epilogue epilogue;
  const std::uint16_t* x_rounded = nullptr;  // instead of x: where `rounds_to_bfloat`, x_col 1
  std::uint16_t* rounded = nullptr;          // instead of y: more than few_rows, y_col 1
};

/// y = epilogue(x W^T). Up to four rows stream W once at memory speed; more are multiplied in blocks.
void linear(ThreadPool& pool, const LinearCall& call, std::span<std::byte> scratch);
std::size_t linear_scratch(const LinearCall& call, int threads);
/// Whether such a call rounds x to bfloat16 before anything else; it depends on M and the format of W.
bool rounds_to_bfloat(const LinearCall& call);

/// C (M, N) = epilogue(A (M, K) B (K, N)), every operand with arbitrary strides; what the epilogue reads lies
/// as C does. The residual may be C itself: then the product is added to it. With more inputs than
/// `most_gemm_inputs` there can be neither activation nor factor.
inline constexpr std::int64_t most_gemm_inputs = 4096;

struct GemmCall {
  std::int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;
  std::int64_t a_row = 0, a_col = 1;
  const float* b = nullptr;
  std::int64_t b_row = 0, b_col = 1;
  float* c = nullptr;
  std::int64_t c_row = 0, c_col = 1;
  Epilogue epilogue = {};
  bool bf16 = false;                         // a and b are rounded to bfloat16 before they are multiplied
  const std::uint16_t* a_rounded = nullptr;  // instead of a: `bf16`, a_col 1, K <= most_gemm_inputs
  std::uint16_t* rounded = nullptr;          // instead of c: c_col 1, K <= most_gemm_inputs
};

void gemm(ThreadPool& pool, const GemmCall& call, std::span<std::byte> scratch);
std::size_t gemm_scratch(const GemmCall& call, int threads);
/// Independent products of one size (M, N, K), for example one per head. Needs the scratch of one call.
void gemm(ThreadPool& pool, std::span<const GemmCall> calls, std::span<std::byte> scratch);

// -- attention ------------------------------------------------------------------------------------

/// Elements between neighbouring batches, heads and tokens of a value (B, H, T, D); its D are side by side.
struct HeadRows {
  std::int64_t b = 0, h = 0, t = 0;
  std::int64_t at(std::int64_t batch, std::int64_t head, std::int64_t token) const {
    return batch * b + head * h + token * t;
  }
};

constexpr HeadRows dense_rows(std::int64_t heads, std::int64_t tokens, std::int64_t size) {
  return {heads * tokens * size, tokens * size, size};
}
/// Of a value that is kept as (B, T, H, D).
constexpr HeadRows tokens_first(std::int64_t heads, std::int64_t tokens, std::int64_t size) {
  return {tokens * heads * size, size, heads * size};
}

/// softmax(q k^T * scale + mask) v without storing the scores. q (B, H, T, D), y (B, H, T, Dv),
/// k (B, G, S, D) and v (B, G, S, Dv). Head h reads key/value head h / (H / G). Keys that no
/// query of a call sees are not read. A query that sees no key gives NaN, as the softmax of nothing but
/// -infinity does.
struct AttentionCall {
  const float* q = nullptr;
  HeadRows q_rows = {};
  const void* k = nullptr;  // kv_dtype: fp32 or fp16
  HeadRows k_rows = {};
  const void* v = nullptr;
  HeadRows v_rows = {};
  DType kv_dtype = DType::fp32;
  float* y = nullptr;
  HeadRows y_rows = {};
  std::int64_t b = 0, h = 0, g = 0, t = 0, s = 0, d = 0, dv = 0;
  float scale = 1.0F;
  bool bf16 = false;                       // many queries may round operands to bfloat16
  bool causal = false;                     // query i sees keys j <= i (position: j <= position[b] + i)
  const std::int32_t* position = nullptr;  // (B,): implies causal, counted from there
  const float* mask = nullptr;             // added to the scores; strides below, 0 where it broadcasts
  std::int64_t mask_b = 0, mask_h = 0, mask_t = 0, mask_s = 0;
  std::uint16_t* rounded = nullptr;  // instead of y: more than few_queries
  bool streams = false;              // see RowsCall

  /// One past the last key that query i of batch b sees.
  std::int64_t visible(std::int64_t batch, std::int64_t i) const {
    if (!causal && position == nullptr) return s;
    const std::int64_t end = i + 1 + (position == nullptr ? 0 : position[batch]);
    return end < 0 ? 0 : end < s ? end : s;
  }
};

/// Up to these each query goes through the keys on its own.
inline constexpr std::int64_t few_queries = 8;

void attention(ThreadPool& pool, const AttentionCall& call, std::span<std::byte> scratch);
std::size_t attention_scratch(const AttentionCall& call, int threads);

// -- rows -----------------------------------------------------------------------------------------

/// Independent dense rows, x and y (rows, cols); y may be x.
struct RowsCall {
  const float* x = nullptr;
  float* y = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const float* gamma = nullptr;  // (cols,), multiplied after normalising; null: 1
  const float* beta = nullptr;   // (cols,), added last; null: 0
  float epsilon = 0.0F;
  std::uint16_t* rounded = nullptr;  // instead of y, of norms
  /// Whether whole vectors of y, aligned to lines, go past the caches; the entry points below decide.
  bool streams = false;
};

/// (x - mean) / sqrt(variance + epsilon) * gamma + beta; the variance from the deviations, in a second pass.
void layer_norm(ThreadPool& pool, const RowsCall& call);
/// x / sqrt(mean(x^2) + epsilon) * gamma + beta
void rms_norm(ThreadPool& pool, const RowsCall& call);
/// exp(x - max) / sum; gamma, beta and epsilon are not used.
void softmax(ThreadPool& pool, const RowsCall& call);

/// dx for y = f(x) and dy of it, all dense rows; dx may be x or dy. For norms gamma is what it was in y, and
/// `residual` is added to dx; for softmax x is its result y.
struct RowsGradientCall {
  const float* x = nullptr;
  const float* dy = nullptr;
  float* dx = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const float* gamma = nullptr;
  float epsilon = 0.0F;
  const float* residual = nullptr;  // null: 0
};

void layer_norm_gradient(ThreadPool& pool, const RowsGradientCall& call);
void rms_norm_gradient(ThreadPool& pool, const RowsGradientCall& call);
void softmax_gradient(ThreadPool& pool, const RowsGradientCall& call);

/// Rows of logits and their labels; a row whose label is `ignored` loses nothing. Error naming the first
/// other label outside [0, cols). With `dy` (rows,), y (rows, cols) = (softmax(logits) - one_hot(label)) dy
/// and may be the logits; without, y (rows,) = log(sum(exp(logits))) - logits[label].
struct CrossEntropyCall {
  const float* logits = nullptr;
  const std::int32_t* labels = nullptr;
  const float* dy = nullptr;
  float* y = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t ignored = -100;
};

void cross_entropy(ThreadPool& pool, const CrossEntropyCall& call);

/// y (outer, inner) = factor * the sum of x (outer, size, inner) over its middle axis. Sums of 64 are added
/// up, so that errors stay small.
struct SumCall {
  const float* x = nullptr;
  float* y = nullptr;
  std::int64_t outer = 0, size = 0, inner = 0;
  float factor = 1.0F;
};

void sum(ThreadPool& pool, const SumCall& call);
/// y = the largest of them instead, NaN if one is NaN; the factor is not used.
void largest(ThreadPool& pool, const SumCall& call);

/// Index of the largest element, the first one if several are; the first NaN if there is one.
std::int64_t argmax(const float* x, std::int64_t count);

/// Rotates pairs of each vector of x (B, H, T, D) by the angles whose cosines and sines are given:
/// (u, v) -> (u cos - v sin, v cos + u sin). y may be x.
struct RopeCall {
  const float* x = nullptr;
  float* y = nullptr;
  std::int64_t b = 0, h = 0, t = 0, d = 0;
  HeadRows x_rows = {}, y_rows = {};
  const float* cos = nullptr;  // angle i of token t of batch b at b * table_b + t * table_t + i
  const float* sin = nullptr;
  std::int64_t table_b = 0, table_t = 0;
  bool full_table = false;   // D entries, one per element, instead of D / 2, one per pair
  bool interleaved = false;  // pairs (2i, 2i + 1) instead of (i, i + D / 2)
  bool streams = false;      // see RowsCall
};

void rope(ThreadPool& pool, const RopeCall& call);

// -- elements -------------------------------------------------------------------------------------

enum class Unary : std::uint8_t {
  relu,
  silu,
  gelu_erf,
  gelu_tanh,
  gelu_sigmoid,
  sigmoid,
  tanh,
  exp,
  log,
  sqrt,
  rsqrt,
  erf,
  neg,
  abs,
  square,
  clip
};

struct UnaryCall {
  Unary op = Unary::relu;
  const float* x = nullptr;
  float* y = nullptr;  // may be x
  std::int64_t count = 0;
  float alpha = 0.0F;  // log, rsqrt: added to x first; clip: the least result
  float beta = 0.0F;   // clip: the greatest result
};

void unary(ThreadPool& pool, const UnaryCall& call);

/// The gradients are those of activations: a is x, b what comes back through it.
enum class Binary : std::uint8_t {
  add,
  sub,
  mul,
  real_div,
  maximum,
  minimum,
  pow,
  silu_gradient,
  gelu_erf_gradient,
  gelu_tanh_gradient,
  gelu_sigmoid_gradient
};

/// y (rows, cols), dense, = a op b. An operand's row stride is arbitrary (0 repeats one row); its column
/// stride is 1, or 0 for one value per row: same shape, scalar, row vector and column all fit.
struct BinaryCall {
  Binary op = Binary::add;
  const float* a = nullptr;
  const float* b = nullptr;
  float* y = nullptr;  // may be an operand of the same shape
  std::int64_t rows = 0, cols = 0;
  std::int64_t a_row = 0, a_col = 1;
  std::int64_t b_row = 0, b_col = 1;
};

void binary(ThreadPool& pool, const BinaryCall& call);

/// y (rows, cols) = where ? a : b, strides as in BinaryCall.
struct SelectCall {
  const std::uint8_t* where = nullptr;
  const float* a = nullptr;
  const float* b = nullptr;
  float* y = nullptr;  // may be an operand of the same shape
  std::int64_t rows = 0, cols = 0;
  std::int64_t where_row = 0, where_col = 1;
  std::int64_t a_row = 0, a_col = 1;
  std::int64_t b_row = 0, b_col = 1;
};

void select(ThreadPool& pool, const SelectCall& call);

/// Row ids[i] of a table (n, k) += row i of `from` (count, k), in order. Error naming the first id outside
/// [0, n).
void scatter_add_rows(ThreadPool& pool, const float* from, std::span<const std::int32_t> ids, float* table,
                      std::int64_t n, std::int64_t k);

// -- the optimizer --------------------------------------------------------------------------------

/// dw = g scale; m = beta1 m + (1 - beta1) dw; v = beta2 v + (1 - beta2) dw^2;
/// w = w keep - size m / (sqrt(v) root + epsilon).
struct AdamwCall {
  float* w = nullptr;
  const float* g = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  std::int64_t count = 0;
  float scale = 1.0F, beta1 = 0.0F, beta2 = 0.0F, keep = 1.0F, size = 0.0F, root = 1.0F, epsilon = 0.0F;
};

void adamw(ThreadPool& pool, const AdamwCall& call);

/// The sum of all squares, in parts of a few thousand that are added up in double.
double square_sum(ThreadPool& pool, const float* x, std::int64_t count);

// -- choice of instruction set --------------------------------------------------------------------

/// The instruction set in use: "portable", "avx2", "avx512" or "neon". The best this machine has, unless
/// the environment variable ORION_ISA names a lesser one; Error if it names one unknown or absent here.
std::string_view isa_name();

}  // namespace orion::cpu
