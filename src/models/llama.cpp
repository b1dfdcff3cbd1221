// Llama 1 to 3 (arXiv 2302.13971, 2307.09288, 2407.21783) and what shares its checkpoint layout.
#include "models/architectures.h"
#include "models/llama_family.h"

namespace orion {
namespace {

ModelConfig configure_llama(const ConfigMap& map) {
  const ConfigReader from(map, "llama");
  ModelConfig config = configure_llama_family(from, 2048);
  config.qkv_bias = config.attention_output_bias = from.flag_or("attention_bias", false);
  config.mlp_bias = from.flag_or("mlp_bias", false);
  return config;
}

}  // namespace

const ModelDef& llama() {
  static const ModelDef def{"llama", "Llama: rotary positions, RMS norm, gated SiLU, grouped heads",
                            configure_llama, build_llama_family, llama_segments};
  return def;
}

}  // namespace orion
