// Small models with random weights.
#pragma once

#include "orion/model.h"
#include "orion/sampler.h"

#include <string>

namespace orion {

inline ConfigMap llama_like(std::string_view model_type) {
  return {{"model_type", std::string(model_type)},       {"vocab_size", std::int64_t{64}},
          {"max_position_embeddings", std::int64_t{48}}, {"hidden_size", std::int64_t{48}},
          {"intermediate_size", std::int64_t{80}},       {"num_hidden_layers", std::int64_t{2}},
          {"num_attention_heads", std::int64_t{6}},      {"num_key_value_heads", std::int64_t{2}}};
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

}  // namespace orion
