#include "ops/rules.h"

#include "base/f16.h"
#include "orion/ops.h"

#include <algorithm>
#include <numeric>

namespace orion {

const TensorType& operand(const Graph& graph, const Node& node, std::size_t arg) {
  return graph.node(node.inputs[arg]).type;
}

bool given(const Node& node, std::size_t arg) {
  return arg < node.inputs.size() && node.inputs[arg] != absent;
}

std::string_view arg_name(const Node& node, std::size_t arg) {
  return node.op->args[std::min(arg, node.op->args.size() - 1)].name;
}

void require_float(const Graph& graph, const Node& node, std::size_t arg) {
  const TensorType& type = operand(graph, node, arg);
  if (!is_float(type.dtype))
    fail(node.op->name, ": ", arg_name(node, arg), " is ", type, ", fp16 or fp32 is needed");
}

void require_dtype(const Graph& graph, const Node& node, std::size_t arg, DType dtype) {
  const TensorType& type = operand(graph, node, arg);
  if (type.dtype != dtype)
    fail(node.op->name, ": ", arg_name(node, arg), " is ", type, ", ", dtype, " is needed");
}

void require_number(const Graph& graph, const Node& node, std::size_t arg) {
  const TensorType& type = operand(graph, node, arg);
  if (type.dtype == DType::boolean)
    fail(node.op->name, ": ", arg_name(node, arg), " is ", type, ", numbers are needed");
}

void require_same_dtype(const Graph& graph, const Node& node, std::size_t first, std::size_t second) {
  const TensorType& a = operand(graph, node, first);
  const TensorType& b = operand(graph, node, second);
  if (a.dtype != b.dtype)
    fail(node.op->name, ": ", arg_name(node, first), " is ", a.dtype, " but ", arg_name(node, second), " is ",
         b.dtype, "; cast one of them");
}

void require_same_shape(const Graph& graph, const Node& node, std::size_t first, std::size_t second) {
  const Shape& wanted = operand(graph, node, first).shape;
  const Shape& given = operand(graph, node, second).shape;
  if (given != wanted)
    fail(node.op->name, ": ", arg_name(node, second), " is ", given, ", ", arg_name(node, first), " is ",
         wanted);
}

Shape broadcast(const Node& node, const Shape& a, const Shape& b) {
  Shape result = Shape::ones(std::max(a.rank(), b.rank()));
  for (int i = 1; i <= result.rank(); ++i) {
    const std::int64_t size_a = i <= a.rank() ? a[a.rank() - i] : 1;
    const std::int64_t size_b = i <= b.rank() ? b[b.rank() - i] : 1;
    if (size_a != size_b && size_a != 1 && size_b != 1)
      fail(node.op->name, ": shapes ", a, " and ", b, " do not broadcast");
    result.set(result.rank() - i, std::max(size_a, size_b));
  }
  return result;
}

std::int64_t normal_axis(const Node& node, std::string_view attr, std::int64_t axis, int rank) {
  if (axis < -rank || axis >= rank)
    fail(node.op->name, ": ", attr, " ", axis, " is not an axis of a tensor of rank ", rank);
  return axis < 0 ? axis + rank : axis;
}

int canonical_axis(Node& node, std::string_view attr, int rank) {
  const std::int64_t axis = normal_axis(node, attr, node.integer(attr), rank);
  set_attr(node, attr, axis);
  return static_cast<int>(axis);
}

void canonical_axes(Node& node, std::string_view attr, int rank, bool empty_means_all) {
  std::vector<std::int64_t> axes = node.list(attr);
  for (std::int64_t& axis : axes) axis = normal_axis(node, attr, axis, rank);
  if (axes.empty() && empty_means_all) {
    axes.resize(static_cast<std::size_t>(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  std::ranges::sort(axes);
  if (std::ranges::adjacent_find(axes) != axes.end()) fail(node.op->name, ": ", attr, " names an axis twice");
  set_attr(node, attr, std::move(axes));
}

void canonical_number(Node& node, std::string_view attr, DType dtype) {
  const auto single = static_cast<float>(node.number(attr));
  set_attr(node, attr, static_cast<double>(dtype == DType::fp16 ? round_to_half(single) : single));
}

Shape with_ones(const Shape& shape, std::span<const std::int64_t> axes) {
  Shape kept = shape;
  for (const std::int64_t axis : axes) kept.set(static_cast<int>(axis), 1);
  return kept;
}

bool is_constant(const Graph& graph, const Node& node, std::size_t arg) {
  const Node& source = graph.node(node.inputs[arg]);
  return source.is("const") || source.is("weight");
}

bool not_in_mil(const Graph&, const Node&) {
  return false;
}

void set_attr(Node& node, std::string_view attr, Attr value) {
  node.attrs[node.op->attr_index(attr).value()] = std::move(value);
}

Strides broadcast_strides(const Shape& from, const Shape& to) {
  Strides strides{};
  const int offset = to.rank() - from.rank();
  for (int axis = 0; axis < from.rank(); ++axis)
    strides[static_cast<std::size_t>(axis + offset)] = from[axis] == 1 ? 0 : from.stride(axis);
  return strides;
}

void copy_elements(const View& from, std::int64_t from_at, const View& to, std::int64_t to_at,
                   std::int64_t count) {
  const auto size = static_cast<std::int64_t>(dtype_size(from.dtype));
  std::copy_n(from.as<std::byte>() + from_at * size, count * size, to.as<std::byte>() + to_at * size);
}

Value sum_to(Value dy, const Shape& shape) {
  const Shape& from = dy.shape();
  if (from == shape) return dy;
  std::vector<std::int64_t> axes;
  const int offset = from.rank() - shape.rank();
  for (int axis = 0; axis < from.rank(); ++axis)
    if (axis < offset || (shape[axis - offset] == 1 && from[axis] != 1)) axes.push_back(axis);
  return reshaped(axes.empty() ? dy : ops::reduce_sum(dy, axes, true), shape);
}

Value reshaped(Value x, const Shape& shape) {
  return x.shape() == shape ? x : ops::reshape(x, {shape.begin(), shape.end()});
}

Value cast_like(Value x, Value like) {
  return ops::cast(x, std::string(dtype_name(like.dtype())));
}

Value scalar_like(Value like, double value) {
  return like.owner().scalar(like.dtype(), value);
}

Value zeros(Graph& graph, const TensorType& type) {
  const Value zero = graph.scalar(type.dtype, 0.0);
  return type.shape.rank() == 0 ? zero : ops::broadcast_to(zero, {type.shape.begin(), type.shape.end()});
}

Value ints(Graph& graph, std::span<const std::int64_t> values) {
  std::vector<std::int32_t> narrow;
  for (const std::int64_t value : values) narrow.push_back(static_cast<std::int32_t>(value));
  return graph.constant(Tensor::from_ints(narrow));
}

Value counting(Graph& graph, std::int64_t count) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return ints(graph, numbers);
}

}  // namespace orion
