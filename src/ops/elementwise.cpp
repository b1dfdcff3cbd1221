// Ops whose result element depends on the operand elements at the same place, after broadcasting.
#include "base/f16.h"
#include "ops/families.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace orion {
namespace {

using Values = std::vector<Value>;

// -- type rules -----------------------------------------------------------------------------------

TensorType same_type(const Graph& graph, Node& node) {
  return operand(graph, node, 0);
}

TensorType float_unary(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  return operand(graph, node, 0);
}

TensorType number_unary(const Graph& graph, Node& node) {
  require_number(graph, node, 0);
  return operand(graph, node, 0);
}

TensorType with_epsilon(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  canonical_number(node, "epsilon", operand(graph, node, 0).dtype);
  return operand(graph, node, 0);
}

TensorType clip_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  canonical_number(node, "alpha", operand(graph, node, 0).dtype);
  canonical_number(node, "beta", operand(graph, node, 0).dtype);
  if (!(node.number("alpha") <= node.number("beta")))
    fail("clip: alpha ", node.number("alpha"), " is above beta ", node.number("beta"));
  return operand(graph, node, 0);
}

TensorType cast_type(const Graph& graph, Node& node) {
  return {dtype_from_name(node.text("dtype")), operand(graph, node, 0).shape};
}

TensorType number_binary(const Graph& graph, Node& node) {
  require_number(graph, node, 0);
  require_same_dtype(graph, node, 0, 1);
  const TensorType& x = operand(graph, node, 0);
  return {x.dtype, broadcast(node, x.shape, operand(graph, node, 1).shape)};
}

TensorType float_binary(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  return number_binary(graph, node);
}

TensorType comparison(const Graph& graph, Node& node) {
  return {DType::boolean, number_binary(graph, node).shape};
}

TensorType select_type(const Graph& graph, Node& node) {
  require_dtype(graph, node, 0, DType::boolean);
  require_same_dtype(graph, node, 1, 2);
  const TensorType& a = operand(graph, node, 1);
  const Shape chosen = broadcast(node, a.shape, operand(graph, node, 2).shape);
  return {a.dtype, broadcast(node, operand(graph, node, 0).shape, chosen)};
}

// -- kernels --------------------------------------------------------------------------------------

template <float (*F)(float)>
void unary(const KernelCall& call) {
  const float* x = call.in[0].as<float>();
  float* y = call.out.as<float>();
  for (std::int64_t i = 0; i < call.out.shape.size(); ++i) y[i] = F(x[i]);
}

// Overflow of int32 wraps, as in NumPy; unsigned arithmetic says so without undefined behaviour.
template <std::uint32_t (*I)(std::uint32_t), float (*F)(float)>
void number_unary_kernel(const KernelCall& call) {
  if (call.out.dtype != DType::int32) return unary<F>(call);
  const auto* x = call.in[0].as<std::uint32_t>();
  auto* y = call.out.as<std::uint32_t>();
  for (std::int64_t i = 0; i < call.out.shape.size(); ++i) y[i] = I(x[i]);
}

template <class In, class Out, class F>
void map_binary(const KernelCall& call, F f) {
  const In* x = call.in[0].as<In>();
  const In* y = call.in[1].as<In>();
  Out* z = call.out.as<Out>();
  const std::array strides = {broadcast_strides(call.in[0].shape, call.out.shape),
                              broadcast_strides(call.in[1].shape, call.out.shape)};
  for_each<2>(call.out.shape, strides, [&](std::int64_t i, const auto& at) { z[i] = f(x[at[0]], y[at[1]]); });
}

template <float (*F)(float, float)>
void float_binary_kernel(const KernelCall& call) {
  map_binary<float, float>(call, F);
}

template <std::int32_t (*I)(std::int32_t, std::int32_t), float (*F)(float, float)>
void number_binary_kernel(const KernelCall& call) {
  if (call.out.dtype == DType::int32)
    map_binary<std::int32_t, std::int32_t>(call, I);
  else
    map_binary<float, float>(call, F);
}

template <class Compare>
void comparison_kernel(const KernelCall& call) {
  const auto compare = [](auto a, auto b) { return static_cast<std::uint8_t>(Compare{}(a, b)); };
  if (call.in[0].dtype == DType::int32)
    map_binary<std::int32_t, std::uint8_t>(call, compare);
  else
    map_binary<float, std::uint8_t>(call, compare);
}

