// What attention and its gradient share.
#pragma once

#include "orion/op.h"

namespace orion {

/// query (B, H, T, D), key (B, G, S, D), value (B, G, S, E); of rank 3 H and G are 1.
struct AttentionSizes {
  std::int64_t b, h, g, t, s, d, e;

  /// The query heads that share a key head, one after the other along T.
  std::int64_t stacked() const { return h / g * t; }
  /// Which of all B G key heads the query head reads, of all B H.
  std::int64_t key_head(std::int64_t head) const { return head / h * g + head % h / (h / g); }
};

AttentionSizes attention_sizes(const Shape& query, const Shape& key, const Shape& value);
/// Error unless they fit together.
void check_attention(std::string_view op, const Shape& query, const Shape& key, const Shape& value);
/// Brings the attribute to its canonical form: the usual scale is written 0.
void canonical_attention_scale(Node& node, std::int64_t d);
double attention_scale(const Node& node, std::int64_t d);

/// exp(x) / sum(exp(x)), in place.
void exact_softmax(std::span<double> x);
double exact_dot(const float* x, const float* y, std::int64_t count);

struct AttentionOperands {
  Value query, key, value, mask = {}, position = {};
};

/// The query times the scale (B, G, stacked, D), and softmax(query key^T * scale + mask) (B, G, stacked, S)
/// in simpler ops.
struct AttentionWeights {
  Value query, weights;
};
AttentionWeights attention_weights(const Node& node, const AttentionOperands& in);

/// The gradients of each operand of scaled_dot_product_attention.
std::vector<Value> attention_gradients(const GradientCall& call);

}  // namespace orion
