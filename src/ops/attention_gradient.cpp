// What comes back through scaled dot product attention. Sizes as in attention.h.
//
// With P = softmax(Q K^T scale) and dP = dY V^T: dV = P^T dY, dS = P (dP - sum(P dP)), dQ = dS K scale and
// dK = dS^T Q scale.
#include "ops/attention.h"
#include "ops/composite.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <algorithm>
#include <array>

namespace orion {
namespace {

constexpr std::string_view op_name = "scaled_dot_product_attention_gradient";
constexpr std::array<std::string_view, 3> operands = {"query", "key", "value"};

std::size_t operand_of(const Node& node) {
  const auto found = std::ranges::find(operands, node.text("of"));
  if (found == operands.end())
    fail(op_name, ": of '", node.text("of"), "', one of query, key, value is needed");
  return static_cast<std::size_t>(found - operands.begin());
}

TensorType attention_gradient_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  for (std::size_t arg = 1; arg < 4; ++arg) require_same_dtype(graph, node, 0, arg);
  const Shape& query = operand(graph, node, 0).shape;
  const Shape& value = operand(graph, node, 2).shape;
  check_attention(op_name, query, operand(graph, node, 1).shape, value);
  Shape result = query;
  result.set(query.rank() - 1, value.back());
  if (operand(graph, node, 3).shape != result)
    fail(op_name, ": dy is ", operand(graph, node, 3).shape, ", attention gives ", result);
  canonical_attention_scale(node, query.back());
  return operand(graph, node, operand_of(node));
}

// -- kernel ---------------------------------------------------------------------------------------

// dx += factor * y
void add_scaled(double* dx, double factor, const float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] += factor * static_cast<double>(y[i]);
}

void attention_gradient_kernel(const KernelCall& call) {
  const AttentionSizes z = attention_sizes(call.in[0].shape, call.in[1].shape, call.in[2].shape);
  const double scale = attention_scale(call.node, z.d);
  const std::size_t of = operand_of(call.node);
  std::vector<double> dx(static_cast<std::size_t>(call.out.shape.size()));
  for (std::int64_t row = 0; row < z.b * z.h * z.t; ++row) {
    const std::int64_t shared = z.key_head(row / z.t);
    const float* query = call.in[0].as<float>() + row * z.d;
    const float* keys = call.in[1].as<float>() + shared * z.s * z.d;
    const float* values = call.in[2].as<float>() + shared * z.s * z.e;
    const float* dy = call.in[3].as<float>() + row * z.e;
    const std::int64_t seen = call.node.flag("causal") ? std::min(row % z.t + 1, z.s) : z.s;
    std::vector<double> weights, back;
    for (std::int64_t s = 0; s < seen; ++s) {
      weights.push_back(exact_dot(query, keys + s * z.d, z.d) * scale);
      back.push_back(exact_dot(dy, values + s * z.e, z.e));
    }
    exact_softmax(weights);
    double along = 0.0;
    for (std::size_t s = 0; s < weights.size(); ++s) along += weights[s] * back[s];
    for (std::int64_t s = 0; s < seen; ++s) {
      const double p = weights[static_cast<std::size_t>(s)];
      const double dscore = p * (back[static_cast<std::size_t>(s)] - along) * scale;
      if (of == 0) add_scaled(dx.data() + row * z.d, dscore, keys + s * z.d, z.d);
      if (of == 1) add_scaled(dx.data() + (shared * z.s + s) * z.d, dscore, query, z.d);
      if (of == 2) add_scaled(dx.data() + (shared * z.s + s) * z.e, p, dy, z.e);
    }
  }
  std::ranges::transform(dx, call.out.as<float>(), [](double value) { return static_cast<float>(value); });
}

// -- in simpler ops -------------------------------------------------------------------------------

struct Parts {
  Value query, key, value;
  Value scores;  // (B, H, T, S)
};

Parts in_parts(const Node& node, const AttentionOperands& in, Value result_gradient) {
  const AttentionSizes z = attention_sizes(in.query.shape(), in.key.shape(), in.value.shape());
  const auto [query, p] = attention_weights(node, in);
  const Value key = reshaped(in.key, {z.b, z.g, z.s, z.d});
  const Value value = reshaped(in.value, {z.b, z.g, z.s, z.e});
  const Value dy = reshaped(result_gradient, {z.b, z.g, z.stacked(), z.e});
  const Value dp = ops::matmul(dy, value, false, true);
  const Value ds = ops::mul(p, ops::sub(dp, ops::reduce_sum(ops::mul(p, dp), {-1}, true)));
  const Value dq = ops::mul(ops::matmul(ds, key), scalar_like(key, attention_scale(node, z.d)));
  return {reshaped(dq, in.query.shape()), reshaped(ops::matmul(ds, query, true), in.key.shape()),
          reshaped(ops::matmul(p, dy, true), in.value.shape()), reshaped(ds, {z.b, z.h, z.t, z.s})};
}

Value expand_attention_gradient(const ExpandCall& c) {
  const Parts parts = in_parts(c.node, {c.in[0], c.in[1], c.in[2]}, c.in[3]);
  return std::array{parts.query, parts.key, parts.value}[operand_of(c.node)];
}

// Of a mask that is added to the scores.
Value mask_gradient(const GradientCall& c, Value dscores) {
  const Shape& shape = c.in[3].shape();
  const bool gets_heads = c.in[0].shape().rank() == 3 && shape.rank() == 3;
  const Shape beside = gets_heads ? Shape{shape[0], 1, shape[1], shape[2]} : shape;
  return reshaped(sum_to(dscores, beside), shape);
}

}  // namespace

std::vector<Value> attention_gradients(const GradientCall& c) {
  const Value mask = c.in[3], position = c.in[4];
  if (mask || position) {
    const Parts parts = in_parts(c.node, {c.in[0], c.in[1], c.in[2], mask, position}, c.dy);
    const bool added = mask && is_float(mask.dtype());
    return {parts.query, parts.key, parts.value, added ? mask_gradient(c, parts.scores) : Value(), {}};
  }
  const auto of = [&](std::string_view name) {
    return ops::scaled_dot_product_attention_gradient(c.in[0], c.in[1], c.in[2], c.dy, std::string(name),
                                                      c.node.flag("causal"), c.node.number("scale"));
  };
  return {of(operands[0]), of(operands[1]), of(operands[2]), {}, {}};
}

OpDef attention_gradient_op() {
  return {
      .name = op_name,
      .doc =
          "What comes back through scaled_dot_product_attention to its query, key or value.\n\nquery, key "
          "and value as there, without mask and position; dy has the shape of its result. The result has "
          "the shape of the operand that `of` names.",
      .args = {{"query"}, {"key"}, {"value"}, {"dy"}},
      .attrs = {{"of", AttrKind::text},
                {"causal", AttrKind::boolean, false},
                {"scale", AttrKind::number, 0.0}},
      .infer = attention_gradient_type,
      .kernel = attention_gradient_kernel,
      .expand = expand_attention_gradient,
      .in_mil = not_in_mil};
}

}  // namespace orion
