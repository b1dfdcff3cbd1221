// Language models in programs that fit the engine: the parts of one layer, for a fixed number of tokens.
//
// Activations are fp16 (1, C, 1, S): a channel for each feature, a column for each token. What needs a table
// of the whole vocabulary or a cache of changing length stays on the host: the embedding, attention over the
// cache while decoding, and, unless it is asked for on the engine, the last norm with the head.
//
//   prefill   x -> attention -> feed_forward -> x      once per layer, k and v go to the cache
//   decode    x -> projection -> (host: cache) -> output -> x
//   logits    x -> head                                once per part of the vocabulary
#pragma once

#include "orion/model.h"

namespace orion {

enum class SegmentKind : std::uint8_t {
  attention,     // x -> hidden = x + attention(norm(x)), and k, v
  feed_forward,  // x -> hidden = x + feed_forward(norm(x))
  projection,    // x -> q, k, v
  output,        // x, attended -> hidden: the rest of the layer after attention
  head,          // x -> logits: the last norm and the projection to the vocabulary, or to a part of it
};
inline constexpr SegmentKind segment_kinds[] = {SegmentKind::attention, SegmentKind::feed_forward,
                                                SegmentKind::projection, SegmentKind::output,
                                                SegmentKind::head};
std::string_view segment_name(SegmentKind kind);
/// Inverse; Error listing the kinds for any other name.
SegmentKind segment_kind(std::string_view name);

/// How activations lie in memory, N = B S tokens, sequence after sequence.
enum class Layout : std::uint8_t {
  columns,  // (1, C, 1, N): the engine's, a channel for each feature
  rows,     // (N, C): the CPU's
};
Shape activation_shape(Layout layout, std::int64_t channels, std::int64_t tokens);

struct SegmentShape {
  SegmentKind kind = SegmentKind::attention;
  std::int64_t layer = 0;    // 0 for `head`
  std::int64_t tokens = 16;  // S, of each sequence
  std::int64_t batch = 1;    // B
  Layout layout = Layout::columns;
  DType dtype = DType::fp16;
  // `head`: token ids first .. first + count - 1; 0: all of them.
  std::int64_t first = 0;
  std::int64_t count = 0;

  auto operator<=>(const SegmentShape&) const = default;
};

/// The ends of a model in training: what stands before and after its layers.
struct EndShape {
  std::int64_t tokens = 16;
  std::int64_t batch = 1;
  Layout layout = Layout::columns;
  DType dtype = DType::fp16;  // of x; the weights are fp32
};

/// The segments of one architecture, in its ModelDef.
struct SegmentDef {
  bool rotary = false;  // whether `cos` and `sin` are inputs where keys are made
  Graph (*layer)(const ModelConfig& config, const SegmentShape& shape) = nullptr;
  Graph (*engine_head)(const ModelConfig& config, const SegmentShape& shape) = nullptr;
  Graph (*embedding)(const ModelConfig& config, std::int64_t columns, DType dtype) = nullptr;
  Graph (*head)(const ModelConfig& config, std::int64_t batch, DType dtype) = nullptr;
};

/// The graph of one segment.
///
/// inputs   x (1, C, 1, S); `output`: attended (1, H D, 1, S); with rotary positions, where keys are made:
///          cos and sin (1, D/2, 1, S) of the columns' positions
/// outputs  hidden (1, C, 1, S); q (1, H D, 1, S); k and v (1, G D, 1, S), as the cache holds them;
///          logits (1, count, 1, S)
/// In `attention` column i sees columns 0 .. i; what stands in later columns cannot matter. With several
/// sequences there are B S columns, and none sees another sequence's. As rows, cos and sin are (S, D/2).
Graph segment(const ModelConfig& config, const SegmentShape& shape);
/// Whether segments that make keys have the inputs cos and sin.
bool has_rotary_inputs(const ModelConfig& config);

/// A half of a layer without what only a cache wants: x (and cos, sin) -> hidden.
Graph training_layer(const ModelConfig& config, const SegmentShape& shape);
/// ids, positions int32 (B S,) -> x
Graph training_embedding(const ModelConfig& config, const EndShape& shape);
/// x, targets int32 (B S,) -> loss fp32 (1,), the sum of the tokens' cross-entropies; targets of -100 lose
/// nothing
Graph training_loss(const ModelConfig& config, const EndShape& shape);

/// The angles of every position of the context, for the inputs cos and sin.
class RotaryTable {
 public:
  /// Empty for a model without rotary positions.
  explicit RotaryTable(const ModelConfig& config);

  bool empty() const { return cos_.empty(); }
  /// Writes cos and sin (1, D/2, 1, S) for columns at these positions. Positions beyond the context, of
  /// columns that nobody reads, stand for its last.
  void write(std::span<const std::int32_t> positions, const Tensor& cos, const Tensor& sin) const;

 private:
  Tensor cos_;  // (context, D/2)
  Tensor sin_;
};

/// The same for the tokens of a sequence from its start, as the segments of that shape take them.
struct RotaryAngles {
  Tensor cos;
  Tensor sin;
};
RotaryAngles rotary_angles(const ModelConfig& config, const SegmentShape& shape);

/// The host's parts, over the same columns; all floats but the logits are fp16.
///
/// embedding      ids, positions int32 (S,) -> x (1, C, 1, S)
/// cache step     q, k, v as `projection` gives them, column b T + t being token t of sequence b; position
///                int32 (B,); k_cache, v_cache (B, G, rows, D) -> attended (1, H D, 1, S), and the caches
/// head           x (B, C) -> logits fp32 (B, V)
Graph embedding_segment(const ModelConfig& config, std::int64_t columns);
Graph head_segment(const ModelConfig& config, std::int64_t batch);

/// The weights of the host's parts, the head among them or not.
std::vector<Port> host_weights(const ModelConfig& config, bool with_head);

struct CacheStepShape {
  std::int64_t layer = 0;  // of those whose scores are scaled alike, the first
  std::int64_t batch = 1;
  std::int64_t tokens = 1;
  std::int64_t columns = 16;  // S, at least B T
  std::int64_t rows = 0;

  auto operator<=>(const CacheStepShape&) const = default;
};
Graph cache_step_segment(const ModelConfig& config, const CacheStepShape& shape);

/// Numbers of tokens for which prefill is compiled, ascending.
std::span<const std::int64_t> prefill_buckets();
/// Columns of the decode segments.
inline constexpr std::int64_t decode_columns = 16;

}  // namespace orion
