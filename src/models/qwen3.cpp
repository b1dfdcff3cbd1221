// Qwen3 (arXiv 2505.09388): Llama with RMS norm on every query and key head, and a head size of its own.
#include "models/architectures.h"
#include "models/llama_family.h"

namespace orion {
namespace {

ModelConfig configure_qwen3(const ConfigMap& map) {
  const ConfigReader from(map, "qwen3");
  refuse_sliding_window(from, map);
  constexpr std::int64_t default_head_dim = 128;
  ModelConfig config = configure_llama_family(from, 32768, default_head_dim);
  config.qkv_bias = config.attention_output_bias = from.flag_or("attention_bias", false);
  config.qk_norm = true;
  return config;
}

}  // namespace

const ModelDef& qwen3() {
  static const ModelDef def{"qwen3", "Qwen3: Llama with normalised queries and keys", configure_qwen3,
                            build_llama_family, llama_segments};
  return def;
}

}  // namespace orion
