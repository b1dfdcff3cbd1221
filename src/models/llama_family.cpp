#include "models/llama_family.h"

#include "models/decoder.h"
#include "models/rope.h"
#include "orion/error.h"
#include "orion/ops.h"

namespace orion {
namespace {

std::int64_t head_dim_of(const ConfigReader& from, const ModelConfig& config, std::int64_t fallback) {
  if (from.has("head_dim")) return from.size("head_dim", most_head_dim);
  if (fallback != 0) return fallback;
  if (config.width % config.heads != 0)
    fail("config: hidden_size ", config.width, " is not a multiple of num_attention_heads ", config.heads,
         ", and there is no head_dim");
  return config.width / config.heads;
}

// cos and sin of the tokens' positions, shaped to broadcast over heads.
struct Angles {
  Value cos;
  Value sin;
};

Angles angles(Decoder& decoder, const ModelConfig& config, const ForwardShape& shape, DType dtype) {
  const RopeTables tables = rope_tables(config.rope, decoder.positions(), config.head_dim, dtype);
  const auto rows = [&](const Tensor& table, std::string_view name) {
    const Value picked = decoder.rows_at_positions(decoder.graph().constant(table, name));
    const std::int64_t batch = shape.cache > 0 ? shape.batch : 1;
    return ops::reshape(picked, {batch, 1, shape.tokens, config.head_dim / 2});
  };
  const Value cos = rows(tables.cos, "rope_cos");
  return {cos, rows(tables.sin, "rope_sin")};
}

class LlamaFamily {
 public:
  LlamaFamily(const ModelConfig& config, const ForwardShape& shape, DType dtype)
      : config_(config), decoder_(config, shape, dtype), angles_(angles(decoder_, config, shape, dtype)) {}

  Graph build() {
    const Value embedding = decoder_.weight("model.embed_tokens.weight", {config_.vocab, config_.width});
    Value x = decoder_.embed(embedding);
    for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
      const std::string prefix = str("model.layers.", layer, '.');
      x = ops::add(decoder_.wanted_rows(x, layer),
                   attention(norm(x, prefix + "input_layernorm"), layer, prefix + "self_attn."));
      x = ops::add(x, feed_forward(norm(x, prefix + "post_attention_layernorm"), prefix + "mlp."));
    }
    decoder_.finish(norm(decoder_.result_rows(x), "model.norm"), embedding);
    return decoder_.release();
  }

 private:
  Value norm(Value x, const std::string& name) {
    return ops::rms_norm(x, {-1}, decoder_.weight(name + ".weight", {x.shape().back()}),
                         config_.norm_epsilon);
  }

  // (B, T, C) -> (B, count, T, D)
  Value project(Value x, const std::string& name, std::int64_t count) {
    const Value y = decoder_.linear(x, name, count * config_.head_dim, config_.qkv_bias);
    return Decoder::split_heads(y, count);
  }

  Value normed(Value x, const std::string& name) { return config_.qk_norm ? norm(x, name) : x; }

  // Of x (B, H, T, D), or of the last tokens alone.
  Value rotated(Value x) {
    const auto last = [&](Value table) {
      const Shape& shape = table.shape();
      const std::int64_t first = shape[2] - x.shape()[2];
      return first == 0 ? table
                        : ops::slice_by_index(table, {0, 0, first, 0}, {shape[0], 1, shape[2], shape[3]});
    };
    return ops::rope(x, last(angles_.cos), last(angles_.sin), config_.rope.interleaved);
  }

  Value attention(Value x, std::int64_t layer, const std::string& prefix) {
    const Value asking = decoder_.wanted_rows(x, layer);
    const Value q = normed(project(asking, prefix + "q_proj", config_.heads), prefix + "q_norm");
    const Value k = normed(project(x, prefix + "k_proj", config_.kv_heads), prefix + "k_norm");
    const Value v = project(x, prefix + "v_proj", config_.kv_heads);
    const Value y = decoder_.attention(rotated(q), rotated(k), v, layer);
    return decoder_.linear(Decoder::merge_heads(y), prefix + "o_proj", config_.width,
                           config_.attention_output_bias);
  }

  Value feed_forward(Value x, const std::string& prefix) {
    const Value gate = decoder_.linear(x, prefix + "gate_proj", config_.inner, config_.mlp_bias);
    const Value up = decoder_.linear(x, prefix + "up_proj", config_.inner, config_.mlp_bias);
    return decoder_.linear(ops::mul(decoder_.activate(gate), up), prefix + "down_proj", config_.width,
                           config_.mlp_bias);
  }

  const ModelConfig& config_;
  Decoder decoder_;
  Angles angles_;
};

}  // namespace

ModelConfig configure_llama_family(const ConfigReader& from, std::int64_t default_context,
                                   std::int64_t default_head_dim) {
  ModelConfig config;
  config.vocab = from.size("vocab_size");
  config.context = from.size_or("max_position_embeddings", default_context);
  config.width = from.size("hidden_size");
  config.inner = from.size("intermediate_size");
  config.layers = from.size("num_hidden_layers", most_layers);
  config.heads = from.size("num_attention_heads");
  config.kv_heads = from.size_or("num_key_value_heads", config.heads);
  config.head_dim = head_dim_of(from, config, default_head_dim);
  config.norm_epsilon = from.positive_or("rms_norm_eps", 1e-6);
  config.tied_head = from.flag_or("tie_word_embeddings", false);
  config.rope = configure_rope(from, config.context);
  const std::string activation = from.text_or("hidden_act", "silu");
  if (activation != "silu") from.unsupported("hidden_act", activation, "silu");
  if (config.heads % config.kv_heads != 0)
    fail("config: num_attention_heads ", config.heads, " is not a multiple of num_key_value_heads ",
         config.kv_heads);
  if (config.head_dim % 2 != 0 || config.head_dim > most_head_dim)
    fail("config: heads of size ", config.head_dim, ", an even size up to ", most_head_dim, " is needed");
  return config;
}

void refuse_sliding_window(const ConfigReader& from, const ConfigMap& map) {
  from.refuse("use_sliding_window");
  const std::string_view prefix = "layer_types.";
  for (auto entry = map.lower_bound(prefix); entry != map.end() && entry->first.starts_with(prefix);
       ++entry) {
    const std::string type = from.text_or(entry->first, "full_attention");
    if (type != "full_attention") from.unsupported(entry->first, type, "full_attention");
  }
}

Graph build_llama_family(const ModelConfig& config, const ForwardShape& shape, DType dtype) {
  return LlamaFamily(config, shape, dtype).build();
}

}  // namespace orion
