// Ops that could be written in simpler ones (`expand` does) but have faster fused forms. Activations are
// here, the others in normalization.cpp, rope.cpp, attention*.cpp, cache_update.cpp and cross_entropy.cpp.
#include "ops/composite.h"

#include "ops/families.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <cmath>

namespace orion {
namespace {

using Values = std::vector<Value>;

constexpr double sqrt_half = 0.70710678118654752;
constexpr double sqrt_two_over_pi = 0.79788456080286536;
constexpr double inv_sqrt_two_pi = 0.39894228040143268;
constexpr double cubic = 0.044715;  // of the tanh form of gelu
constexpr double slope = 1.702;     // of its sigmoid form

Value scaled(Value x, double factor) {
  return ops::mul(x, scalar_like(x, factor));
}
Value plus(Value x, double term) {
  return ops::add(x, scalar_like(x, term));
}
Value one_minus(Value x) {
  return ops::sub(scalar_like(x, 1.0), x);
}

void map(const KernelCall& call, double (*f)(double)) {
  const float* x = call.in[0].as<float>();
  float* y = call.out.as<float>();
  for (std::int64_t i = 0; i < call.out.shape.size(); ++i)
    y[i] = static_cast<float>(f(static_cast<double>(x[i])));
}

// Of x and dy.
template <class F>
void map_pairs(const KernelCall& call, F f) {
  const float* x = call.in[0].as<float>();
  const float* dy = call.in[1].as<float>();
  float* dx = call.out.as<float>();
  for (std::int64_t i = 0; i < call.out.shape.size(); ++i)
    dx[i] = static_cast<float>(f(static_cast<double>(x[i]), static_cast<double>(dy[i])));
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

// -- silu -----------------------------------------------------------------------------------------

TensorType silu_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  return operand(graph, node, 0);
}

void silu_kernel(const KernelCall& call) {
  map(call, [](double x) { return x * sigmoid(x); });
}

Values silu_gradient(const GradientCall& c) {
  return {ops::silu_gradient(c.in[0], c.dy)};
}

Value expand_silu(const ExpandCall& c) {
  return ops::mul(c.in[0], ops::sigmoid(c.in[0]));
}

// y = x s with s = sigmoid(x): dy/dx = s + y (1 - s)
void silu_gradient_kernel(const KernelCall& call) {
  map_pairs(call, [](double x, double dy) {
    const double s = sigmoid(x);
    return dy * s * (1.0 + x * (1.0 - s));
  });
}

Value expand_silu_gradient(const ExpandCall& c) {
  const Value s = ops::sigmoid(c.in[0]);
  return ops::mul(c.in[1], ops::add(s, ops::mul(ops::mul(c.in[0], s), one_minus(s))));
}

// The gradient of an activation: x and what comes back through it.
TensorType activation_gradient_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  require_same_dtype(graph, node, 0, 1);
  require_same_shape(graph, node, 0, 1);
  return operand(graph, node, 0);
}

// -- gelu -----------------------------------------------------------------------------------------

// The probability that multiplies x in each form of gelu, and its derivative.
struct GeluMode {
  std::string_view name;
  double (*number)(double x);
  double (*slope)(double x, double probability);  // its derivative, in numbers
  Value (*value)(Value x);
  Value (*derivative)(Value x, Value probability);
};

// Beyond +-10 the probability is 0 or 1 to the last bit, and x^3 would overflow fp16.
Value limited(Value x) {
  return ops::clip(x, -10.0, 10.0);
}

double exact_number(double x) {
  return 0.5 * (1.0 + std::erf(x * sqrt_half));
}
Value exact_value(Value x) {
  return scaled(plus(ops::erf(scaled(x, sqrt_half)), 1.0), 0.5);
}
double exact_slope(double x, double) {
  return inv_sqrt_two_pi * std::exp(-0.5 * x * x);
}
Value exact_derivative(Value x, Value) {
  return scaled(ops::exp(scaled(ops::square(limited(x)), -0.5)), inv_sqrt_two_pi);
}

double tanh_number(double x) {
  return 0.5 * (1.0 + std::tanh(sqrt_two_over_pi * (x + cubic * x * x * x)));
}
Value tanh_value(Value x) {
  const Value l = limited(x);
  const Value inner = ops::mul(scaled(l, sqrt_two_over_pi), plus(scaled(ops::square(l), cubic), 1.0));
  return scaled(plus(ops::tanh(inner), 1.0), 0.5);
}
// p = (1 + tanh u) / 2: dp = 2 p (1 - p) du
double tanh_slope(double x, double p) {
  return 2.0 * p * (1.0 - p) * sqrt_two_over_pi * (1.0 + 3.0 * cubic * x * x);
}
Value tanh_derivative(Value x, Value p) {
  const Value du = scaled(plus(scaled(ops::square(limited(x)), 3 * cubic), 1.0), 2 * sqrt_two_over_pi);
  return ops::mul(ops::mul(p, one_minus(p)), du);
}

double sigmoid_number(double x) {
  return sigmoid(slope * x);
}
Value sigmoid_value(Value x) {
  return ops::sigmoid(scaled(x, slope));
}
double sigmoid_slope(double, double p) {
  return slope * p * (1.0 - p);
}
Value sigmoid_derivative(Value, Value p) {
  return scaled(ops::mul(p, one_minus(p)), slope);
}

constexpr GeluMode gelu_modes[] = {
    {"EXACT", exact_number, exact_slope, exact_value, exact_derivative},
    {"TANH_APPROXIMATION", tanh_number, tanh_slope, tanh_value, tanh_derivative},
    {"SIGMOID_APPROXIMATION", sigmoid_number, sigmoid_slope, sigmoid_value, sigmoid_derivative},
};

const GeluMode& gelu_mode(const Node& node) {
  for (const GeluMode& mode : gelu_modes)
    if (mode.name == node.text("mode")) return mode;
  fail(node.op->name, ": mode '", node.text("mode"),
       "', one of EXACT, TANH_APPROXIMATION, SIGMOID_APPROXIMATION is needed");
}

TensorType gelu_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  gelu_mode(node);
  return operand(graph, node, 0);
}

