// Products with constants as 1x1 convolutions: what the engine is made for. Runtime operands keep matmul.
//
// A row of a matrix is a channel of (1, C, 1, S); S counts everything else.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace orion::ane {
namespace {

using Ints = std::vector<std::int64_t>;

Ints sizes(const Shape& shape) {
  return {shape.begin(), shape.end()};
}

Value swapped(Value x) {
  Ints perm(static_cast<std::size_t>(x.shape().rank()));
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return ops::transpose(x, perm);
}

// x (..., K, S) -> (1, K, 1, B S), with B the product of the leading axes.
Value as_channels(Value x) {
  const Shape shape = x.shape();
  const std::int64_t k = shape[shape.rank() - 2];
  const std::int64_t columns = shape.size() / k;
  if (columns == shape.back()) return reshaped(x, {1, k, 1, columns});
  return reshaped(swapped(ops::reshape(swapped(x), {columns, k})), {1, k, 1, columns});
}

// (1, N, 1, B S) -> (..., N, S), whose leading axes multiply to B.
Value from_channels(Value y, const Shape& shape) {
  if (y.shape().size() == shape[shape.rank() - 2] * shape.back()) return reshaped(y, shape);
  const std::int64_t n = y.shape()[1];
  Ints turned = sizes(shape);
  std::swap(turned[turned.size() - 1], turned[turned.size() - 2]);
  const Value rows = swapped(reshaped(y, {n, y.shape()[3]}));
  return swapped(ops::reshape(rows, turned));
}

// w (..., N, K) with leading ones -> (N, K, 1, 1)
Value as_kernel(Value w) {
  const Shape shape = w.shape();
  return reshaped(w, {shape[shape.rank() - 2], shape.back(), 1, 1});
}

bool is_matrix(Value w) {
  const Shape& shape = w.shape();
  return shape.size() == shape[shape.rank() - 2] * shape.back();
}

Shape turned(Shape shape) {
  const std::int64_t rows = shape[shape.rank() - 2];
  const std::int64_t columns = shape.back();
  shape.set(shape.rank() - 2, columns);
  shape.set(shape.rank() - 1, rows);
  return shape;
}

// x (..., M, K) @ w (K, N) -> (..., M, N): the transpose of w^T @ x^T.
Value constant_right(const RewriteCall& call) {
  const Value x = call.node.flag("transpose_x") ? call.in[0] : swapped(call.in[0]);
  const Value kernel = as_kernel(call.node.flag("transpose_y") ? call.in[1] : swapped(call.in[1]));
  return swapped(from_channels(ops::conv(as_channels(x), kernel), turned(call.node.type.shape)));
}

// w (N, K) @ x (..., K, S) -> (..., N, S)
Value constant_left(const RewriteCall& call) {
  const Value kernel = as_kernel(call.node.flag("transpose_x") ? swapped(call.in[0]) : call.in[0]);
  const Value x = call.node.flag("transpose_y") ? swapped(call.in[1]) : call.in[1];
  return from_channels(ops::conv(as_channels(x), kernel), call.node.type.shape);
}

// The axes to sum first, then the others; and whether that moves more than ones.
Value summed_first(Value x, const Ints& axes) {
  Ints perm = axes;
  const Shape shape = x.shape();
  for (std::int64_t axis = 0; axis < shape.rank(); ++axis)
    if (std::ranges::count(axes, axis) == 0) perm.push_back(axis);
  Ints moved;
  for (const std::int64_t axis : perm)
    if (shape[static_cast<int>(axis)] != 1) moved.push_back(axis);
  return std::ranges::is_sorted(moved) ? x : ops::transpose(x, perm);
}

// The power of two by which `count` products of numbers within [-1, 1] may be multiplied: their sum stays
// below 2^15, and small ones are not lost.
double sum_scale(std::int64_t count) {
  constexpr auto most = static_cast<std::uint64_t>(1) << 14U;
  return static_cast<double>(
      std::max<std::uint64_t>(1, std::bit_floor(most / static_cast<std::uint64_t>(count))));
}

Value filled(Graph& graph, DType dtype, const Shape& shape, double value) {
  const Tensor tensor({DType::fp32, shape});
  std::ranges::fill(tensor.as<float>(), static_cast<float>(value));
  return graph.constant(convert(tensor, dtype), "ones");
}

// The engine sums narrow and multiplies matrices wide, so the sum is a product with ones.
Value scaled_sum(Value x, const Ints& axes, double factor) {
  const Shape kept = with_ones(x.shape(), axes);
  const std::int64_t rows = kept.size();
  const std::int64_t count = x.shape().size() / rows;
  const Value columns = reshaped(summed_first(x, axes), {1, count, 1, rows});
  const Value factors = filled(x.owner(), x.dtype(), {1, count, 1, 1}, factor);
  return reshaped(ops::conv(columns, factors), kept);
}

}  // namespace

bool is_pointwise(const Node& conv, const Shape& kernel) {
  const auto is_one = [](std::int64_t stride) { return stride == 1; };
  return kernel.size() == kernel[0] * kernel[1] && conv.integer("groups") == 1 &&
         conv.text("pad_type") == "valid" && std::ranges::all_of(conv.list("strides"), is_one);
}

bool is_known(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (node.is("const") || node.is("weight")) return true;
  const bool is_view = node.is("reshape") || node.is("transpose") || node.is("slice_by_index");
  return is_view && is_known(graph, node.inputs[0]);
}

Value wide_sum(Value x, const Ints& axes) {
  return scaled_sum(x, axes, 1.0);
}

Value bounded_mean(Value x, const Ints& axes) {
  const std::int64_t count = x.shape().size() / with_ones(x.shape(), axes).size();
  const double scale = sum_scale(count);
  return ops::mul(scaled_sum(x, axes, scale), scalar_like(x, 1.0 / scale / static_cast<double>(count)));
}

//   %1 (1, 32, 96) = matmul(x=%0, y=%w)                w (64, 96)
// becomes
//   %1 (1, 64, 1, 32) = transposed and reshaped %0
//   %2 (1, 96, 1, 32) = conv(x=%1, weight=%w^T)        w^T (96, 64, 1, 1)
//   %3 (1, 32, 96) = reshaped and transposed %2
Graph products_as_convolutions(const Graph& graph) {
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    if (!call.node.is("matmul")) return {};
    const bool left = is_known(call.graph, call.in[0].id) && is_matrix(call.in[0]);
    const bool right = is_known(call.graph, call.in[1].id) && is_matrix(call.in[1]);
    if (right && !left) return constant_right(call);
    return left && !right ? constant_left(call) : Value{};
  });
}

}  // namespace orion::ane
