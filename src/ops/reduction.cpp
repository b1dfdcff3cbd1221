// Ops that fold axes of a tensor into one number, and softmax.
#include "ops/families.h"
#include "ops/rules.h"
#include "ops/softmax_line.h"
#include "orion/ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace orion {
namespace {

using Values = std::vector<Value>;

// -- type rules -----------------------------------------------------------------------------------

bool is_reduced(const Node& node, int axis) {
  return std::ranges::binary_search(node.list("axes"), static_cast<std::int64_t>(axis));
}

TensorType reduced_type(const Graph& graph, Node& node) {
  const TensorType& x = operand(graph, node, 0);
  canonical_axes(node, "axes", x.shape.rank(), true);
  if (node.flag("keep_dims")) return {x.dtype, with_ones(x.shape, node.list("axes"))};
  Shape shape;
  for (int axis = 0; axis < x.shape.rank(); ++axis)
    if (!is_reduced(node, axis)) shape.append(x.shape[axis]);
  return {x.dtype, shape};
}

TensorType number_reduction(const Graph& graph, Node& node) {
  require_number(graph, node, 0);
  return reduced_type(graph, node);
}

TensorType float_reduction(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  return reduced_type(graph, node);
}

TensorType softmax_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  canonical_axis(node, "axis", operand(graph, node, 0).shape.rank());
  return operand(graph, node, 0);
}

TensorType softmax_gradient_type(const Graph& graph, Node& node) {
  require_same_dtype(graph, node, 0, 1);
  require_same_shape(graph, node, 0, 1);
  return softmax_type(graph, node);
}

// -- kernels --------------------------------------------------------------------------------------

// Folds every element of x into the accumulator of its result element, in row-major order.
template <class T, class Sum, class Fold>
std::vector<Sum> fold(const KernelCall& call, Sum start, Fold fold_one) {
  const View& x = call.in[0];
  std::vector<Sum> sums(static_cast<std::size_t>(call.out.shape.size()), start);
  const std::array<Strides, 1> strides = {
      broadcast_strides(with_ones(x.shape, call.node.list("axes")), x.shape)};
  for_each<1>(x.shape, strides, [&](std::int64_t i, const auto& at) {
    Sum& sum = sums[static_cast<std::size_t>(at[0])];
    sum = fold_one(sum, x.as<T>()[i]);
  });
  return sums;
}

template <class T, class Sum>
void store(const KernelCall& call, const std::vector<Sum>& sums) {
  std::ranges::transform(sums, call.out.as<T>(), [](Sum sum) { return static_cast<T>(sum); });
}

std::vector<double> float_sums(const KernelCall& call) {
  return fold<float>(call, 0.0, [](double sum, float x) { return sum + static_cast<double>(x); });
}

void sum_kernel(const KernelCall& call) {
  if (call.out.dtype != DType::int32) return store<float>(call, float_sums(call));
  store<std::uint32_t>(call, fold<std::uint32_t>(call, 0U, [](auto sum, auto x) { return sum + x; }));
}

void mean_kernel(const KernelCall& call) {
  std::vector<double> sums = float_sums(call);
  const auto count = static_cast<double>(call.in[0].shape.size() / call.out.shape.size());
  for (double& sum : sums) sum /= count;
  store<float>(call, sums);
}

void max_kernel(const KernelCall& call) {
  if (call.out.dtype == DType::int32) {
    constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::lowest();
    const auto larger = [](std::int32_t max, std::int32_t x) { return std::max(max, x); };
    return store<std::int32_t>(call, fold<std::int32_t>(call, lowest, larger));
  }
  const auto larger = [](float max, float x) { return std::isnan(max) || max > x ? max : x; };
  store<float>(call, fold<float>(call, -std::numeric_limits<float>::infinity(), larger));
}

// Calls body(first element, count, stride) for every line along the axis.
template <class Body>
void for_each_line(const KernelCall& call, const Body& body) {
  const auto axis = static_cast<int>(call.node.integer("axis"));
  const Shape& shape = call.out.shape;
  const std::int64_t count = shape[axis];
  const std::int64_t stride = shape.stride(axis);
  for (std::int64_t block = 0; block < shape.size(); block += count * stride)
    for (std::int64_t line = block; line < block + stride; ++line) body(line, count, stride);
}

void softmax_kernel(const KernelCall& call) {
  for_each_line(call, [&](std::int64_t line, std::int64_t count, std::int64_t stride) {
    softmax_line(call.in[0].as<float>() + line, call.out.as<float>() + line, count, stride);
  });
}