template <class T>
void select_elements(const KernelCall& call) {
  const auto* cond = call.in[0].as<std::uint8_t>();
  const T* a = call.in[1].as<T>();
  const T* b = call.in[2].as<T>();
  T* y = call.out.as<T>();
  const std::array strides = {broadcast_strides(call.in[0].shape, call.out.shape),
                              broadcast_strides(call.in[1].shape, call.out.shape),
                              broadcast_strides(call.in[2].shape, call.out.shape)};
  for_each<3>(call.out.shape, strides,
              [&](std::int64_t i, const auto& at) { y[i] = cond[at[0]] != 0 ? a[at[1]] : b[at[2]]; });
}

void select_kernel(const KernelCall& call) {
  if (dtype_size(call.out.dtype) == 4)
    select_elements<std::uint32_t>(call);
  else
    select_elements<std::uint8_t>(call);
}

void copy_kernel(const KernelCall& call) {
  const std::size_t bytes = static_cast<std::size_t>(call.out.shape.size()) * dtype_size(call.out.dtype);
  std::copy_n(call.in[0].as<std::byte>(), bytes, call.out.as<std::byte>());
}

void cast_kernel(const KernelCall& call) {
  const Tensor from = Tensor::view({call.in[0].dtype, call.in[0].shape}, call.in[0].data);
  const Tensor to = convert(from, call.node.type.dtype);
  const Tensor stored = convert(to, call.out.dtype);  // an fp16 result keeps its rounding in fp32 memory
  std::copy_n(stored.data(), stored.bytes(), call.out.as<std::byte>());
}

template <float (*F)(float, float)>
void epsilon_kernel(const KernelCall& call) {
  const auto epsilon = static_cast<float>(call.node.number("epsilon"));
  const float* x = call.in[0].as<float>();
  float* y = call.out.as<float>();
  for (std::int64_t i = 0; i < call.out.shape.size(); ++i) y[i] = F(x[i], epsilon);
}

void clip_kernel(const KernelCall& call) {
  const auto low = static_cast<float>(call.node.number("alpha"));
  const auto high = static_cast<float>(call.node.number("beta"));
  const float* x = call.in[0].as<float>();
  float* y = call.out.as<float>();
  for (std::int64_t i = 0; i < call.out.shape.size(); ++i)
    y[i] = x[i] < low ? low : x[i] > high ? high : x[i];
}

// NaN compares false, so it survives each of these.
float relu_of(float x) {
  return x < 0.0F ? 0.0F : x;
}
float sigmoid_of(float x) {
  return 1.0F / (1.0F + std::exp(-x));
}
float square_of(float x) {
  return x * x;
}
float neg_of(float x) {
  return -x;
}
float abs_of(float x) {
  return std::fabs(x);
}
float tanh_of(float x) {
  return std::tanh(x);
}
float exp_of(float x) {
  return std::exp(x);
}
float erf_of(float x) {
  return std::erf(x);
}
float sqrt_of(float x) {
  return std::sqrt(x);
}
float log_of(float x, float epsilon) {
  return std::log(x + epsilon);
}
float rsqrt_of(float x, float epsilon) {
  return 1.0F / std::sqrt(x + epsilon);
}
float pow_of(float x, float y) {
  return std::pow(x, y);
}
float div_of(float x, float y) {
  return x / y;
}
float add_of(float x, float y) {
  return x + y;
}
float sub_of(float x, float y) {
  return x - y;
}
float mul_of(float x, float y) {
  return x * y;
}
float maximum_of(float x, float y) {
  return std::isnan(x) || x > y ? x : y;
}
float minimum_of(float x, float y) {
  return std::isnan(x) || x < y ? x : y;
}

std::uint32_t neg_int(std::uint32_t x) {
  return 0U - x;
}
std::uint32_t square_int(std::uint32_t x) {
  return x * x;
}
std::uint32_t abs_int(std::uint32_t x) {
  return (x >> 31U) != 0 ? 0U - x : x;
}

