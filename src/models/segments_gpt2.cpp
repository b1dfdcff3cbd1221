// GPT-2 in segments. Weights stay in its transposed layout: (in, out).
#include "models/architectures.h"
#include "models/columns.h"
#include "orion/error.h"
#include "orion/ops.h"
#include "orion/split.h"

namespace orion {
namespace {

class Gpt2Layer {
 public:
  Gpt2Layer(const ModelConfig& config, const SegmentShape& shape)
      : config_(config),
        layer_(shape.layer),
        prefix_(str("transformer.h.", shape.layer, '.')),
        columns_(config, shape) {}

  Graph attention() {
    const Value x = columns_.input("x", config_.width);
    const std::vector<Value> qkv = project(x);
    const auto heads = [&](std::size_t i) { return columns_.split_heads(qkv[i], config_.heads); };
    const Value y = columns_.attention(heads(0), heads(1), heads(2), layer_);
    columns_.graph().output("hidden", ops::add(x, attention_output(y)));
    columns_.graph().output("k", qkv[1]);
    columns_.graph().output("v", qkv[2]);
    return columns_.release();
  }

  Graph feed_forward() {
    const Value x = columns_.input("x", config_.width);
    columns_.graph().output("hidden", after_feed_forward(x));
    return columns_.release();
  }

  Graph projection() {
    const std::vector<Value> qkv = project(columns_.input("x", config_.width));
    columns_.graph().output("q", qkv[0]);
    columns_.graph().output("k", qkv[1]);
    columns_.graph().output("v", qkv[2]);
    return columns_.release();
  }

  Graph output() {
    const Value attended = columns_.input("attended", config_.width);
    const Value x = columns_.input("x", config_.width);
    columns_.graph().output("hidden", after_feed_forward(ops::add(x, attention_output(attended))));
    return columns_.release();
  }

 private:
  Value norm(Value x, const std::string& name) {
    const Value gamma = columns_.weight(prefix_ + name + ".weight", {config_.width});
    const Value beta = columns_.weight(prefix_ + name + ".bias", {config_.width});
    return ops::layer_norm(x, {1}, gamma, beta, config_.norm_epsilon);
  }

  std::vector<Value> project(Value x) {
    const Value qkv = columns_.conv1d(norm(x, "ln_1"), prefix_ + "attn.c_attn", 3 * config_.width);
    return split(qkv, 3, 1);
  }

  Value attention_output(Value y) { return columns_.conv1d(y, prefix_ + "attn.c_proj", config_.width); }

  Value after_feed_forward(Value x) {
    const Value inner = columns_.conv1d(norm(x, "ln_2"), prefix_ + "mlp.c_fc", config_.inner);
    return ops::add(x, columns_.conv1d(columns_.activate(inner), prefix_ + "mlp.c_proj", config_.width));
  }

  const ModelConfig& config_;
  std::int64_t layer_;
  std::string prefix_;
  Columns columns_;
};

Graph layer_segment(const ModelConfig& config, const SegmentShape& shape) {
  return segment_of(Gpt2Layer(config, shape), shape.kind);
}

Graph engine_head(const ModelConfig& config, const SegmentShape& shape) {
  Columns columns(config, shape);
  const Value gamma = columns.weight("transformer.ln_f.weight", {config.width});
  const Value beta = columns.weight("transformer.ln_f.bias", {config.width});
  const Value x = columns.input("x", config.width);
  return columns.head(ops::layer_norm(x, {1}, gamma, beta, config.norm_epsilon), "transformer.wte.weight");
}

Graph embedding(const ModelConfig& config, std::int64_t columns, DType dtype) {
  EmbeddingGraph graph(columns, dtype);
  const Value tokens = graph.rows_of_ids("transformer.wte.weight", {config.vocab, config.width});
  const Value places = graph.rows_of_positions("transformer.wpe.weight", {config.context, config.width});
  return graph.finish(ops::add(tokens, places));
}

Graph head(const ModelConfig& config, std::int64_t batch, DType dtype) {
  HeadGraph graph(config, batch, dtype);
  const Value gamma = graph.weight("transformer.ln_f.weight", {config.width});
  const Value beta = graph.weight("transformer.ln_f.bias", {config.width});
  return graph.finish(ops::layer_norm(graph.x(), {-1}, gamma, beta, config.norm_epsilon),
                      "transformer.wte.weight");
}

}  // namespace

const SegmentDef& gpt2_segments() {
  static const SegmentDef def{.rotary = false,
                              .layer = layer_segment,
                              .engine_head = engine_head,
                              .embedding = embedding,
                              .head = head};
  return def;
}

}  // namespace orion
