// layer_norm and rms_norm: rows brought to a common size.
//
// A row is what the normalised axes span; gamma and beta have the shape of a row.
#include "ops/composite.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <cmath>

namespace orion {
namespace {

using Ints = std::vector<std::int64_t>;
using Values = std::vector<Value>;

// x's shape with one element for each row.
Shape row_count(const Node& node, const Shape& x) {
  return with_ones(x, node.list("axes"));
}

// x's shape with the elements of one row.
Shape row_shape(const Node& node, const Shape& x) {
  Shape row = Shape::ones(x.rank());
  for (const std::int64_t axis : node.list("axes"))
    row.set(static_cast<int>(axis), x[static_cast<int>(axis)]);
  return row;
}

// -- type rules -----------------------------------------------------------------------------------

void check_row_operand(const Graph& graph, const Node& node, std::size_t arg) {
  if (!given(node, arg)) return;
  require_same_dtype(graph, node, 0, arg);
  const Shape& x = operand(graph, node, 0).shape;
  Shape row;
  for (const std::int64_t axis : node.list("axes")) row.append(x[static_cast<int>(axis)]);
  if (operand(graph, node, arg).shape != row)
    fail(node.op->name, ": ", arg_name(node, arg), " is ", operand(graph, node, arg).shape,
         ", the normalised axes of x are ", row);
}

// Operands from `first` on have the shape of a row.
TensorType norm_type(const Graph& graph, Node& node, std::size_t first, DType epsilon_dtype) {
  const TensorType& x = operand(graph, node, 0);
  canonical_axes(node, "axes", x.shape.rank(), true);
  canonical_number(node, "epsilon", epsilon_dtype);
  if (!(node.number("epsilon") >= 0.0))
    fail(node.op->name, ": epsilon ", node.number("epsilon"), " is negative");
  for (std::size_t arg = first; arg < node.op->args.size(); ++arg) check_row_operand(graph, node, arg);
  return x;
}

TensorType layer_norm_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  return norm_type(graph, node, 1, operand(graph, node, 0).dtype);
}

// MIL never sees this epsilon, so fp16 does not round it (1e-6 would lose most of its digits).
TensorType rms_norm_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  return norm_type(graph, node, 1, DType::fp32);
}

TensorType norm_gradient_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  require_same_dtype(graph, node, 0, 1);
  require_same_shape(graph, node, 0, 1);
  const bool centred = node.op->name == "layer_norm_gradient";
  return norm_type(graph, node, 2, centred ? operand(graph, node, 0).dtype : DType::fp32);
}

// -- kernels --------------------------------------------------------------------------------------

// Calls body(i, row, place in the row) for every element.
template <class Body>
void for_each_element(const KernelCall& call, Body&& body) {
  const Shape& x = call.in[0].shape;
  const std::array strides = {broadcast_strides(row_count(call.node, x), x),
                              broadcast_strides(row_shape(call.node, x), x)};
  for_each<2>(x, strides, [&](std::int64_t i, const auto& at) {
    body(static_cast<std::size_t>(i), static_cast<std::size_t>(at[0]), static_cast<std::size_t>(at[1]));
  });
}

std::vector<double> zero_for_each_row(const KernelCall& call) {
  const std::int64_t rows = row_count(call.node, call.in[0].shape).size();
  return std::vector<double>(static_cast<std::size_t>(rows), 0.0);
}

// The mean of f(element, row) over each row.
template <class F>
std::vector<double> row_means(const KernelCall& call, F f) {
  std::vector<double> means = zero_for_each_row(call);
  const auto length = static_cast<double>(call.in[0].shape.size()) / static_cast<double>(means.size());
  for_each_element(call, [&](std::size_t i, std::size_t row, std::size_t) {
    means[row] += f(static_cast<double>(call.in[0].as<float>()[i]), row) / length;
  });
  return means;
}

void normalise(const KernelCall& call, const std::vector<double>& centres, const float* gamma,
               const float* beta) {
  const std::vector<double> squares =
      row_means(call, [&](double x, std::size_t row) { return (x - centres[row]) * (x - centres[row]); });
  for_each_element(call, [&](std::size_t i, std::size_t row, std::size_t place) {
    const double size = std::sqrt(squares[row] + call.node.number("epsilon"));
    const double scale = gamma == nullptr ? 1.0 : static_cast<double>(gamma[place]);
    const double shift = beta == nullptr ? 0.0 : static_cast<double>(beta[place]);
    const double x = static_cast<double>(call.in[0].as<float>()[i]) - centres[row];
    call.out.as<float>()[i] = static_cast<float>(x / size * scale + shift);
  });
}