template <std::uint32_t (*F)(std::uint32_t, std::uint32_t)>
std::int32_t wrapped(std::int32_t x, std::int32_t y) {
  return static_cast<std::int32_t>(F(static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(y)));
}
std::uint32_t add_bits(std::uint32_t x, std::uint32_t y) {
  return x + y;
}
std::uint32_t sub_bits(std::uint32_t x, std::uint32_t y) {
  return x - y;
}
std::uint32_t mul_bits(std::uint32_t x, std::uint32_t y) {
  return x * y;
}
std::int32_t max_int(std::int32_t x, std::int32_t y) {
  return std::max(x, y);
}
std::int32_t min_int(std::int32_t x, std::int32_t y) {
  return std::min(x, y);
}

// -- gradients: dy is the gradient of the result y -------------------------------------------------

Value positive(Value x) {
  return ops::greater(x, scalar_like(x, 0.0));
}
Value zero(Value like) {
  return scalar_like(like, 0.0);
}
Value scaled(Value x, double factor) {
  return ops::mul(x, scalar_like(x, factor));
}

// 1 - x * x and the like read better with the constant first.
Value one_minus(Value x) {
  return ops::sub(scalar_like(x, 1.0), x);
}

Values no_gradient(const GradientCall& call) {
  return Values(call.in.size());
}
Values identity_gradient(const GradientCall& c) {
  return {c.dy};
}
Values relu_gradient(const GradientCall& c) {
  return {ops::select(positive(c.in[0]), c.dy, zero(c.dy))};
}
Values tanh_gradient(const GradientCall& c) {
  return {ops::mul(c.dy, one_minus(ops::square(c.out)))};
}
Values sigmoid_gradient(const GradientCall& c) {
  return {ops::mul(c.dy, ops::mul(c.out, one_minus(c.out)))};
}
Values exp_gradient(const GradientCall& c) {
  return {ops::mul(c.dy, c.out)};
}
Values sqrt_gradient(const GradientCall& c) {
  return {ops::real_div(scaled(c.dy, 0.5), c.out)};
}
Values neg_gradient(const GradientCall& c) {
  return {ops::neg(c.dy)};
}
Values square_gradient(const GradientCall& c) {
  return {ops::mul(c.dy, scaled(c.in[0], 2.0))};
}

Values erf_gradient(const GradientCall& c) {
  constexpr double two_over_sqrt_pi = 1.1283791670955126;
  return {ops::mul(c.dy, scaled(ops::exp(ops::neg(ops::square(c.in[0]))), two_over_sqrt_pi))};
}

Values abs_gradient(const GradientCall& c) {
  const Value negative = ops::less(c.in[0], zero(c.in[0]));
  return {ops::select(positive(c.in[0]), c.dy, ops::select(negative, ops::neg(c.dy), zero(c.dy)))};
}

Values log_gradient(const GradientCall& c) {
  return {ops::real_div(c.dy, ops::add(c.in[0], scalar_like(c.in[0], c.node.number("epsilon"))))};
}

// d/dx (x + e)^(-1/2) = -1/2 y^3
Values rsqrt_gradient(const GradientCall& c) {
  return {ops::mul(c.dy, scaled(ops::mul(c.out, ops::square(c.out)), -0.5))};
}

Values clip_gradient(const GradientCall& c) {
  const Value x = c.in[0];
  const Value above = ops::less(x, scalar_like(x, c.node.number("alpha")));
  const Value below = ops::greater(x, scalar_like(x, c.node.number("beta")));
  return {ops::select(above, zero(c.dy), ops::select(below, zero(c.dy), c.dy))};
}

Values cast_gradient(const GradientCall& c) {
  if (!is_float(c.in[0].dtype()) || !is_float(c.dy.dtype())) return no_gradient(c);
  return {ops::cast(c.dy, std::string(dtype_name(c.in[0].dtype())))};
}

// A pair of gradients for broadcast operands.
Values pair(const GradientCall& c, Value dx, Value dy) {
  return {sum_to(dx, c.in[0].shape()), sum_to(dy, c.in[1].shape())};
}

Values add_gradient(const GradientCall& c) {
  return pair(c, c.dy, c.dy);
}
Values sub_gradient(const GradientCall& c) {
  return pair(c, c.dy, ops::neg(c.dy));
}
Values mul_gradient(const GradientCall& c) {
  return pair(c, ops::mul(c.dy, c.in[1]), ops::mul(c.dy, c.in[0]));
}

