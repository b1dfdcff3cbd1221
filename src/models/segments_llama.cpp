// Llama and its relatives in segments.
#include "models/architectures.h"
#include "models/columns.h"
#include "orion/error.h"
#include "orion/ops.h"

namespace orion {
namespace {

class LlamaLayer {
 public:
  LlamaLayer(const ModelConfig& config, const SegmentShape& shape)
      : config_(config),
        layer_(shape.layer),
        prefix_(str("model.layers.", shape.layer, '.')),
        columns_(config, shape) {}

  Graph attention() {
    const Value x = columns_.input("x", config_.width);
    const Qkv qkv = project(x);
    const Value v = columns_.split_heads(qkv.v, config_.kv_heads);
    const Value y = columns_.attention(qkv.q, qkv.k, v, layer_);
    columns_.graph().output("hidden", ops::add(x, attention_output(y)));
    columns_.graph().output("k", columns_.merge_heads(qkv.k));
    columns_.graph().output("v", qkv.v);
    return columns_.release();
  }

  Graph feed_forward() {
    const Value x = columns_.input("x", config_.width);
    columns_.graph().output("hidden", after_feed_forward(x));
    return columns_.release();
  }

  Graph projection() {
    const Qkv qkv = project(columns_.input("x", config_.width));
    columns_.graph().output("q", columns_.merge_heads(qkv.q));
    columns_.graph().output("k", columns_.merge_heads(qkv.k));
    columns_.graph().output("v", qkv.v);
    return columns_.release();
  }

  Graph output() {
    const Value attended = columns_.input("attended", config_.heads * config_.head_dim);
    const Value x = columns_.input("x", config_.width);
    columns_.graph().output("hidden", after_feed_forward(ops::add(x, attention_output(attended))));
    return columns_.release();
  }

 private:
  struct Qkv {
    Value q, k;  // (1, n, S, D), turned
    Value v;     // (1, G D, 1, S)
  };

  Value norm(Value x, const std::string& name, std::int64_t axis, std::int64_t size) {
    return ops::rms_norm(x, {axis}, columns_.weight(prefix_ + name + ".weight", {size}),
                         config_.norm_epsilon);
  }

  // The projected heads, normalised if the architecture does, and turned: (1, count, S, D).
  Value turned(Value x, const std::string& name, std::int64_t count, Value cos, Value sin) {
    const std::string part = str("self_attn.", name);
    const Value y = columns_.linear(x, prefix_ + part + "_proj", count * config_.head_dim, config_.qkv_bias);
    Value heads = columns_.split_heads(y, count);
    if (config_.qk_norm) heads = norm(heads, part + "_norm", -1, config_.head_dim);
    return ops::rope(heads, cos, sin, config_.rope.interleaved);
  }

  Qkv project(Value x) {
    const Value n = norm(x, "input_layernorm", 1, config_.width);
    const Value cos = columns_.angles("cos");
    const Value sin = columns_.angles("sin");
    const Value v = columns_.linear(n, prefix_ + "self_attn.v_proj", config_.kv_heads * config_.head_dim,
                                    config_.qkv_bias);
    return {turned(n, "q", config_.heads, cos, sin), turned(n, "k", config_.kv_heads, cos, sin), v};
  }

  Value attention_output(Value y) {
    return columns_.linear(y, prefix_ + "self_attn.o_proj", config_.width, config_.attention_output_bias);
  }

  Value after_feed_forward(Value x) {
    const Value n = norm(x, "post_attention_layernorm", 1, config_.width);
    const Value gate = columns_.linear(n, prefix_ + "mlp.gate_proj", config_.inner, config_.mlp_bias);
    const Value up = columns_.linear(n, prefix_ + "mlp.up_proj", config_.inner, config_.mlp_bias);
    const Value inner = ops::mul(columns_.activate(gate), up);
    return ops::add(x, columns_.linear(inner, prefix_ + "mlp.down_proj", config_.width, config_.mlp_bias));
  }

  const ModelConfig& config_;
  std::int64_t layer_;
  std::string prefix_;
  Columns columns_;
};

Graph layer_segment(const ModelConfig& config, const SegmentShape& shape) {
  return segment_of(LlamaLayer(config, shape), shape.kind);
}

Graph engine_head(const ModelConfig& config, const SegmentShape& shape) {
  Columns columns(config, shape);
  const Value gamma = columns.weight("model.norm.weight", {config.width});
  const Value x = columns.input("x", config.width);
  return columns.head(ops::rms_norm(x, {1}, gamma, config.norm_epsilon), "model.embed_tokens.weight");
}

Graph embedding(const ModelConfig& config, std::int64_t columns, DType dtype) {
  EmbeddingGraph graph(columns, dtype);
  return graph.finish(graph.rows_of_ids("model.embed_tokens.weight", {config.vocab, config.width}));
}

Graph head(const ModelConfig& config, std::int64_t batch, DType dtype) {
  HeadGraph graph(config, batch, dtype);
  const Value gamma = graph.weight("model.norm.weight", {config.width});
  return graph.finish(ops::rms_norm(graph.x(), {-1}, gamma, config.norm_epsilon),
                      "model.embed_tokens.weight");
}

}  // namespace

const SegmentDef& llama_segments() {
  static const SegmentDef def{.rotary = true,
                              .layer = layer_segment,
                              .engine_head = engine_head,
                              .embedding = embedding,
                              .head = head};
  return def;
}

}  // namespace orion
