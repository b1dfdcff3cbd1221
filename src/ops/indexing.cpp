// Ops whose operands say where to read or write. Indices come from run-time data: every one is checked.
#include "ops/families.h"
#include "ops/rules.h"
#include "ops/slice.h"
#include "orion/ops.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

namespace orion {
namespace {

using Ints = std::vector<std::int64_t>;
using Values = std::vector<Value>;

// Product of the sizes of axes [from, to).
std::int64_t volume(const Shape& shape, int from, int to) {
  return std::accumulate(shape.begin() + from, shape.begin() + to, std::int64_t{1}, std::multiplies<>());
}

// Index i of `indices` as a position in [0, size); negative ones count from the end.
std::int64_t checked_index(const KernelCall& call, const View& indices, std::int64_t i, std::int64_t size) {
  const std::int64_t index = indices.as<std::int32_t>()[i];
  if (index < -size || index >= size)
    fail(call.node.op->name, ": index ", index, " (element ", i, " of indices) is outside axis ",
         call.node.integer("axis"), " of size ", size);
  return index < 0 ? index + size : index;
}

void append_axes(Shape& shape, const Shape& from, int begin, int end) {
  for (int axis = begin; axis < end; ++axis) shape.append(from[axis]);
}

// -- gather ---------------------------------------------------------------------------------------

// The axes before and after the one gathered along, and what is gathered, as sizes:
// x (batch, outer, size, inner), indices (batch, picks) -> (batch, outer, picks, inner).
struct GatherSizes {
  std::int64_t batch, outer, size, inner, picks;
};

GatherSizes gather_sizes(const Node& node, const Shape& x, const Shape& indices) {
  const auto axis = static_cast<int>(node.integer("axis"));
  const auto batch_dims = static_cast<int>(node.integer("batch_dims"));
  return {volume(x, 0, batch_dims), volume(x, batch_dims, axis), x[axis], volume(x, axis + 1, x.rank()),
          volume(indices, batch_dims, indices.rank())};
}

void check_batch(const Node& node, const Shape& x, const Shape& indices, int axis) {
  const std::int64_t batch_dims = node.integer("batch_dims");
  if (batch_dims < 0 || batch_dims > axis || batch_dims > indices.rank())
    fail("gather: batch_dims is ", batch_dims, ", it must be from 0 to the axis (", axis,
         ") and to the rank of indices (", indices.rank(), ")");
  for (int i = 0; i < batch_dims; ++i)
    if (x[i] != indices[i])
      fail("gather: x ", x, " and indices ", indices, " differ in their first ", batch_dims, " axes");
}

TensorType gather_type(const Graph& graph, Node& node) {
  require_number(graph, node, 0);
  require_dtype(graph, node, 1, DType::int32);
  const TensorType& x = operand(graph, node, 0);
  const Shape& indices = operand(graph, node, 1).shape;
  const int axis = canonical_axis(node, "axis", x.shape.rank());
  check_batch(node, x.shape, indices, axis);
  const auto batch_dims = static_cast<int>(node.integer("batch_dims"));
  const int rank = x.shape.rank() - 1 + indices.rank() - batch_dims;
  if (rank > Shape::max_rank)
    fail("gather: a result of rank ", rank, ", at most ", Shape::max_rank, " is possible");
  Shape shape;
  append_axes(shape, x.shape, 0, axis);
  append_axes(shape, indices, batch_dims, indices.rank());
  append_axes(shape, x.shape, axis + 1, x.shape.rank());
  return {x.dtype, shape};
}

void gather_kernel(const KernelCall& call) {
  const View& x = call.in[0];
  const View& indices = call.in[1];
  const GatherSizes g = gather_sizes(call.node, x.shape, indices.shape);
  std::int64_t to = 0;
  for (std::int64_t b = 0; b < g.batch; ++b) {
    for (std::int64_t o = 0; o < g.outer; ++o) {
      for (std::int64_t p = 0; p < g.picks; ++p, to += g.inner) {
        const std::int64_t index = checked_index(call, indices, b * g.picks + p, g.size);
        copy_elements(x, ((b * g.outer + o) * g.size + index) * g.inner, call.out, to, g.inner);
      }
    }
  }
}

// Indices (batch, picks) as rows of x seen as (batch * outer * size, inner): (batch * outer * picks,).
Value row_indices(const GatherSizes& g, Value indices) {
  Graph& graph = indices.owner();
  const Value negative = ops::less(indices, graph.scalar(DType::int32, 0));
  const Value wrapped = ops::add(indices, graph.scalar(DType::int32, static_cast<double>(g.size)));
  const Value columns = ops::reshape(ops::select(negative, wrapped, indices), {g.batch, 1, g.picks});
  Ints starts(static_cast<std::size_t>(g.batch * g.outer));
  for (std::size_t i = 0; i < starts.size(); ++i) starts[i] = static_cast<std::int64_t>(i) * g.size;
  return ops::reshape(ops::add(columns, ops::reshape(ints(graph, starts), {g.batch, g.outer, 1})), {-1});
}

// Several picks of one element add up.
Values gather_gradient(const GradientCall& c) {
  const TensorType x = c.in[0].type();
  const GatherSizes g = gather_sizes(c.node, x.shape, c.in[1].shape());
  if (g.batch * g.outer == 1) {
    const Value zero = zeros(c.graph, {x.dtype, {g.size, g.inner}});
    const Value dx =
        ops::scatter(zero, reshaped(c.in[1], {g.picks}), reshaped(c.dy, {g.picks, g.inner}), 0, "add");
    return {reshaped(dx, x.shape), {}};
  }
  const Value zero = zeros(c.graph, {x.dtype, {g.batch * g.outer * g.size, g.inner}});
  const Value rows = reshaped(c.dy, {g.batch * g.outer * g.picks, g.inner});
  const Value dx = ops::scatter(zero, row_indices(g, c.in[1]), rows, 0, "add");
  return {reshaped(dx, x.shape), {}};
}

// -- scatter --------------------------------------------------------------------------------------

using Combine = float (*)(float, float);
using CombineInts = std::uint32_t (*)(std::uint32_t, std::uint32_t);

struct ScatterMode {
  std::string_view name;
  Combine floats;
  CombineInts ints;  // null: floats only
};

std::int32_t as_signed(std::uint32_t bits) {
  return static_cast<std::int32_t>(bits);
}

// int32 wraps, which unsigned arithmetic does without undefined behaviour.
constexpr ScatterMode scatter_modes[] = {
    {"add", [](float x, float u) { return x + u; }, [](std::uint32_t x, std::uint32_t u) { return x + u; }},
    {"sub", [](float x, float u) { return x - u; }, [](std::uint32_t x, std::uint32_t u) { return x - u; }},
    {"mul", [](float x, float u) { return x * u; }, [](std::uint32_t x, std::uint32_t u) { return x * u; }},
    {"div", [](float x, float u) { return x / u; }, nullptr},
    {"max", [](float x, float u) { return std::isnan(x) || x > u ? x : u; },
     [](std::uint32_t x, std::uint32_t u) { return as_signed(x) > as_signed(u) ? x : u; }},
    {"min", [](float x, float u) { return std::isnan(x) || x < u ? x : u; },
     [](std::uint32_t x, std::uint32_t u) { return as_signed(x) < as_signed(u) ? x : u; }},
    {"update", [](float, float u) { return u; }, [](std::uint32_t, std::uint32_t u) { return u; }},
};

const ScatterMode& scatter_mode(const Node& node) {
  const std::string& name = node.text("mode");
  for (const ScatterMode& mode : scatter_modes)
    if (mode.name == name) return mode;
  fail("scatter: mode '", name, "', one of add, sub, mul, div, max, min, update is needed");
}

TensorType scatter_type(const Graph& graph, Node& node) {
  require_number(graph, node, 0);
  require_dtype(graph, node, 1, DType::int32);
  require_same_dtype(graph, node, 0, 2);
  const TensorType& data = operand(graph, node, 0);
  const Shape& indices = operand(graph, node, 1).shape;
  if (scatter_mode(node).ints == nullptr && !is_float(data.dtype))
    fail("scatter: mode '", node.text("mode"), "' needs fp16 or fp32, data is ", data);
  if (indices.rank() != 1) fail("scatter: indices are ", indices, ", one axis is needed; reshape them");
  Shape wanted = data.shape;
  wanted.set(canonical_axis(node, "axis", data.shape.rank()), indices[0]);
  if (operand(graph, node, 2).shape != wanted)
    fail("scatter: updates are ", operand(graph, node, 2).shape, ", ", wanted, " is needed");
  return data;
}

template <class T>
void scatter_elements(const KernelCall& call, T (*combine)(T, T)) {
  const Shape& shape = call.out.shape;
  const auto axis = static_cast<int>(call.node.integer("axis"));
  const std::int64_t inner = shape.stride(axis);
  const std::int64_t outer = shape.size() / shape[axis] / inner;
  const std::int64_t count = call.in[1].shape[0];
  const T* update = call.in[2].as<T>();
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < count; ++i) {
      T* y = call.out.as<T>() + (o * shape[axis] + checked_index(call, call.in[1], i, shape[axis])) * inner;
      for (std::int64_t k = 0; k < inner; ++k, ++update) y[k] = combine(y[k], *update);
    }
  }
}

