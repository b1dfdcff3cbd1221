// Llama and the architectures that differ from it in a few flags: rotary positions, RMS norm before each
// block, gated SiLU, grouped key/value heads.
#pragma once

#include "models/config.h"

namespace orion {

/// What Llama, Qwen2 and Qwen3 read the same way. `default_context` and `default_head_dim` (0: width / heads)
/// hold where the configuration is silent.
ModelConfig configure_llama_family(const ConfigReader& from, std::int64_t default_context,
                                   std::int64_t default_head_dim = 0);
/// Error if any layer attends through a sliding window.
void refuse_sliding_window(const ConfigReader& from, const ConfigMap& map);

Graph build_llama_family(const ModelConfig& config, const ForwardShape& shape, DType dtype);

}  // namespace orion
