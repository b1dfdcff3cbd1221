// The list of architectures, and what follows from it alone.
#include "models/architectures.h"
#include "orion/error.h"

#include <algorithm>

namespace orion {
namespace {

void check_shape(const ModelConfig& config, const ForwardShape& shape) {
  if (shape.batch < 1 || shape.tokens < 1 || shape.cache < 0)
    fail("forward: batch ", shape.batch, ", tokens ", shape.tokens, ", cache ", shape.cache,
         ": at least 1, 1 and 0 are needed");
  const std::int64_t positions = std::max(shape.tokens, shape.cache);
  if (positions > config.context)
    fail("forward: ", positions, " positions, the model's context has ", config.context);
  if (shape.cache > 0 && shape.tokens > shape.cache)
    fail("forward: ", shape.tokens, " tokens do not fit a cache of ", shape.cache);
}

std::string known_types() {
  std::string names;
  for (const ModelDef* def : all_models()) names += str(names.empty() ? "" : ", ", def->model_type);
  return names;
}

}  // namespace

std::span<const ModelDef* const> all_models() {
  static const std::vector<const ModelDef*> models = {&gpt2(), &llama(), &qwen2(), &qwen3()};
  return models;
}

const ModelDef& find_model(std::string_view model_type) {
  const auto found = std::ranges::find(all_models(), model_type, &ModelDef::model_type);
  if (found == all_models().end())
    fail("config: model_type '", model_type, "' is not known (known: ", known_types(), ")");
  return **found;
}

ModelConfig configure(const ConfigMap& map) {
  const auto entry = map.find("model_type");
  const std::string* type = entry == map.end() ? nullptr : std::get_if<std::string>(&entry->second);
  if (type == nullptr) fail("config: no 'model_type' (known: ", known_types(), ")");
  ModelConfig config = find_model(*type).configure(map);
  config.model_type = *type;
  return config;
}

Graph forward(const ModelConfig& config, const ForwardShape& shape, DType dtype) {
  if (!is_float(dtype)) fail("forward: dtype ", dtype, ", fp16 or fp32 is needed");
  check_shape(config, shape);
  return find_model(config.model_type).build(config, shape, dtype);
}

std::vector<Port> model_weights(const ModelConfig& config, DType dtype) {
  return weight_ports(forward(config, {}, dtype));
}

TensorType cache_type(const ModelConfig& config, std::int64_t batch, std::int64_t rows, DType dtype) {
  return {dtype, {batch, config.kv_heads, rows, config.head_dim}};
}

std::string key_cache_name(std::int64_t layer) {
  return str("k_cache_", layer);
}

std::string value_cache_name(std::int64_t layer) {
  return str("v_cache_", layer);
}

}  // namespace orion