void scatter_kernel(const KernelCall& call) {
  copy_elements(call.in[0], 0, call.out, 0, call.out.shape.size());
  const ScatterMode& mode = scatter_mode(call.node);
  if (call.out.dtype == DType::int32)
    scatter_elements<std::uint32_t>(call, mode.ints);
  else
    scatter_elements<float>(call, mode.floats);
}

// 1 for the last of several updates to one place, which is the one that stays, else 0; shaped to
// broadcast along the scattered axis of dy.
Value lasting(const GradientCall& c, int axis) {
  Graph& graph = c.graph;
  const Shape& data = c.in[0].shape();
  const Value number = counting(graph, c.in[1].shape()[0]);
  const Value none = zeros(graph, {DType::int32, {data[axis]}});
  const Value last = ops::gather(ops::scatter(none, c.in[1], number, 0, "update"), c.in[1]);
  Shape column = Shape::ones(data.rank());
  column.set(axis, c.in[1].shape()[0]);
  return reshaped(ops::equal(last, number), column);
}

Values scatter_gradient(const GradientCall& c) {
  const std::string& mode = c.node.text("mode");
  const std::int64_t axis = c.node.integer("axis");
  const Value picked = ops::gather(c.dy, c.in[1], axis);
  if (mode == "add") return {c.dy, {}, picked};
  if (mode == "sub") return {c.dy, {}, ops::neg(picked)};
  if (mode != "update") fail("scatter: mode '", mode, "' is not differentiable; add, sub and update are");
  const Value zero = zeros(c.graph, c.in[2].type());
  return {ops::scatter(c.dy, c.in[1], zero, axis, "update"),
          {},
          ops::select(lasting(c, static_cast<int>(axis)), picked, scalar_like(picked, 0.0))};
}

