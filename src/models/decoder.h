// What the graphs of all decoder-only transformers share.
#pragma once

#include "orion/model.h"

namespace orion {

Value activated(Activation activation, Value x);
/// What the attention scores of a layer are multiplied by.
double score_scale(const ModelConfig& config, std::int64_t layer);

/// A graph under construction, with its run-time inputs.
class Decoder {
 public:
  Decoder(const ModelConfig& config, const ForwardShape& shape, DType dtype);
  Decoder(const Decoder&) = delete;  // values point into the graph
  Decoder& operator=(const Decoder&) = delete;

  Graph& graph() { return graph_; }
  Graph release() { return std::move(graph_); }
  /// Rows a table of positions needs: S, or T without a cache.
  std::int64_t positions() const { return shape_.cache > 0 ? shape_.cache : shape_.tokens; }

  Value weight(const std::string& name, const Shape& shape);
  /// Rows of an embedding (V, C) for the token ids: (B, T, C).
  Value embed(Value table);
  /// Rows of `table` (positions, n) for the tokens' positions: (B, T, n), or (T, n) without a cache.
  Value rows_at_positions(Value table);

  /// x W^T + b, with W (out, in) at `name`.weight and b (out,) at `name`.bias, as torch.nn.Linear.
  Value linear(Value x, const std::string& name, std::int64_t out, bool bias);
  /// x W + b, with W (in, out), as GPT-2's Conv1D.
  Value conv1d(Value x, const std::string& name, std::int64_t out);
  Value activate(Value x) const { return activated(config_.activation, x); }

  /// x (B, T, C), or its last row (B, 1, C) in a layer that is wanted of the last token alone, but for its
  /// keys and values.
  Value wanted_rows(Value x, std::int64_t layer) const;

  /// (B, T, n*D) -> (B, n, T, D).
  static Value split_heads(Value x, std::int64_t count);
  /// (B, H, T, D) -> (B, T, H*D).
  static Value merge_heads(Value x);
  /// Causal attention of the last tokens' q (B, H, up to T, D) over k and v (B, G, T, D), preceded by the
  /// rows that `layer`'s caches hold if there are any: they then become outputs, k and v written into them.
  Value attention(Value q, Value k, Value v, std::int64_t layer);

  /// What comes of all layers: (B, T, C), or (B, C) if only the last position's logits are wanted.
  Value result_rows(Value x) const;
  /// Logits by the embedding (V, C) if the head is tied to it, else by lm_head.weight; the graph's output.
  void finish(Value x, Value embedding);

 private:
  Value cached(const std::string& name, Value rows);

  const ModelConfig& config_;
  ForwardShape shape_;
  DType dtype_;
  Graph graph_;
  Value ids_;              // (B, T)
  Value position_;         // (B,); empty without a cache
  Value token_positions_;  // (B, T); empty without a cache
};

}  // namespace orion
