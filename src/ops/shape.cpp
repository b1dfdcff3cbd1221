// Ops that move elements without computing; slices are in slice.cpp.
#include "ops/families.h"
#include "ops/rules.h"
#include "ops/slice.h"
#include "orion/ops.h"

#include <algorithm>

namespace orion {
namespace {

using Ints = std::vector<std::int64_t>;
using Values = std::vector<Value>;

Shape checked_shape(const Node& node, const Ints& sizes) {
  if (sizes.size() > Shape::max_rank)
    fail(node.op->name, ": a result of rank ", sizes.size(), ", at most ", Shape::max_rank, " is possible");
  for (const std::int64_t size : sizes)
    if (size < 1) fail(node.op->name, ": shape has a size of ", size, ", at least 1 is needed");
  return Shape(sizes);
}

// -- reshape --------------------------------------------------------------------------------------

// A 0 copies the axis of x that is as far from the end, or is 1 where x has none.
void fill_zeros(Ints& shape, const Shape& x) {
  const std::int64_t offset = x.rank() - static_cast<std::int64_t>(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::int64_t axis = offset + static_cast<std::int64_t>(i);
    if (shape[i] == 0) shape[i] = axis >= 0 ? x[static_cast<int>(axis)] : 1;
  }
}

// A -1 takes what the other sizes leave of `size`.
void fill_rest(const Node& node, Ints& shape, std::int64_t size) {
  const auto rest = std::ranges::find(shape, -1);
  if (rest == shape.end()) return;
  if (std::ranges::count(shape, -1) > 1) fail("reshape: shape has more than one -1");
  *rest = 1;
  *rest = std::max<std::int64_t>(1, size / checked_shape(node, shape).size());
}

TensorType reshape_type(const Graph& graph, Node& node) {
  const TensorType& x = operand(graph, node, 0);
  Ints wanted = node.list("shape");
  fill_zeros(wanted, x.shape);
  fill_rest(node, wanted, x.shape.size());
  const Shape shape = checked_shape(node, wanted);
  if (shape.size() != x.shape.size())
    fail("reshape: ", x.shape, " has ", x.shape.size(), " elements, ", shape, " has ", shape.size());
  set_attr(node, "shape", std::move(wanted));
  return {x.dtype, shape};
}

void copy_kernel(const KernelCall& call) {
  copy_elements(call.in[0], 0, call.out, 0, call.out.shape.size());
}

Values reshape_gradient(const GradientCall& c) {
  return {reshaped(c.dy, c.in[0].shape())};
}

// -- transpose ------------------------------------------------------------------------------------

TensorType transpose_type(const Graph& graph, Node& node) {
  const TensorType& x = operand(graph, node, 0);
  Ints perm = node.list("perm");
  if (perm.size() != static_cast<std::size_t>(x.shape.rank()))
    fail("transpose: perm has ", perm.size(), " entries for a tensor of rank ", x.shape.rank());
  Shape shape;
  for (std::int64_t& axis : perm) {
    axis = normal_axis(node, "perm", axis, x.shape.rank());
    shape.append(x.shape[static_cast<int>(axis)]);
  }
  Ints sorted = perm;
  std::ranges::sort(sorted);
  if (std::ranges::adjacent_find(sorted) != sorted.end()) fail("transpose: perm names an axis twice");
  set_attr(node, "perm", std::move(perm));
  return {x.dtype, shape};
}

void transpose_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  const Ints& perm = call.node.list("perm");
  std::array<Strides, 1> strides{};
  for (std::size_t axis = 0; axis < perm.size(); ++axis)
    strides[0][axis] = x.shape.stride(static_cast<int>(perm[axis]));
  for_each<1>(call.out.shape, strides,
              [&](std::int64_t i, const auto& at) { copy_elements(x, at[0], call.out, i); });
}

Values transpose_gradient(const GradientCall& c) {
  const Ints& perm = c.node.list("perm");
  Ints inverse(perm.size());
  for (std::size_t axis = 0; axis < perm.size(); ++axis)
    inverse[static_cast<std::size_t>(perm[axis])] = static_cast<std::int64_t>(axis);
  return {ops::transpose(c.dy, inverse)};
}

// -- broadcast_to ---------------------------------------------------------------------------------

TensorType broadcast_to_type(const Graph& graph, Node& node) {
  const TensorType& x = operand(graph, node, 0);
  const Shape shape = checked_shape(node, node.list("shape"));
  if (broadcast(node, x.shape, shape) != shape)
    fail("broadcast_to: ", x.shape, " does not stretch to ", shape);
  return {x.dtype, shape};
}

void broadcast_to_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  const std::array<Strides, 1> strides = {broadcast_strides(x.shape, call.out.shape)};
  for_each<1>(call.out.shape, strides,
              [&](std::int64_t i, const auto& at) { copy_elements(x, at[0], call.out, i); });
}