// With n = (x - centre) / size and g = dy gamma: dx = (g - shift - n mean(g n)) / size
void norm_gradient_kernel(const KernelCall& call, const std::vector<double>& centres, bool centred) {
  const auto x = [&](std::size_t i, std::size_t row) {
    return static_cast<double>(call.in[0].as<float>()[i]) - centres[row];
  };
  const auto g = [&](std::size_t i, std::size_t place) {
    const double gamma =
        call.in[2].data == nullptr ? 1.0 : static_cast<double>(call.in[2].as<float>()[place]);
    return static_cast<double>(call.in[1].as<float>()[i]) * gamma;
  };
  std::vector<double> sizes = zero_for_each_row(call), along = sizes, shifts = sizes;
  const auto length = static_cast<double>(call.in[0].shape.size()) / static_cast<double>(sizes.size());
  for_each_element(call, [&](std::size_t i, std::size_t row, std::size_t place) {
    sizes[row] += x(i, row) * x(i, row) / length;
    along[row] += g(i, place) * x(i, row) / length;
    shifts[row] += centred ? g(i, place) / length : 0.0;
  });
  for (double& size : sizes) size = std::sqrt(size + call.node.number("epsilon"));
  for_each_element(call, [&](std::size_t i, std::size_t row, std::size_t place) {
    const double back = x(i, row) * along[row] / (sizes[row] * sizes[row]);
    call.out.as<float>()[i] = static_cast<float>((g(i, place) - shifts[row] - back) / sizes[row]);
  });
}

void layer_norm_gradient_kernel(const KernelCall& call) {
  norm_gradient_kernel(call, row_means(call, [](double x, std::size_t) { return x; }), true);
}

void rms_norm_gradient_kernel(const KernelCall& call) {
  norm_gradient_kernel(call, zero_for_each_row(call), false);
}

void layer_norm_kernel(const KernelCall& call) {
  const std::vector<double> means = row_means(call, [](double x, std::size_t) { return x; });
  normalise(call, means, call.in[1].as<float>(), call.in[2].as<float>());
}

void rms_norm_kernel(const KernelCall& call) {
  normalise(call, zero_for_each_row(call), call.in[1].as<float>(), nullptr);
}

// -- expansion and gradient -----------------------------------------------------------------------

// c / sqrt(mean(c^2) + epsilon), and 1 / sqrt(mean(c^2) + epsilon), over rows.
struct Normalised {
  Value value;
  Value factor;
};

// In fp16 c^2 overflows from |c| = 256 on and epsilon is next to nothing, so everything is divided by
// m = max(|c|, sqrt(epsilon)) first: mean((c / m)^2) + (sqrt(epsilon) / m)^2 lies in (0, 2].
Normalised normalised(const Node& node, Value c) {
  const Ints& axes = node.list("axes");
  const Value least = scalar_like(c, std::sqrt(node.number("epsilon")));
  const Value m = ops::maximum(ops::reduce_max(ops::abs(c), axes, true), least);
  const Value u = ops::real_div(c, m);
  const Value mean = ops::reduce_mean(ops::square(u), axes, true);
  const Value r = ops::rsqrt(ops::add(mean, ops::square(ops::real_div(least, m))), 0.0);
  return {ops::mul(u, r), ops::real_div(r, m)};
}

Value centred(const Node& node, Value x) {
  return ops::sub(x, ops::reduce_mean(x, node.list("axes"), true));
}

// gamma or beta with ones for the axes that are not normalised.
Value as_row(const Node& node, const Shape& x, Value value) {
  return reshaped(value, row_shape(node, x));
}

Value scaled_by(const Node& node, Value x, Value gamma) {
  return gamma ? ops::mul(x, as_row(node, x.shape(), gamma)) : x;
}

// Sums dy over rows, to the shape of gamma.
Value row_sum(const GradientCall& c, Value dy, Value like) {
  if (!like) return {};
  return reshaped(sum_to(dy, row_shape(c.node, c.in[0].shape())), like.shape());
}

// With n = normalised(c) and g = dy gamma: dc = (g - n mean(g n)) factor
Value norm_gradient(const Node& node, const Normalised& n, Value g) {
  const Value along = ops::reduce_mean(ops::mul(g, n.value), node.list("axes"), true);
  return ops::mul(ops::sub(g, ops::mul(n.value, along)), n.factor);
}

