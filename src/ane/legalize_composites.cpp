// Composite ops for an engine that computes in fp16, sums narrow, and knows no infinity to hide keys with.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "ops/rules.h"
#include "orion/ops.h"
#include "orion/passes.h"

#include <cmath>

namespace orion::ane {
namespace {

using Ints = std::vector<std::int64_t>;

// What hides a key: exp of it is 0 in fp16, and sums with scores stay finite.
constexpr double hidden = -1e4;

Value scaled(Value x, double factor) {
  return ops::mul(x, scalar_like(x, factor));
}

// -- norms ----------------------------------------------------------------------------------------

// The largest magnitude of each row, and at least sqrt(epsilon).
Value row_size(Value x, const Ints& axes, double epsilon) {
  return ops::maximum(ops::reduce_max(ops::abs(x), axes, true), scalar_like(x, std::sqrt(epsilon)));
}

// x / sqrt(mean(x^2) + epsilon). With m the row's size, u = x / m lies in [-1, 1] and mean(u^2) +
// epsilon / m^2 in (0, 2]: no square overflows, and rows of zeros give zeros. Of a centred x, u is centred
// again: where the mean was large beside what is left, its rounding shows.
Value normalised(Value x, const Ints& axes, double epsilon, bool is_centred) {
  const Value m = row_size(x, axes, epsilon);
  Value u = ops::real_div(x, m);
  if (is_centred) u = ops::sub(u, bounded_mean(u, axes));
  const Value least = ops::square(ops::real_div(scalar_like(x, std::sqrt(epsilon)), m));
  const Value mean_square = ops::add(bounded_mean(ops::square(u), axes), least);
  return ops::mul(u, ops::rsqrt(mean_square, 0.0));
}

// x - mean(x), the mean taken of x over its row's size, so that its sum stays in range.
Value centred(Value x, const Ints& axes, double epsilon) {
  const Value m = row_size(x, axes, epsilon);
  return ops::sub(x, ops::mul(m, bounded_mean(ops::real_div(x, m), axes)));
}

// gamma or beta with ones for the axes that are not normalised.
Value as_row(Value value, const Shape& x, const Ints& axes) {
  Shape row = Shape::ones(x.rank());
  for (const std::int64_t axis : axes) row.set(static_cast<int>(axis), x[static_cast<int>(axis)]);
  return reshaped(value, row);
}

Value expand_norm(const RewriteCall& call) {
  const Ints& axes = call.node.list("axes");
  const double epsilon = call.node.number("epsilon");
  const bool centre = call.node.is("layer_norm");
  const Value x = centre ? centred(call.in[0], axes, epsilon) : call.in[0];
  Value y = normalised(x, axes, epsilon, centre);
  if (call.in[1]) y = ops::mul(y, as_row(call.in[1], x.shape(), axes));
  return centre && call.in[2] ? ops::add(y, as_row(call.in[2], x.shape(), axes)) : y;
}

// -- activations ----------------------------------------------------------------------------------

// sigmoid(x) = (1 + tanh(x / 2)) / 2: the engine's own sigmoid table is reported wrong on one chip.
Value expand_silu(Value x) {
  const Value half = scaled(x, 0.5);
  return ops::add(half, ops::mul(half, ops::tanh(half)));
}

// All forms but the sigmoid one become the tanh form, which differs from the exact one by less than 5e-4.
Value expand_gelu(const RewriteCall& call) {
  if (call.node.text("mode") == "EXACT") return ops::gelu(call.in[0], "TANH_APPROXIMATION");
  return call.node.op->expand({call.graph, call.node, call.in});
}

// -- attention ------------------------------------------------------------------------------------

// (1, 1, T, S), or (1, T, S) beside operands of rank 3: 0 where query i may see key j <= i, else `hidden`.
Value causal_mask(const RewriteCall& call) {
  const Shape& query = call.in[0].shape();
  const std::int64_t queries = query[query.rank() - 2];
  const std::int64_t keys = call.in[1].shape()[query.rank() - 2];
  const Tensor mask({DType::fp32, query.rank() == 3 ? Shape{1, queries, keys} : Shape{1, 1, queries, keys}});
  float* values = mask.as<float>().data();
  for (std::int64_t i = 0; i < queries; ++i)
    for (std::int64_t j = i + 1; j < keys; ++j) values[i * keys + j] = static_cast<float>(hidden);
  return call.graph.constant(convert(mask, call.node.type.dtype), "causal_mask");
}

Tensor additive(const Tensor& visible, DType dtype) {
  const Tensor mask({DType::fp32, visible.shape()});
  for (std::size_t i = 0; i < mask.as<float>().size(); ++i)
    mask.as<float>()[i] = visible.as<std::uint8_t>()[i] != 0 ? 0.0F : static_cast<float>(hidden);
  return convert(mask, dtype);
}

Value explicit_mask(const RewriteCall& call) {
  const Value mask = call.in[3];
  if (!mask || mask.dtype() != DType::boolean) return mask;
  if (!mask.node().is("const"))
    fail("legalize: ", call.node.name,
         " (scaled_dot_product_attention) has a bool mask that is computed; the "
         "engine needs numbers to add to the scores, 0 or ",
         hidden);
  return call.graph.constant(additive(mask.node().value, call.node.type.dtype));
}

// causal becomes a constant mask; a node with explicit masks alone expands by the op table.
Value expand_attention(const RewriteCall& call) {
  if (call.in[4])
    fail("legalize: ", call.node.name,
         " (scaled_dot_product_attention) has a run-time position, which the engine cannot compare with; "
         "attend over the cache on the host");
  Value mask = explicit_mask(call);
  if (call.node.flag("causal")) mask = mask ? ops::add(mask, causal_mask(call)) : causal_mask(call);
  Node plain = call.node;
  plain.attrs[*plain.op->attr_index("causal")] = false;
  std::vector<Value> in = call.in;
  in[3] = mask;
  return plain.op->expand({call.graph, plain, in});
}

// -- small probabilities -------------------------------------------------------------------------

// Attention over many keys: products of probabilities and values stay above what is dropped down to 2^-20,
// and sums in range while values are below 1023.
constexpr double probability_scale = 64.0;

bool is_probabilities(Value x) {
  while (x.node().is("reshape")) x = x.graph->value(x.node().inputs[0]);
  return x.node().is("softmax");
}

}  // namespace

//   %3 (1, 4, 32, 32) = softmax(x=%2)
//   %4 (1, 4, 32, 64) = matmul(x=%3, y=%1)
// becomes
//   %3 (1, 4, 32, 32) = softmax(x=%2)
//   %4 (1, 4, 32, 32) = mul(x=%3, y=64)
//   %5 (1, 4, 32, 64) = matmul(x=%4, y=%1)
//   %6 (1, 4, 32, 64) = mul(x=%5, y=1/64)
Graph scale_probabilities(const Graph& graph, const Profile& profile) {
  if (!profile.has("denormals-flushed")) return graph;
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    const bool weighs =
        call.node.is("matmul") && !call.node.flag("transpose_x") && is_probabilities(call.in[0]);
    if (!weighs) return {};
    const Value sums =
        ops::matmul(scaled(call.in[0], probability_scale), call.in[1], false, call.node.flag("transpose_y"));
    return scaled(sums, 1.0 / probability_scale);
  });
}

Graph expand_for_engine(const Graph& graph) {
  bool expanded = true;
  Graph current = graph;
  while (expanded) {
    expanded = false;
    current = rewrite(current, [&](const RewriteCall& call) -> Value {
      const Node& node = call.node;
      const bool is_plain = node.op->expand == nullptr || (node.is("conv") && !call.in[2]);
      if (is_plain) return {};
      expanded = true;
      if (node.is("layer_norm") || node.is("rms_norm")) return expand_norm(call);
      if (node.is("silu")) return expand_silu(call.in[0]);
      if (node.is("gelu")) return expand_gelu(call);
      if (node.is("scaled_dot_product_attention")) return expand_attention(call);
      return node.op->expand({call.graph, node, call.in});
    });
  }
  return current;
}

}  // namespace orion::ane