Values div_gradient(const GradientCall& c) {
  const Value dx = ops::real_div(c.dy, c.in[1]);
  return pair(c, dx, ops::neg(ops::mul(dx, c.out)));
}

// A constant exponent gets no gradient: log(x) would be NaN for negative x.
Values pow_gradient(const GradientCall& c) {
  const Value lowered = ops::pow(c.in[0], ops::sub(c.in[1], scalar_like(c.in[1], 1.0)));
  const Value dx = sum_to(ops::mul(c.dy, ops::mul(c.in[1], lowered)), c.in[0].shape());
  if (c.in[1].node().is("const")) return {dx, {}};
  return {dx, sum_to(ops::mul(c.dy, ops::mul(c.out, ops::log(c.in[0]))), c.in[1].shape())};
}

// Where both operands are equal each gets half, as in PyTorch.
Values winner_gradient(const GradientCall& c, Value x_wins) {
  const Value tie = ops::equal(c.in[0], c.in[1]);
  const Value half = scaled(c.dy, 0.5);
  return pair(c, ops::select(tie, half, ops::select(x_wins, c.dy, zero(c.dy))),
              ops::select(tie, half, ops::select(x_wins, zero(c.dy), c.dy)));
}

Values maximum_gradient(const GradientCall& c) {
  return winner_gradient(c, ops::greater(c.in[0], c.in[1]));
}
Values minimum_gradient(const GradientCall& c) {
  return winner_gradient(c, ops::less(c.in[0], c.in[1]));
}

Values select_gradient(const GradientCall& c) {
  return {{},
          sum_to(ops::select(c.in[0], c.dy, zero(c.dy)), c.in[1].shape()),
          sum_to(ops::select(c.in[0], zero(c.dy), c.dy), c.in[2].shape())};
}

// -- expansions -----------------------------------------------------------------------------------

Value expand_neg(const ExpandCall& c) {
  return scaled(c.in[0], -1.0);
}

bool never(const Graph&, const Node&) {
  return false;
}

const std::vector<ArgDef> x_arg = {{"x"}};
const std::vector<ArgDef> xy_args = {{"x"}, {"y"}};

OpDef unary_op(std::string_view name, std::string_view doc, void (*kernel)(const KernelCall&),
               Values (*gradient)(const GradientCall&)) {
  return {.name = name,
          .doc = doc,
          .args = x_arg,
          .infer = float_unary,
          .kernel = kernel,
          .gradient = gradient,
          .elementwise = true};
}

OpDef number_op(std::string_view name, std::string_view doc, void (*kernel)(const KernelCall&),
                Values (*gradient)(const GradientCall&)) {
  return {.name = name,
          .doc = doc,
          .args = x_arg,
          .infer = number_unary,
          .kernel = kernel,
          .gradient = gradient,
          .elementwise = true};
}

OpDef binary_op(std::string_view name, std::string_view doc, TensorType (*infer)(const Graph&, Node&),
                void (*kernel)(const KernelCall&), Values (*gradient)(const GradientCall&)) {
  return {.name = name,
          .doc = doc,
          .args = xy_args,
          .infer = infer,
          .kernel = kernel,
          .gradient = gradient,
          .elementwise = true};
}

template <class Compare>
OpDef comparison_op(std::string_view name, std::string_view doc) {
  return binary_op(name, doc, comparison, comparison_kernel<Compare>, no_gradient);
}

}  // namespace

