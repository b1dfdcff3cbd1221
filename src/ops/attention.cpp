// Scaled dot-product attention.
//
// Shapes: query (B, H, T, D), key (B, G, S, D), value (B, G, S, E) -> (B, H, T, E). Query head h reads
// key/value head h / (H / G). Tensors of rank 3 (B, T, D) have one head.
#include "ops/attention.h"

#include "ops/composite.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace orion {
namespace {

constexpr std::size_t mask_arg = 3;
constexpr std::size_t position_arg = 4;

// -- type rule ------------------------------------------------------------------------------------

Shape score_shape(const Shape& query, const Shape& key) {
  Shape shape = query;
  shape.set(query.rank() - 1, key[key.rank() - 2]);
  return shape;
}

void check_mask(const Graph& graph, const Node& node, const Shape& scores) {
  if (!given(node, mask_arg)) return;
  const TensorType& mask = operand(graph, node, mask_arg);
  if (mask.dtype != DType::boolean) require_same_dtype(graph, node, 0, mask_arg);
  if (broadcast(node, mask.shape, scores) != scores)
    fail("scaled_dot_product_attention: attn_mask ", mask.shape, " does not stretch to the scores ", scores);
}

void check_position(const Graph& graph, const Node& node, std::int64_t batch) {
  if (!given(node, position_arg)) return;
  require_dtype(graph, node, position_arg, DType::int32);
  if (operand(graph, node, position_arg).shape != Shape{batch})
    fail("scaled_dot_product_attention: position is ", operand(graph, node, position_arg).shape, ", ",
         Shape{batch}, " is needed, one number for each sequence");
}

TensorType attention_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  require_same_dtype(graph, node, 0, 1);
  require_same_dtype(graph, node, 0, 2);
  const TensorType& query = operand(graph, node, 0);
  const Shape& key = operand(graph, node, 1).shape;
  const Shape& value = operand(graph, node, 2).shape;
  check_attention("scaled_dot_product_attention", query.shape, key, value);
  check_mask(graph, node, score_shape(query.shape, key));
  check_position(graph, node, query.shape[0]);
  canonical_attention_scale(node, query.shape.back());
  if (given(node, position_arg)) set_attr(node, "causal", false);  // which says nothing then
  Shape shape = query.shape;
  shape.set(shape.rank() - 1, value.back());
  return {query.dtype, shape};
}

// -- kernel ---------------------------------------------------------------------------------------

constexpr double hidden = -std::numeric_limits<double>::infinity();

// What the mask adds to a score.
double mask_term(const View& mask, std::int64_t at) {
  if (mask.data == nullptr) return 0.0;
  if (mask.dtype == DType::boolean) return mask.as<std::uint8_t>()[at] != 0 ? 0.0 : hidden;
  return static_cast<double>(mask.as<float>()[at]);
}

// The last key that each query of sequence b sees is last_key + the query's number.
std::int64_t last_key(const KernelCall& call, std::int64_t b, std::int64_t keys) {
  const View& position = call.in[position_arg];
  if (position.data != nullptr) return position.as<std::int32_t>()[b];
  return call.node.flag("causal") ? 0 : keys;
}