// -- slice_update ---------------------------------------------------------------------------------

void check_bounds_operand(const Graph& graph, const Node& node, std::size_t arg, int rank) {
  require_dtype(graph, node, arg, DType::int32);
  const Shape& shape = operand(graph, node, arg).shape;
  if (shape.rank() != 1 || shape[0] != rank)
    fail("slice_update: ", arg_name(node, arg), " is ", shape, ", one number for each of the ", rank,
         " axes of x is needed");
}

Ints widened(std::span<const std::int32_t> values) {
  return {values.begin(), values.end()};
}

void check_update(const Shape& x, const Slice& slice, const Shape& update) {
  if (sliced_shape(slice) != update)
    fail("slice_update: the slice of x ", x, " is ", sliced_shape(slice), ", update is ", update);
}

// Constant bounds are checked when the node is built, others when it runs.
std::optional<Slice> constant_slice(const Graph& graph, const Node& node) {
  const Node& begin = graph.node(node.inputs[2]);
  const Node& end = graph.node(node.inputs[3]);
  if (!begin.is("const") || !end.is("const")) return std::nullopt;
  return resolve_slice(node, operand(graph, node, 0).shape, widened(begin.value.as<std::int32_t>()),
                       widened(end.value.as<std::int32_t>()));
}

TensorType slice_update_type(const Graph& graph, Node& node) {
  const TensorType& x = operand(graph, node, 0);
  const Shape& update = operand(graph, node, 1).shape;
  require_same_dtype(graph, node, 0, 1);
  check_bounds_operand(graph, node, 2, x.shape.rank());
  check_bounds_operand(graph, node, 3, x.shape.rank());
  canonical_slice_lists(node, x.shape.rank());
  const auto squeezed = std::ranges::count(node.list("squeeze_mask"), 1);
  if (update.rank() != x.shape.rank() - squeezed)
    fail("slice_update: update is ", update, ", a tensor of rank ", x.shape.rank() - squeezed, " is needed");
  if (const std::optional<Slice> slice = constant_slice(graph, node)) check_update(x.shape, *slice, update);
  return x;
}