void softmax_gradient_kernel(const KernelCall& call) {
  const float* y = call.in[0].as<float>();
  const float* dy = call.in[1].as<float>();
  for_each_line(call, [&](std::int64_t line, std::int64_t count, std::int64_t stride) {
    double sum = 0.0;
    for (std::int64_t i = line; i < line + count * stride; i += stride)
      sum += static_cast<double>(y[i]) * static_cast<double>(dy[i]);
    for (std::int64_t i = line; i < line + count * stride; i += stride)
      call.out.as<float>()[i] =
          static_cast<float>(static_cast<double>(y[i]) * (static_cast<double>(dy[i]) - sum));
  });
}

// -- gradients ------------------------------------------------------------------------------------

// A value of the result's shape, with the reduced axes back as ones.
Value unsqueezed(const GradientCall& c, Value value) {
  return reshaped(value, with_ones(c.in[0].shape(), c.node.list("axes")));
}

Value spread(const GradientCall& c, Value dy) {
  const Shape& shape = c.in[0].shape();
  return ops::broadcast_to(unsqueezed(c, dy), {shape.begin(), shape.end()});
}

Values sum_gradient(const GradientCall& c) {
  return {spread(c, c.dy)};
}

Values mean_gradient(const GradientCall& c) {
  const auto count = static_cast<double>(c.in[0].shape().size() / c.out.shape().size());
  return {spread(c, ops::mul(c.dy, scalar_like(c.dy, 1.0 / count)))};
}

// Elements that share the maximum share its gradient.
Values max_gradient(const GradientCall& c) {
  const Value x = c.in[0];
  const Value is_max = cast_like(ops::equal(x, unsqueezed(c, c.out)), x);
  const Value count = ops::reduce_sum(is_max, c.node.list("axes"), true);
  return {ops::mul(is_max, ops::real_div(unsqueezed(c, c.dy), count))};
}

Values softmax_gradient(const GradientCall& c) {
  return {ops::softmax_gradient(c.out, c.dy, c.node.integer("axis"))};
}

// dx = y (dy - sum(y dy))
Value expand_softmax_gradient(const ExpandCall& c) {
  const Value sum = ops::reduce_sum(ops::mul(c.in[0], c.in[1]), {c.node.integer("axis")}, true);
  return ops::mul(c.in[0], ops::sub(c.in[1], sum));
}

OpDef reduction_op(std::string_view name, std::string_view doc, TensorType (*infer)(const Graph&, Node&),
                   void (*kernel)(const KernelCall&), Values (*gradient)(const GradientCall&)) {
  return {.name = name,
          .doc = doc,
          .args = {{"x"}},
          .attrs = {{"axes", AttrKind::integers, std::vector<std::int64_t>{}},
                    {"keep_dims", AttrKind::boolean, false}},
          .infer = infer,
          .kernel = kernel,
          .gradient = gradient};
}

}  // namespace

std::span<const OpDef> reduction_ops() {
  static const std::vector<OpDef> table = {
      reduction_op(
          "reduce_sum",
          "Sum over axes; over all of them if none are given.\n\nReduced axes disappear, or stay with "
          "size 1 if keep_dims is set. int32 wraps.",
          number_reduction, sum_kernel, sum_gradient),
      reduction_op(
          "reduce_mean",
          "Mean over axes; over all of them if none are given.\n\nReduced axes disappear, or stay with "
          "size 1 if keep_dims is set.",
          float_reduction, mean_kernel, mean_gradient),
      reduction_op("reduce_max",
                   "Largest element over axes; over all of them if none are given. NaN if any is NaN.\n\n"
                   "Reduced axes disappear, or stay with size 1 if keep_dims is set. Equal maxima share the "
                   "gradient.",
                   number_reduction, max_kernel, max_gradient),
      {.name = "softmax",
       .doc = "exp(x) / sum(exp(x)) along an axis, computed as exp(x - max(x)).\n\nA line of nothing but "
              "-inf gives NaN.",
       .args = {{"x"}},
       .attrs = {{"axis", AttrKind::integer, std::int64_t{-1}}},
       .infer = softmax_type,
       .kernel = softmax_kernel,
       .gradient = softmax_gradient},
      {.name = "softmax_gradient",
       .doc = "What comes back through softmax, y being its result: y * (dy - sum(y * dy)) along the axis.",
       .args = {{"y"}, {"dy"}},
       .attrs = {{"axis", AttrKind::integer, std::int64_t{-1}}},
       .infer = softmax_gradient_type,
       .kernel = softmax_gradient_kernel,
       .expand = expand_softmax_gradient,
       .in_mil = not_in_mil},
  };
  return table;
}

}  // namespace orion
