// A segment under construction. Shapes in comments are those of Layout::columns: activations (1, C, 1, S), a
// column for each token; as rows they are (S, C).
#pragma once

#include "orion/segments.h"

namespace orion {

class Columns {
 public:
  Columns(const ModelConfig& config, const SegmentShape& shape);
  Columns(const Columns&) = delete;  // values point into the graph
  Columns& operator=(const Columns&) = delete;

  Graph& graph() { return graph_; }
  Graph release() { return std::move(graph_); }

  Value input(std::string_view name, std::int64_t channels);
  Value weight(const std::string& name, const Shape& shape);
  /// W x + b, with W (out, in) at `name`.weight and b (out,) at `name`.bias, as torch.nn.Linear.
  Value linear(Value x, const std::string& name, std::int64_t out, bool bias);
  /// W^T x + b, with W (in, out), as GPT-2's Conv1D.
  Value conv1d(Value x, const std::string& name, std::int64_t out);
  Value activate(Value x) const;
  /// The graph of logits (1, count, 1, B S) for the normalised x: those of the shape's part of the
  /// vocabulary, by the embedding of that name if the head is tied to it.
  Graph head(Value x, const std::string& embedding);

  /// The angles of every token's position, an input (1, D/2, 1, B S): (B, 1, S, D/2). Rows are those of one
  /// sequence (S, D/2), since a broadcast over sequences costs the CPU nothing and the engine refuses it.
  Value angles(std::string_view name);
  /// (1, n D, 1, B S) -> (B, n, S, D)
  Value split_heads(Value x, std::int64_t count) const;
  /// (B, n, S, D) -> (1, n D, 1, B S)
  Value merge_heads(Value x) const;
  /// Causal attention of q (B, H, S, D) over k and v (B, G, S, D): (1, H D, 1, B S).
  Value attention(Value q, Value k, Value v, std::int64_t layer) const;

 private:
  std::int64_t key_heads_at_once() const;
  Value product(Value x, Value w) const;
  Value with_bias(Value y, const std::string& bias);

  const ModelConfig& config_;
  SegmentShape shape_;
  Graph graph_;
};

/// The graph of one kind of a layer that has a function for each.
template <class Layer>
Graph segment_of(Layer&& layer, SegmentKind kind) {
  switch (kind) {
    case SegmentKind::attention:
      return layer.attention();
    case SegmentKind::feed_forward:
      return layer.feed_forward();
    case SegmentKind::projection:
      return layer.projection();
    case SegmentKind::output:
    case SegmentKind::head:  // of no layer
      break;
  }
  return layer.output();
}

/// Where the matrix (V, C) that gives logits is.
std::string head_weight(const ModelConfig& config, const std::string& embedding);

/// The embedding on the host: ids and positions to columns.
class EmbeddingGraph {
 public:
  EmbeddingGraph(std::int64_t columns, DType dtype);

  /// The rows of a table (n, C) for the ids, or for their positions: (S, C).
  Value rows_of_ids(const std::string& table, const Shape& shape);
  Value rows_of_positions(const std::string& table, const Shape& shape);
  /// x (S, C) as the graph's output (1, C, 1, S).
  Graph finish(Value x);

 private:
  Value rows(const std::string& table, const Shape& shape, Value indices);

  DType dtype_;
  Graph graph_;
  Value ids_;
  Value positions_;
};

/// The head on the host: the last norm and the logits.
class HeadGraph {
 public:
  HeadGraph(const ModelConfig& config, std::int64_t batch, DType dtype);

  Value x() const { return x_; }  // (B, C)
  Value weight(const std::string& name, const Shape& shape);
  /// Logits of the normalised x, by the embedding of that name if the head is tied to it.
  Graph finish(Value x, const std::string& embedding);

 private:
  const ModelConfig& config_;
  DType dtype_;
  Graph graph_;
  Value x_;
};

}  // namespace orion