Ints bounds(const View& view) {
  return widened({view.as<std::int32_t>(), static_cast<std::size_t>(view.shape.size())});
}

void slice_update_kernel(const KernelCall& call) {
  const View& update = call.in[1];
  const Slice slice = resolve_slice(call.node, call.out.shape, bounds(call.in[2]), bounds(call.in[3]));
  check_update(call.out.shape, slice, update.shape);
  copy_elements(call.in[0], 0, call.out, 0, call.out.shape.size());
  for_each_sliced(call.out.shape, slice,
                  [&](std::int64_t i, std::int64_t at) { copy_elements(update, i, call.out, at); });
}

Values slice_update_gradient(const GradientCall& c) {
  const std::optional<Slice> slice = constant_slice(c.graph, c.node);
  if (!slice)
    fail("slice_update: ", c.node.name, " is not differentiable, its begin and end are not constant");
  const Value zero = zeros(c.graph, c.in[1].type());
  const Value dx =
      ops::slice_update(c.dy, zero, c.in[2], c.in[3], c.node.list("stride"), c.node.list("begin_mask"),
                        c.node.list("end_mask"), c.node.list("squeeze_mask"));
  return {dx, take(c.dy, *slice), {}, {}};
}

// MIL refuses an update of rank 0.
bool slice_update_in_mil(const Graph& graph, const Node& node) {
  return operand(graph, node, 1).shape.rank() > 0;
}

}  // namespace

std::span<const OpDef> indexing_ops() {
  static const std::vector<OpDef> table = {
      {.name = "gather",
       .doc =
           "Elements of x picked along an axis by indices.\n\nThe result's shape is x.shape[:axis] + "
           "indices.shape[batch_dims:] + x.shape[axis + 1:]; the first batch_dims axes of x and indices run "
           "together. A negative index counts from the end (MIL leaves it undefined from iOS 17 on); one "
           "outside the axis is an error, whether or not validate_indices asks for it.",
       .args = {{"x"}, {"indices"}},
       .attrs = {{"axis", AttrKind::integer, std::int64_t{0}},
                 {"batch_dims", AttrKind::integer, std::int64_t{0}},
                 {"validate_indices", AttrKind::boolean, false}},
       .infer = gather_type,
       .kernel = gather_kernel,
       .gradient = gather_gradient},
      {.name = "scatter",
       .doc =
           "data with updates combined into it at places along an axis.\n\ndata[..., indices[i], ...] = "
           "mode(data[..., indices[i], ...], updates[..., i, ...]), for i in order. mode is add, sub, mul, "
           "div, max, min or update (the last one stays). Differentiable for add, sub and update. Indices "
           "as in gather.",
       .args = {{"data"}, {"indices"}, {"updates"}},
       .attrs = {{"axis", AttrKind::integer, std::int64_t{0}},
                 {"mode", AttrKind::text, std::string("add")},
                 {"validate_indices", AttrKind::boolean, false}},
       .infer = scatter_type,
       .kernel = scatter_kernel,
       .gradient = scatter_gradient},
      {.name = "slice_update",
       .doc =
           "x with the slice x[begin:end:stride] replaced by update.\n\nbegin and end are int32 tensors, one "
           "number for each axis, and may be known only at run time; the slice they give must have the "
           "shape of update. Masks as in slice_by_index. Differentiable if begin and end are constant.",
       .args = {{"x"}, {"update"}, {"begin"}, {"end"}},
       .attrs = {{"stride", AttrKind::integers, Ints{}},
                 {"begin_mask", AttrKind::booleans, Ints{}},
                 {"end_mask", AttrKind::booleans, Ints{}},
                 {"squeeze_mask", AttrKind::booleans, Ints{}}},
       .infer = slice_update_type,
       .kernel = slice_update_kernel,
       .gradient = slice_update_gradient,
       .in_mil = slice_update_in_mil},
  };
  return table;
}

}  // namespace orion