void attention_kernel(const KernelCall& call) {
  const AttentionSizes z = attention_sizes(call.in[0].shape, call.in[1].shape, call.in[2].shape);
  const View& mask = call.in[mask_arg];
  const double scale = attention_scale(call.node, z.d);
  const Shape scores = score_shape(call.in[0].shape, call.in[1].shape);
  const Shape rows(std::span(scores.begin(), scores.end() - 1));
  const Strides mask_strides = mask.data == nullptr ? Strides{} : broadcast_strides(mask.shape, scores);
  const std::int64_t mask_step = mask_strides[static_cast<std::size_t>(rows.rank())];
  std::vector<double> weights(static_cast<std::size_t>(z.s));
  for_each<1>(rows, {mask_strides}, [&](std::int64_t row, const auto& mask_at) {
    const std::int64_t head = row / z.t;  // of all B * H
    const std::int64_t shared = z.key_head(head);
    const std::int64_t last = last_key(call, head / z.h, z.s) + row % z.t;
    const float* query = call.in[0].as<float>() + row * z.d;
    const float* keys = call.in[1].as<float>() + shared * z.s * z.d;
    const float* values = call.in[2].as<float>() + shared * z.s * z.e;
    for (std::int64_t s = 0; s < z.s; ++s)
      weights[static_cast<std::size_t>(s)] = s > last ? hidden
                                                      : exact_dot(query, keys + s * z.d, z.d) * scale +
                                                            mask_term(mask, mask_at[0] + s * mask_step);
    exact_softmax(weights);
    for (std::int64_t e = 0; e < z.e; ++e) {
      double sum = 0.0;
      for (std::int64_t s = 0; s < z.s; ++s)
        sum += weights[static_cast<std::size_t>(s)] * static_cast<double>(values[s * z.e + e]);
      call.out.as<float>()[row * z.e + e] = static_cast<float>(sum);
    }
  });
}

// -- expansion ------------------------------------------------------------------------------------

// bool (T, S) or (B, 1, T, S): whether query i may see key j. Empty if it may see all.
Value visible_keys(const Node& node, const AttentionOperands& in, const AttentionSizes& z) {
  if (!in.position && !node.flag("causal")) return {};
  Graph& graph = *in.query.graph;
  Value queries = reshaped(counting(graph, z.t), {z.t, 1});
  if (in.position) queries = ops::add(queries, reshaped(in.position, {z.b, 1, 1, 1}));
  return ops::less_equal(counting(graph, z.s), queries);
}

// Hidden keys get -inf: a weight of exactly 0, and NaN in a row that sees no key, as in the kernel.
Value hide(Value scores, Value visible) {
  return ops::select(visible, scores, scalar_like(scores, hidden));
}

// The mask beside scores (B, H, T, S): a rank-3 mask of rank-3 operands gets the axis of heads.
Value with_heads(const AttentionOperands& in) {
  const Shape& shape = in.mask.shape();
  if (in.query.shape().rank() == 4 || shape.rank() < 3) return in.mask;
  return reshaped(in.mask, {shape[0], 1, shape[1], shape[2]});
}

Value masked(const Node& node, const AttentionOperands& in, const AttentionSizes& z, Value scores) {
  if (const Value visible = visible_keys(node, in, z)) scores = hide(scores, visible);
  if (!in.mask) return scores;
  const Value mask = with_heads(in);
  return mask.dtype() == DType::boolean ? hide(scores, mask) : ops::add(scores, mask);
}

Value expand_attention(const ExpandCall& c) {
  const AttentionSizes z = attention_sizes(c.in[0].shape(), c.in[1].shape(), c.in[2].shape());
  const Value weights = attention_weights(c.node, {c.in[0], c.in[1], c.in[2], c.in[3], c.in[4]}).weights;
  return reshaped(ops::matmul(weights, reshaped(c.in[2], {z.b, z.g, z.s, z.e})), c.node.type.shape);
}

// MIL knows no causal, position, scale or shared heads, and wants the mask's last axis in full.
bool attention_in_mil(const Graph& graph, const Node& node) {
  const Shape& query = operand(graph, node, 0).shape;
  const Shape& key = operand(graph, node, 1).shape;
  if (node.flag("causal") || given(node, position_arg) || node.number("scale") != 0.0) return false;
  if (query.rank() == 4 && query[1] != key[1]) return false;
  if (!given(node, mask_arg)) return true;
  const Shape& mask = operand(graph, node, mask_arg).shape;
  return mask.rank() > 0 && mask.back() == key[key.rank() - 2];
}

}  // namespace

AttentionSizes attention_sizes(const Shape& query, const Shape& key, const Shape& value) {
  const int rank = query.rank();
  const bool heads = rank == 4;
  return {query[0],      heads ? query[1] : 1, heads ? key[1] : 1, query[rank - 2],
          key[rank - 2], query.back(),         value.back()};
}