std::span<const OpDef> elementwise_ops() {
  static const std::vector<OpDef> table = {
      {.name = "identity",
       .doc = "x itself, under another name.",
       .args = x_arg,
       .infer = same_type,
       .kernel = copy_kernel,
       .gradient = identity_gradient,
       .elementwise = true},
      {.name = "cast",
       .doc = "x in another element type: \"fp16\", \"fp32\", \"int32\" or \"bool\".\n\nFloats round to "
              "nearest even, float to int truncates toward zero, anything to bool is x != 0.",
       .args = x_arg,
       .attrs = {{"dtype", AttrKind::text}},
       .infer = cast_type,
       .kernel = cast_kernel,
       .gradient = cast_gradient,
       .elementwise = true},
      unary_op("relu", "max(x, 0).", unary<relu_of>, relu_gradient),
      unary_op("tanh", "Hyperbolic tangent.", unary<tanh_of>, tanh_gradient),
      unary_op("sigmoid", "1 / (1 + exp(-x)).", unary<sigmoid_of>, sigmoid_gradient),
      unary_op("exp", "e to the power x.", unary<exp_of>, exp_gradient),
      {.name = "log",
       .doc = "Natural logarithm of x + epsilon.",
       .args = x_arg,
       .attrs = {{"epsilon", AttrKind::number, 1e-45}},
       .infer = with_epsilon,
       .kernel = epsilon_kernel<log_of>,
       .gradient = log_gradient,
       .elementwise = true},
      unary_op("erf", "The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.",
               unary<erf_of>, erf_gradient),
      unary_op("sqrt", "Square root; NaN below zero.", unary<sqrt_of>, sqrt_gradient),
      {.name = "rsqrt",
       .doc = "1 / sqrt(x + epsilon).",
       .args = x_arg,
       .attrs = {{"epsilon", AttrKind::number, 1e-12}},
       .infer = with_epsilon,
       .kernel = epsilon_kernel<rsqrt_of>,
       .gradient = rsqrt_gradient,
       .elementwise = true},
      {.name = "neg",
       .doc = "-x.",
       .args = x_arg,
       .infer = number_unary,
       .kernel = number_unary_kernel<neg_int, neg_of>,
       .gradient = neg_gradient,
       .expand = expand_neg,
       .in_mil = never,
       .elementwise = true},
      number_op("abs", "|x|.", number_unary_kernel<abs_int, abs_of>, abs_gradient),
      number_op("square", "x * x.", number_unary_kernel<square_int, square_of>, square_gradient),
      {.name = "clip",
       .doc = "x limited to [alpha, beta]. NaN stays NaN.",
       .args = x_arg,
       .attrs = {{"alpha", AttrKind::number}, {"beta", AttrKind::number}},
       .infer = clip_type,
       .kernel = clip_kernel,
       .gradient = clip_gradient,
       .elementwise = true},
      binary_op("add", "x + y, broadcasting. int32 wraps.", number_binary,
                number_binary_kernel<wrapped<add_bits>, add_of>, add_gradient),
      binary_op("sub", "x - y, broadcasting. int32 wraps.", number_binary,
                number_binary_kernel<wrapped<sub_bits>, sub_of>, sub_gradient),
      binary_op("mul", "x * y, broadcasting. int32 wraps.", number_binary,
                number_binary_kernel<wrapped<mul_bits>, mul_of>, mul_gradient),
      binary_op("real_div", "x / y, broadcasting, floats only.", float_binary, float_binary_kernel<div_of>,
                div_gradient),
      binary_op("pow", "x to the power y, broadcasting. A constant y gets no gradient.", float_binary,
                float_binary_kernel<pow_of>, pow_gradient),
      binary_op("maximum", "The larger of x and y, broadcasting; NaN if either is NaN.", number_binary,
                number_binary_kernel<max_int, maximum_of>, maximum_gradient),
      binary_op("minimum", "The smaller of x and y, broadcasting; NaN if either is NaN.", number_binary,
                number_binary_kernel<min_int, minimum_of>, minimum_gradient),
      comparison_op<std::equal_to<>>("equal", "x == y as bool, broadcasting."),
      comparison_op<std::not_equal_to<>>("not_equal", "x != y as bool, broadcasting."),
      comparison_op<std::less<>>("less", "x < y as bool, broadcasting."),
      comparison_op<std::less_equal<>>("less_equal", "x <= y as bool, broadcasting."),
      comparison_op<std::greater<>>("greater", "x > y as bool, broadcasting."),
      comparison_op<std::greater_equal<>>("greater_equal", "x >= y as bool, broadcasting."),
      {.name = "select",
       .doc = "a where cond is true, b elsewhere, broadcasting. A NaN that is not chosen does not matter.",
       .args = {{"cond"}, {"a"}, {"b"}},
       .infer = select_type,
       .kernel = select_kernel,
       .gradient = select_gradient,
       .elementwise = true},
  };
  return table;
}

}  // namespace orion
