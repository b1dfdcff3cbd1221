#include "ops/slice.h"

#include "orion/ops.h"
#include "orion/split.h"

#include <algorithm>

namespace orion {
namespace {

using Ints = std::vector<std::int64_t>;

void canonical_list(Node& node, std::string_view attr, int rank, std::int64_t fallback) {
  Ints list = node.list(attr);
  if (list.empty()) list.assign(static_cast<std::size_t>(rank), fallback);
  if (list.size() != static_cast<std::size_t>(rank))
    fail(node.op->name, ": ", attr, " has ", list.size(), " entries for a tensor of rank ", rank);
  set_attr(node, attr, std::move(list));
}

void canonical_mask(Node& node, std::string_view attr, int rank) {
  canonical_list(node, attr, rank, 0);
  Ints mask = node.list(attr);
  for (std::int64_t& flag : mask) flag = flag != 0 ? 1 : 0;
  set_attr(node, attr, std::move(mask));
}

AxisSlice resolve_index(const Node& node, int axis, std::int64_t size, std::int64_t index) {
  if (index < -size || index >= size)
    fail(node.op->name, ": index ", index, " is outside axis ", axis, " of size ", size);
  return {.begin = index < 0 ? index + size : index, .squeezed = true};
}

AxisSlice resolve_axis(const Node& node, std::size_t axis, std::int64_t size, std::int64_t begin,
                       std::int64_t end) {
  const std::int64_t stride = std::clamp(node.list("stride")[axis], -size, size);
  if (stride == 0) fail(node.op->name, ": stride of axis ", axis, " is 0");
  // The positions a step may start from or stop before, one beyond the tensor on the stopping side.
  const std::int64_t low = stride > 0 ? 0 : -1;
  const std::int64_t high = stride > 0 ? size : size - 1;
  const auto position = [&](std::int64_t index) {
    return std::clamp(index < 0 ? index + size : index, low, high);
  };
  const std::int64_t first = node.list("begin_mask")[axis] != 0 ? (stride > 0 ? low : high) : position(begin);
  const std::int64_t stop = node.list("end_mask")[axis] != 0 ? (stride > 0 ? high : low) : position(end);
  const std::int64_t span = stride > 0 ? stop - first : first - stop;
  if (span <= 0)
    fail(node.op->name, ": axis ", axis, " of size ", size, " from ", begin, " to ", end, " in steps of ",
         node.list("stride")[axis], " is empty");
  const std::int64_t count = 1 + (span - 1) / std::abs(stride);
  return {.begin = first, .count = count, .stride = count == 1 ? 1 : stride};
}

bool takes_all(const Slice& slice, const Shape& shape) {
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const AxisSlice& s = slice[static_cast<std::size_t>(axis)];
    if (s.count != shape[axis] || s.stride < 0 || s.squeezed) return false;
  }
  return true;
}

Shape counts(const Slice& slice) {
  Shape shape;
  for (const AxisSlice& s : slice) shape.append(s.count);
  return shape;
}

void set_slice(Node& node, const SliceAttrs& attrs) {
  set_attr(node, "begin", attrs.begin);
  set_attr(node, "end", attrs.end);
  set_attr(node, "stride", attrs.stride);
  set_attr(node, "begin_mask", attrs.begin_mask);
  set_attr(node, "end_mask", attrs.end_mask);
  set_attr(node, "squeeze_mask", attrs.squeeze_mask);
}

TensorType slice_type(const Graph& graph, Node& node) {
  const TensorType& x = operand(graph, node, 0);
  canonical_slice_lists(node, x.shape.rank());
  const Slice slice = resolve_slice(node, x.shape, node.list("begin"), node.list("end"));
  set_slice(node, slice_attrs(slice));
  return {x.dtype, sliced_shape(slice)};
}

void slice_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  const Slice slice = resolve_slice(call.node, x.shape, call.node.list("begin"), call.node.list("end"));
  for_each_sliced(x.shape, slice,
                  [&](std::int64_t i, std::int64_t at) { copy_elements(x, at, call.out, i); });
}

std::vector<Value> slice_gradient(const GradientCall& c) {
  const Shape& shape = c.in[0].shape();
  return {put_back(c.dy, shape, resolve_slice(c.node, shape, c.node.list("begin"), c.node.list("end")))};
}

}  // namespace

void canonical_slice_lists(Node& node, int rank) {
  canonical_list(node, "stride", rank, 1);
  for (const std::string_view mask : {"begin_mask", "end_mask", "squeeze_mask"})
    canonical_mask(node, mask, rank);
}

Slice resolve_slice(const Node& node, const Shape& x, std::span<const std::int64_t> begin,
                    std::span<const std::int64_t> end) {
  const auto rank = static_cast<std::size_t>(x.rank());
  if (begin.size() != rank || end.size() != rank)
    fail(node.op->name, ": begin has ", begin.size(), " and end has ", end.size(),
         " entries for a tensor of rank ", rank);
  Slice slice;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    const std::int64_t size = x[static_cast<int>(axis)];
    const std::int64_t index = node.list("begin_mask")[axis] != 0 ? 0 : begin[axis];
    slice.push_back(node.list("squeeze_mask")[axis] != 0
                        ? resolve_index(node, static_cast<int>(axis), size, index)
                        : resolve_axis(node, axis, size, begin[axis], end[axis]));
  }
  return slice;
}