void check_attention(std::string_view op, const Shape& query, const Shape& key, const Shape& value) {
  const int rank = query.rank();
  if (rank < 3 || rank > 4 || key.rank() != rank || value.rank() != rank)
    fail(op, ": query ", query, ", key ", key, " and value ", value, " need equal ranks, 3 or 4");
  const AttentionSizes z = attention_sizes(query, key, value);
  if (key[0] != z.b || value[0] != z.b)
    fail(op, ": query ", query, ", key ", key, " and value ", value, " differ in their first axis");
  if (key.back() != z.d) fail(op, ": query has ", z.d, " features, key has ", key.back());
  if (value[rank - 2] != z.s) fail(op, ": there are ", z.s, " keys and ", value[rank - 2], " values");
  if (rank == 4 && value[1] != z.g) fail(op, ": key has ", z.g, " heads, value has ", value[1]);
  if (z.h % z.g != 0) fail(op, ": ", z.h, " query heads do not divide among ", z.g, " key heads");
}

void canonical_attention_scale(Node& node, std::int64_t d) {
  canonical_number(node, "scale", DType::fp32);
  const auto usual = static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)));
  if (static_cast<float>(node.number("scale")) == usual) set_attr(node, "scale", 0.0);
}

double attention_scale(const Node& node, std::int64_t d) {
  const double scale = node.number("scale");
  return scale == 0.0 ? 1.0 / std::sqrt(static_cast<double>(d)) : scale;
}

void exact_softmax(std::span<double> x) {
  const double max = *std::ranges::max_element(x);
  double sum = 0.0;
  for (double& value : x) {
    value = std::exp(value - max);
    sum += value;
  }
  for (double& value : x) value /= sum;
}

double exact_dot(const float* x, const float* y, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  return sum;
}

// The query heads that share a key head are stacked along T, so no key or value is repeated; the query
// is scaled before the product, which keeps fp16 scores in range.
AttentionWeights attention_weights(const Node& node, const AttentionOperands& in) {
  const AttentionSizes z = attention_sizes(in.query.shape(), in.key.shape(), in.value.shape());
  const Value scaled = ops::mul(in.query, scalar_like(in.query, attention_scale(node, z.d)));
  const Value query = reshaped(scaled, {z.b, z.g, z.stacked(), z.d});
  const Value key = reshaped(in.key, {z.b, z.g, z.s, z.d});
  const Value scores = reshaped(ops::matmul(query, key, false, true), {z.b, z.h, z.t, z.s});
  return {query, reshaped(ops::softmax(masked(node, in, z, scores)), {z.b, z.g, z.stacked(), z.s})};
}

OpDef attention_op() {
  return {.name = "scaled_dot_product_attention",
          .doc =
              "softmax(query key^T * scale + mask) value for each head.\n\nquery (B, H, T, D), key (B, G, S, "
              "D), value (B, G, S, E) -> (B, H, T, E); query head h reads key and value head h / (H / G). "
              "Rank 3 means one head. attn_mask stretches to (B, H, T, S): bool (true: may be seen) or "
              "numbers added to the scores. causal hides keys j > i from query i; position, int32 (B,), "
              "hides keys j > position[b] + i, for queries that continue a sequence. scale 0 stands for 1 / "
              "sqrt(D). A query that sees no key gets NaN.",
          .args = {{"query"},
                   {"key"},
                   {"value"},
                   {"attn_mask", ArgKind::optional},
                   {"position", ArgKind::optional}},
          .attrs = {{"causal", AttrKind::boolean, false, false}, {"scale", AttrKind::number, 0.0, false}},
          .infer = attention_type,
          .kernel = attention_kernel,
          .gradient = attention_gradients,
          .expand = expand_attention,
          .in_mil = attention_in_mil};
}

}  // namespace orion