Values broadcast_to_gradient(const GradientCall& c) {
  return {sum_to(c.dy, c.in[0].shape())};
}

// The smallest shape that stretches x: 1 on the axes x has already.
Shape stretch(const Shape& x, const Shape& to) {
  Shape shape = to;
  const int offset = to.rank() - x.rank();
  for (int axis = 0; axis < x.rank(); ++axis)
    if (x[axis] == to[axis + offset]) shape.set(axis + offset, 1);
  return shape;
}

Tensor filled(DType dtype, const Shape& shape, std::int32_t value) {
  Tensor tensor(TensorType{DType::int32, shape});
  std::ranges::fill(tensor.as<std::int32_t>(), value);
  return convert(tensor, dtype);
}

// MIL has no broadcast: multiplying by ones keeps every value, NaN and -0 included.
Value expand_broadcast_to(const ExpandCall& c) {
  const Value x = c.in[0];
  const Shape shape = stretch(x.shape(), c.node.type.shape);
  const Value ones = c.graph.constant(filled(x.dtype(), shape, 1));
  if (x.dtype() != DType::boolean) return ops::mul(x, ones);
  return ops::select(x, ones, c.graph.constant(filled(DType::boolean, shape, 0)));
}

// -- concat ---------------------------------------------------------------------------------------

void check_joins(const Graph& graph, const Node& node, std::size_t arg, int axis) {
  require_same_dtype(graph, node, 0, arg);
  const Shape& first = operand(graph, node, 0).shape;
  Shape other = operand(graph, node, arg).shape;
  if (other.rank() == first.rank() && !node.flag("interleave")) other.set(axis, first[axis]);
  if (other != first)
    fail("concat: value ", arg, " is ", operand(graph, node, arg).shape, ", the first is ", first,
         node.flag("interleave") ? "; interleave needs equal shapes" : "; only the axis may differ");
}

TensorType concat_type(const Graph& graph, Node& node) {
  const TensorType& first = operand(graph, node, 0);
  const int axis = canonical_axis(node, "axis", first.shape.rank());
  std::int64_t size = 0;
  for (std::size_t arg = 0; arg < node.inputs.size(); ++arg) {
    check_joins(graph, node, arg, axis);
    size += operand(graph, node, arg).shape[axis];
  }
  Shape shape = first.shape;
  shape.set(axis, size);
  return {first.dtype, shape};
}

void concat_kernel(const KernelCall& call) {
  std::vector<Shape> shapes;
  for (const View& value : call.in) shapes.push_back(value.shape);
  for (std::size_t arg = 0; arg < call.in.size(); ++arg)
    for_each_sliced(call.out.shape, place_in_concat(call.node, shapes, arg),
                    [&](std::int64_t i, std::int64_t at) { copy_elements(call.in[arg], i, call.out, at); });
}

Values concat_gradient(const GradientCall& c) {
  std::vector<Shape> shapes;
  for (const Value& value : c.in) shapes.push_back(value.shape());
  Values gradients;
  for (std::size_t arg = 0; arg < c.in.size(); ++arg)
    gradients.push_back(take(c.dy, place_in_concat(c.node, shapes, arg)));
  return gradients;
}

// -- pad ------------------------------------------------------------------------------------------

// Two sizes, before and after, for each axis of x; MIL lets the first axes be left out.
Ints full_pad(const Node& node, int rank) {
  Ints pad = node.list("pad");
  const auto wanted = static_cast<std::size_t>(2 * rank);
  if (pad.size() % 2 != 0 || pad.size() > wanted)
    fail("pad: pad has ", pad.size(), " entries, two for each of the last axes of a tensor of rank ", rank,
         " are needed");
  for (const std::int64_t size : pad)
    if (size < 0) fail("pad: ", size, " is negative; use slice_by_index to cut");
  pad.insert(pad.begin(), wanted - pad.size(), 0);
  return pad;
}