// A backward slice that reaches element 0 stops at -1, which only end_mask can say.
SliceAttrs slice_attrs(const Slice& slice) {
  SliceAttrs attrs;
  for (const AxisSlice& s : slice) {
    const std::int64_t end = s.begin + (s.count - 1) * s.stride + (s.stride > 0 ? 1 : -1);
    attrs.begin.push_back(s.begin);
    attrs.end.push_back(std::max<std::int64_t>(end, 0));
    attrs.stride.push_back(s.stride);
    attrs.begin_mask.push_back(0);
    attrs.end_mask.push_back(end < 0 ? 1 : 0);
    attrs.squeeze_mask.push_back(s.squeezed ? 1 : 0);
  }
  return attrs;
}

Shape sliced_shape(const Slice& slice) {
  Shape shape;
  for (const AxisSlice& s : slice)
    if (!s.squeezed) shape.append(s.count);
  return shape;
}

Value take(Value x, const Slice& slice) {
  if (takes_all(slice, x.shape())) return x;
  const SliceAttrs a = slice_attrs(slice);
  return ops::slice_by_index(x, a.begin, a.end, a.stride, a.begin_mask, a.end_mask, a.squeeze_mask);
}

Value put_back(Value dy, const Shape& shape, const Slice& slice) {
  if (takes_all(slice, shape)) return dy;
  dy = reshaped(dy, counts(slice));
  if (std::ranges::all_of(slice, [](const AxisSlice& s) { return s.stride == 1; })) {
    Ints pad;
    for (int axis = 0; axis < shape.rank(); ++axis) {
      const AxisSlice& s = slice[static_cast<std::size_t>(axis)];
      pad.insert(pad.end(), {s.begin, shape[axis] - s.begin - s.count});
    }
    return ops::pad(dy, pad);
  }
  Graph& graph = dy.owner();
  const SliceAttrs a = slice_attrs(slice);
  return ops::slice_update(zeros(graph, {dy.dtype(), shape}), dy, ints(graph, a.begin), ints(graph, a.end),
                           a.stride, a.begin_mask, a.end_mask);
}

std::vector<Value> split(Value x, std::span<const std::int64_t> sizes, std::int64_t axis) {
  const Shape shape = x.shape();
  const int rank = shape.rank();
  if (axis < -rank || axis >= rank) fail("split: axis ", axis, " is not an axis of a tensor of rank ", rank);
  const auto along = static_cast<int>(axis < 0 ? axis + rank : axis);
  Slice slice;
  for (const std::int64_t size : shape) slice.push_back({.count = size});
  AxisSlice& piece = slice[static_cast<std::size_t>(along)];
  std::int64_t left = shape[along];
  std::vector<Value> pieces;
  for (const std::int64_t size : sizes) {
    if (size < 1 || size > left)
      fail("split: a piece of size ", size, " where ", left, " of axis ", axis, " are left");
    piece = {.begin = shape[along] - left, .count = size};
    pieces.push_back(take(x, slice));
    left -= size;
  }
  if (left != 0) fail("split: the sizes leave ", left, " of axis ", axis, ", which has ", shape[along]);
  return pieces;
}

std::vector<Value> split(Value x, std::int64_t num_splits, std::int64_t axis) {
  const int rank = x.shape().rank();
  if (axis < -rank || axis >= rank) fail("split: axis ", axis, " is not an axis of a tensor of rank ", rank);
  const std::int64_t size = x.shape()[static_cast<int>(axis < 0 ? axis + rank : axis)];
  if (num_splits < 1 || size % num_splits != 0)
    fail("split: axis ", axis, " of size ", size, " does not divide into ", num_splits, " equal pieces");
  return split(x, Ints(static_cast<std::size_t>(num_splits), size / num_splits), axis);
}

OpDef slice_by_index_op() {
  return {.name = "slice_by_index",
          .doc =
              "x[begin:end:stride] on every axis, as in NumPy.\n\nNegative indices count from the end; "
              "ends beyond the tensor are cut. Where begin_mask or end_mask is set the slice starts or ends "
              "at the edge. Where squeeze_mask is set the axis is indexed by begin and disappears. An empty "
              "result is an error.",
          .args = {{"x"}},
          .attrs = {{"begin", AttrKind::integers},
                    {"end", AttrKind::integers},
                    {"stride", AttrKind::integers, Ints{}},
                    {"begin_mask", AttrKind::booleans, Ints{}},
                    {"end_mask", AttrKind::booleans, Ints{}},
                    {"squeeze_mask", AttrKind::booleans, Ints{}}},
          .infer = slice_type,
          .kernel = slice_kernel,
          .gradient = slice_gradient};
}

}  // namespace orion
