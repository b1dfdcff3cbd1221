// An engine model from a checkpoint: every segment is compiled from its graph.
#include "orion/error.h"
#include "run/engine_model.h"

#include <set>

namespace orion {
namespace {

std::set<std::string> names_of(const std::vector<Port>& ports) {
  std::set<std::string> names;
  for (const Port& port : ports) names.insert(port.name);
  return names;
}

std::set<std::string> engine_weight_names(const ModelConfig& config, bool with_head) {
  std::set<std::string> names;
  if (with_head) names = names_of(weight_ports(segment(config, {.kind = SegmentKind::head})));
  for (std::int64_t layer = 0; layer < config.layers; ++layer)
    for (const SegmentKind kind : {SegmentKind::attention, SegmentKind::feed_forward})
      names.merge(
          names_of(weight_ports(segment(config, {.kind = kind, .layer = layer, .tokens = decode_columns}))));
  return names;
}

}  // namespace

EngineUse engine_use(std::string_view name) {
  if (name == "engine") return EngineUse::prefill_and_decode;
  if (name == "engine-prefill") return EngineUse::prefill;
  if (name == "engine-and-head") return EngineUse::prefill_decode_and_head;
  fail("engine use '", name, "': engine, engine-prefill or engine-and-head is needed");
}

Graph with_room(const Graph& graph, const LoraShape& capacity, std::vector<PackedLora>& ports) {
  return capacity.targets.empty() ? graph : with_packed_lora(graph, capacity, ports);
}

EngineParts engine_parts(const ModelConfig& config, const WeightSource& weights, Device& engine, Device& host,
                         EngineUse use) {
  EngineParts parts;
  parts.buckets.assign(prefill_buckets().begin(), prefill_buckets().end());
  if (use == EngineUse::prefill)
    parts.host_model = std::make_unique<LanguageModel>(config, weights, DType::fp16, host);
  const bool engine_has_head = use == EngineUse::prefill_decode_and_head;
  const std::set<std::string> on_engine = engine_weight_names(config, engine_has_head);
  const std::set<std::string> on_host = names_of(host_weights(config, !engine_has_head));
  TensorMap engine_used;
  TensorMap host_used;
  for (const Port& wanted : model_weights(config, DType::fp16)) {
    const bool shared = parts.host_model != nullptr && !on_engine.contains(wanted.name);
    if (shared) continue;
    const Tensor value = load_weight(weights, wanted);
    if (on_engine.contains(wanted.name)) engine_used.emplace(wanted.name, value);
    if (on_host.contains(wanted.name)) host_used.emplace(wanted.name, value);
  }
  parts.host_weights = parts.host_model ? parts.host_model->weights() : host.load(host_used);
  parts.program = [&engine, config, loaded = engine.load(engine_used)](
                      const SegmentShape& shape, const LoraShape& capacity, std::vector<PackedLora>& ports) {
    return engine.compile(with_room(segment(config, shape), capacity, ports), loaded);
  };
  return parts;
}

}  // namespace orion
