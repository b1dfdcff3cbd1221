// GPT-2 (Radford et al., 2019): learned positions, layer norm before each block, biases everywhere.
#include "models/architectures.h"
#include "models/config.h"
#include "models/decoder.h"
#include "orion/error.h"
#include "orion/ops.h"
#include "orion/split.h"

namespace orion {
namespace {

Activation activation_named(const ConfigReader& config) {
  const std::string name = config.text_or("activation_function", "gelu_new");
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return Activation::gelu_tanh;
  if (name == "gelu") return Activation::gelu;
  if (name == "relu") return Activation::relu;
  config.unsupported("activation_function", name, "gelu_new, gelu_pytorch_tanh, gelu, relu");
}

ModelConfig configure_gpt2(const ConfigMap& map) {
  const ConfigReader from(map, "gpt2");
  from.refuse("add_cross_attention");
  ModelConfig config;
  config.vocab = from.size("vocab_size");
  config.context = from.size_or("n_positions", 1024);
  config.width = from.size("n_embd");
  config.inner = from.size_or("n_inner", 4 * config.width);
  config.layers = from.size("n_layer", most_layers);
  config.heads = config.kv_heads = from.size("n_head");
  config.norm_epsilon = from.positive_or("layer_norm_epsilon", 1e-5);
  config.activation = activation_named(from);
  config.tied_head = from.flag_or("tie_word_embeddings", true);
  config.scale_scores = from.flag_or("scale_attn_weights", true);
  config.scale_scores_by_layer = from.flag_or("scale_attn_by_inverse_layer_idx", false);
  if (config.width % config.heads != 0)
    fail("config: n_embd ", config.width, " is not a multiple of n_head ", config.heads);
  config.head_dim = config.width / config.heads;
  return config;
}

Value layer_norm(Decoder& decoder, Value x, const std::string& name, double epsilon) {
  const std::int64_t width = x.shape().back();
  return ops::layer_norm(x, {-1}, decoder.weight(name + ".weight", {width}),
                         decoder.weight(name + ".bias", {width}), epsilon);
}

Value attention_block(Decoder& decoder, Value x, const ModelConfig& config, std::int64_t layer,
                      const std::string& prefix) {
  const std::int64_t width = config.width;
  const Value qkv = decoder.conv1d(x, prefix + "c_attn", 3 * width);
  const std::vector<std::int64_t> thirds(3, width);
  std::vector<Value> parts = split(qkv, thirds, -1);
  parts[0] = decoder.wanted_rows(parts[0], layer);
  for (Value& part : parts) part = Decoder::split_heads(part, config.heads);
  const Value y = decoder.attention(parts[0], parts[1], parts[2], layer);
  return decoder.conv1d(Decoder::merge_heads(y), prefix + "c_proj", width);
}

Value feed_forward_block(Decoder& decoder, Value x, const ModelConfig& config, const std::string& prefix) {
  const Value hidden = decoder.activate(decoder.conv1d(x, prefix + "c_fc", config.inner));
  return decoder.conv1d(hidden, prefix + "c_proj", config.width);
}

Graph build_gpt2(const ModelConfig& config, const ForwardShape& shape, DType dtype) {
  Decoder decoder(config, shape, dtype);
  const auto norm = [&](Value x, const std::string& name) {
    return layer_norm(decoder, x, name, config.norm_epsilon);
  };
  const Value wte = decoder.weight("transformer.wte.weight", {config.vocab, config.width});
  const Value wpe = decoder.weight("transformer.wpe.weight", {config.context, config.width});
  Value x = ops::add(decoder.embed(wte), decoder.rows_at_positions(wpe));
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = str("transformer.h.", layer, '.');
    x = ops::add(decoder.wanted_rows(x, layer),
                 attention_block(decoder, norm(x, prefix + "ln_1"), config, layer, prefix + "attn."));
    x = ops::add(x, feed_forward_block(decoder, norm(x, prefix + "ln_2"), config, prefix + "mlp."));
  }
  decoder.finish(norm(decoder.result_rows(x), "transformer.ln_f"), wte);
  return decoder.release();
}

}  // namespace

const ModelDef& gpt2() {
  static const ModelDef def{"gpt2", "GPT-2: learned positions, layer norm, GELU", configure_gpt2, build_gpt2,
                            gpt2_segments};
  return def;
}

}  // namespace orion
