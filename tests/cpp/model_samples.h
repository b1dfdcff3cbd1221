// Configurations of every architecture, and random weights for them.
#pragma once

#include "orion/model.h"
#include "orion/sampler.h"

#include <string>
#include <vector>

namespace orion::test {

inline ConfigMap llama_like(std::string_view model_type) {
  return {{"model_type", std::string(model_type)},       {"vocab_size", std::int64_t{64}},
          {"max_position_embeddings", std::int64_t{48}}, {"hidden_size", std::int64_t{48}},
          {"intermediate_size", std::int64_t{80}},       {"num_hidden_layers", std::int64_t{2}},
          {"num_attention_heads", std::int64_t{6}},      {"num_key_value_heads", std::int64_t{2}}};
}

inline ConfigMap gpt2_124m() {
  return {{"model_type", std::string("gpt2")}, {"vocab_size", std::int64_t{50257}},
          {"n_positions", std::int64_t{1024}}, {"n_embd", std::int64_t{768}},
          {"n_layer", std::int64_t{12}},       {"n_head", std::int64_t{12}}};
}

inline std::vector<ModelConfig> configs() {
  std::vector<ModelConfig> configs = {configure(gpt2_124m())};
  for (const std::string_view type : {"llama", "qwen2", "qwen3"})
    configs.push_back(configure(llama_like(type)));
  ConfigMap qwen3_06b = llama_like("qwen3");
  const std::pair<std::string_view, std::int64_t> sizes[] = {{"hidden_size", 1024},
                                                             {"intermediate_size", 3072},
                                                             {"num_attention_heads", 16},
                                                             {"num_key_value_heads", 8},
                                                             {"head_dim", 128},
                                                             {"vocab_size", 151936},
                                                             {"max_position_embeddings", 40960}};
  for (const auto& [key, size] : sizes) qwen3_06b.insert_or_assign(std::string(key), size);
  configs.push_back(configure(qwen3_06b));
  return configs;
}

inline ConfigMap tiny_gpt2(std::int64_t context, std::int64_t layers = 3) {
  ConfigMap gpt2 = gpt2_124m();
  const std::pair<std::string_view, std::int64_t> sizes[] = {
      {"n_embd", 48}, {"n_layer", layers}, {"n_head", 3}, {"vocab_size", 67}, {"n_positions", context}};
  for (const auto& [key, size] : sizes) gpt2.insert_or_assign(std::string(key), size);
  gpt2.insert_or_assign("scale_attn_by_inverse_layer_idx", true);
  return gpt2;
}

inline std::vector<ModelConfig> tiny_configs(std::int64_t context = 48) {
  std::vector<ModelConfig> configs = {configure(tiny_gpt2(context))};
  for (const std::string_view type : {"llama", "qwen2", "qwen3"}) {
    ConfigMap map = llama_like(type);
    map.insert_or_assign("max_position_embeddings", context);
    map.insert_or_assign("tie_word_embeddings", type == "qwen2");
    configs.push_back(configure(map));
  }
  return configs;
}

inline TensorMap random_weights(const ModelConfig& config) {
  TensorMap weights;
  Random random(3);
  for (const Port& port : model_weights(config, DType::fp32)) {
    const Tensor tensor(port.type);
    const bool is_gain = port.type.shape.rank() == 1 && port.name.ends_with("weight");
    for (float& value : tensor.as<float>())
      value = static_cast<float>((random.uniform() * 2 - 1) * 0.3 + (is_gain ? 1.0 : 0.0));
    weights.emplace(port.name, tensor);
  }
  return weights;
}

}  // namespace orion::test