TensorType pad_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  const TensorType& x = operand(graph, node, 0);
  if (node.text("mode") != "constant") fail("pad: mode '", node.text("mode"), "', only 'constant' is known");
  canonical_number(node, "constant_val", x.dtype);
  Ints pad = full_pad(node, x.shape.rank());
  Shape shape;
  for (int axis = 0; axis < x.shape.rank(); ++axis) {
    const auto a = static_cast<std::size_t>(axis);
    constexpr std::int64_t most = std::int64_t{1} << 31;
    if (pad[2 * a] > most || pad[2 * a + 1] > most) fail("pad: more than ", most, " elements on axis ", axis);
    shape.append(pad[2 * a] + x.shape[axis] + pad[2 * a + 1]);
  }
  set_attr(node, "pad", std::move(pad));
  return {x.dtype, shape};
}

void pad_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  std::fill_n(call.out.as<float>(), call.out.shape.size(),
              static_cast<float>(call.node.number("constant_val")));
  for_each_sliced(call.out.shape, place_in_pad(call.node, x.shape),
                  [&](std::int64_t i, std::int64_t at) { copy_elements(x, i, call.out, at); });
}

Values pad_gradient(const GradientCall& c) {
  return {take(c.dy, place_in_pad(c.node, c.in[0].shape()))};
}

}  // namespace

// What operand `arg` fills of the result.
Slice place_in_concat(const Node& node, std::span<const Shape> operands, std::size_t arg) {
  const auto axis = static_cast<std::size_t>(node.integer("axis"));
  Slice slice;
  for (const std::int64_t size : operands[arg]) slice.push_back({.count = size});
  if (node.flag("interleave")) {
    slice[axis].begin = static_cast<std::int64_t>(arg);
    slice[axis].stride = static_cast<std::int64_t>(operands.size());
  } else {
    for (const Shape& before : operands.first(arg)) slice[axis].begin += before[static_cast<int>(axis)];
  }
  return slice;
}

Slice place_in_pad(const Node& node, const Shape& x) {
  const std::vector<std::int64_t>& pad = node.list("pad");
  Slice slice;
  for (int axis = 0; axis < x.rank(); ++axis)
    slice.push_back({.begin = pad[2 * static_cast<std::size_t>(axis)], .count = x[axis]});
  return slice;
}

std::span<const OpDef> shape_ops() {
  static const std::vector<OpDef> table = {
      {.name = "reshape",
       .doc =
           "The elements of x in row-major order under another shape.\n\nOne -1 stands for what is left; a "
           "0 copies the size of the axis of x that is as far from the end (1 if there is none).",
       .args = {{"x"}},
       .attrs = {{"shape", AttrKind::integers}},
       .infer = reshape_type,
       .kernel = copy_kernel,
       .gradient = reshape_gradient},
      {.name = "transpose",
       .doc = "x with its axes in the order perm: axis i of the result is axis perm[i] of x.",
       .args = {{"x"}},
       .attrs = {{"perm", AttrKind::integers}},
       .infer = transpose_type,
       .kernel = transpose_kernel,
       .gradient = transpose_gradient},
      {.name = "broadcast_to",
       .doc = "x repeated along its axes of size 1, and along new leading axes, to a shape.",
       .args = {{"x"}},
       .attrs = {{"shape", AttrKind::integers}},
       .infer = broadcast_to_type,
       .kernel = broadcast_to_kernel,
       .gradient = broadcast_to_gradient,
       .expand = expand_broadcast_to,
       .in_mil = not_in_mil},
      {.name = "concat",
       .doc = "Tensors joined along an axis.\n\nWith interleave, which needs equal shapes, their elements "
              "alternate along the axis.",
       .args = {{"values", ArgKind::variadic}},
       .attrs = {{"axis", AttrKind::integer}, {"interleave", AttrKind::boolean, false}},
       .infer = concat_type,
       .kernel = concat_kernel,
       .gradient = concat_gradient},
      {.name = "pad",
       .doc = "x with constant_val around it.\n\npad holds two sizes, before and after, for each axis; the "
              "first axes may be left out.",
       .args = {{"x"}},
       .attrs = {{"pad", AttrKind::integers},
                 {"mode", AttrKind::text, std::string("constant")},
                 {"constant_val", AttrKind::number, 0.0}},
       .infer = pad_type,
       .kernel = pad_kernel,
       .gradient = pad_gradient},
      slice_by_index_op(),
  };
  return table;
}

}  // namespace orion
