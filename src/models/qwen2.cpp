// Qwen2 and Qwen2.5 (arXiv 2407.10671): Llama with biases on query, key and value.
#include "models/architectures.h"
#include "models/llama_family.h"

namespace orion {
namespace {

ModelConfig configure_qwen2(const ConfigMap& map) {
  const ConfigReader from(map, "qwen2");
  refuse_sliding_window(from, map);
  ModelConfig config = configure_llama_family(from, 32768);
  config.qkv_bias = true;
  return config;
}

}  // namespace

const ModelDef& qwen2() {
  static const ModelDef def{"qwen2", "Qwen2: Llama with query, key and value biases", configure_qwen2,
                            build_llama_family, llama_segments};
  return def;
}

}  // namespace orion