Values layer_norm_gradient(const GradientCall& c) {
  const Ints& axes = c.node.list("axes");
  const double epsilon = c.node.number("epsilon");
  const Value n = ops::layer_norm(c.in[0], axes, {}, {}, epsilon);
  return {ops::layer_norm_gradient(c.in[0], c.dy, axes, c.in[1], epsilon),
          row_sum(c, ops::mul(c.dy, n), c.in[1]), row_sum(c, c.dy, c.in[2])};
}

Values rms_norm_gradient(const GradientCall& c) {
  const Ints& axes = c.node.list("axes");
  const double epsilon = c.node.number("epsilon");
  const Value n = ops::rms_norm(c.in[0], axes, {}, epsilon);
  return {ops::rms_norm_gradient(c.in[0], c.dy, axes, c.in[1], epsilon),
          row_sum(c, ops::mul(c.dy, n), c.in[1])};
}

Value expand_layer_norm_gradient(const ExpandCall& c) {
  const Normalised n = normalised(c.node, centred(c.node, c.in[0]));
  return centred(c.node, norm_gradient(c.node, n, scaled_by(c.node, c.in[1], c.in[2])));
}

Value expand_rms_norm_gradient(const ExpandCall& c) {
  return norm_gradient(c.node, normalised(c.node, c.in[0]), scaled_by(c.node, c.in[1], c.in[2]));
}

Value expand_layer_norm(const ExpandCall& c) {
  const Value n = normalised(c.node, centred(c.node, c.in[0])).value;
  const Value y = scaled_by(c.node, n, c.in[1]);
  return c.in[2] ? ops::add(y, as_row(c.node, y.shape(), c.in[2])) : y;
}

Value expand_rms_norm(const ExpandCall& c) {
  return scaled_by(c.node, normalised(c.node, c.in[0]).value, c.in[1]);
}

// MIL wants constants, and no beta alone.
bool layer_norm_in_mil(const Graph& graph, const Node& node) {
  for (const std::size_t arg : {std::size_t{1}, std::size_t{2}})
    if (given(node, arg) && !is_constant(graph, node, arg)) return false;
  return given(node, 1) || !given(node, 2);
}

}  // namespace

OpDef layer_norm_op() {
  return {.name = "layer_norm",
          .doc =
              "(x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta over axes (all if none are given).\n\n"
              "gamma and beta have the shape of the normalised axes.",
          .args = {{"x"}, {"gamma", ArgKind::optional}, {"beta", ArgKind::optional}},
          .attrs = {{"axes", AttrKind::integers}, {"epsilon", AttrKind::number, 1e-5}},
          .infer = layer_norm_type,
          .kernel = layer_norm_kernel,
          .gradient = layer_norm_gradient,
          .expand = expand_layer_norm,
          .in_mil = layer_norm_in_mil};
}

OpDef rms_norm_op() {
  return {.name = "rms_norm",
          .doc =
              "x / sqrt(mean(x^2) + epsilon) * gamma over axes (all if none are given).\n\ngamma has the "
              "shape of the normalised axes.",
          .args = {{"x"}, {"gamma", ArgKind::optional}},
          .attrs = {{"axes", AttrKind::integers}, {"epsilon", AttrKind::number, 1e-5}},
          .infer = rms_norm_type,
          .kernel = rms_norm_kernel,
          .gradient = rms_norm_gradient,
          .expand = expand_rms_norm,
          .in_mil = not_in_mil};
}

namespace {

OpDef gradient_op(std::string_view name, std::string_view doc, void (*kernel)(const KernelCall&),
                  Value (*expand)(const ExpandCall&)) {
  return {.name = name,
          .doc = doc,
          .args = {{"x"}, {"dy"}, {"gamma", ArgKind::optional}},
          .attrs = {{"axes", AttrKind::integers}, {"epsilon", AttrKind::number, 1e-5}},
          .infer = norm_gradient_type,
          .kernel = kernel,
          .expand = expand,
          .in_mil = not_in_mil};
}

}  // namespace

OpDef layer_norm_gradient_op() {
  return gradient_op("layer_norm_gradient", "What comes back through layer_norm: dy by its derivative at x.",
                     layer_norm_gradient_kernel, expand_layer_norm_gradient);
}

OpDef rms_norm_gradient_op() {
  return gradient_op("rms_norm_gradient", "What comes back through rms_norm: dy by its derivative at x.",
                     rms_norm_gradient_kernel, expand_rms_norm_gradient);
}

}  // namespace orion