void gelu_kernel(const KernelCall& call) {
  const GeluMode& mode = gelu_mode(call.node);
  const float* x = call.in[0].as<float>();
  float* y = call.out.as<float>();
  for (std::int64_t i = 0; i < call.out.shape.size(); ++i) {
    const auto wide = static_cast<double>(x[i]);
    y[i] = static_cast<float>(wide * mode.number(wide));
  }
}

Values gelu_gradient(const GradientCall& c) {
  return {ops::gelu_gradient(c.in[0], c.dy, c.node.text("mode"))};
}

TensorType gelu_gradient_type(const Graph& graph, Node& node) {
  gelu_mode(node);
  return activation_gradient_type(graph, node);
}

// y = x p: dy/dx = p + x dp/dx
void gelu_gradient_kernel(const KernelCall& call) {
  const GeluMode& mode = gelu_mode(call.node);
  map_pairs(call, [&](double x, double dy) {
    const double p = mode.number(x);
    return dy * (p + x * mode.slope(x, p));
  });
}

Value expand_gelu_gradient(const ExpandCall& c) {
  const GeluMode& mode = gelu_mode(c.node);
  const Value p = mode.value(c.in[0]);
  return ops::mul(c.in[1], ops::add(p, ops::mul(c.in[0], mode.derivative(c.in[0], p))));
}

Value expand_gelu(const ExpandCall& c) {
  return ops::mul(c.in[0], gelu_mode(c.node).value(c.in[0]));
}

}  // namespace

std::span<const OpDef> composite_ops() {
  static const std::vector<OpDef> table = {
      {.name = "silu",
       .doc = "x * sigmoid(x), also called swish.",
       .args = {{"x"}},
       .infer = silu_type,
       .kernel = silu_kernel,
       .gradient = silu_gradient,
       .expand = expand_silu,
       .elementwise = true},
      {.name = "gelu",
       .doc =
           "x times the probability that a normal variable is below x.\n\nEXACT: x (1 + erf(x / sqrt 2)) / "
           "2. TANH_APPROXIMATION: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. "
           "SIGMOID_APPROXIMATION: x sigmoid(1.702 x).",
       .args = {{"x"}},
       .attrs = {{"mode", AttrKind::text, std::string("EXACT")}},
       .infer = gelu_type,
       .kernel = gelu_kernel,
       .gradient = gelu_gradient,
       .expand = expand_gelu,
       .elementwise = true},
      {.name = "silu_gradient",
       .doc = "What comes back through silu: dy times its derivative at x.",
       .args = {{"x"}, {"dy"}},
       .infer = activation_gradient_type,
       .kernel = silu_gradient_kernel,
       .expand = expand_silu_gradient,
       .in_mil = not_in_mil,
       .elementwise = true},
      {.name = "gelu_gradient",
       .doc = "What comes back through gelu of that mode: dy times its derivative at x.",
       .args = {{"x"}, {"dy"}},
       .attrs = {{"mode", AttrKind::text, std::string("EXACT")}},
       .infer = gelu_gradient_type,
       .kernel = gelu_gradient_kernel,
       .expand = expand_gelu_gradient,
       .in_mil = not_in_mil,
       .elementwise = true},
      layer_norm_op(),
      rms_norm_op(),
      layer_norm_gradient_op(),
      rms_norm_gradient_op(),
      rope_op(),
      attention_op(),
      attention_gradient_op(),
      cache_update_op(),
      cross_entropy_op(),
      cross_entropy_gradient_op(),
  };
  return table;
}

}  // namespace orion
