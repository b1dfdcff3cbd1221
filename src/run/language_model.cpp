#include "base/narrow.h"
#include "base/stopwatch.h"
#include "orion/adapters.h"
#include "orion/error.h"
#include "orion/model.h"
#include "orion/packed_weights.h"
#include "run/planes.h"

#include <algorithm>

namespace orion {
namespace {

// Decode, logits, and a few prompts of different lengths.
constexpr std::size_t programs_kept = 8;

const TensorType* type_in(const PackedWeights& weights, std::string_view name) {
  const auto matrix = weights.matrices.find(name);
  if (matrix != weights.matrices.end()) return &matrix->second.type;
  const auto tensor = weights.tensors.find(name);
  return tensor != weights.tensors.end() ? &tensor->second.type() : nullptr;
}

constexpr std::string_view wider = "load the model with dtype fp32";

Tensor found_weight(const WeightSource& weights, const Port& wanted) {
  const Tensor weight = weights(wanted.name);
  if (weight.empty()) fail("no weight '", wanted.name, "', which is ", wanted.type.shape);
  if (!is_float(weight.dtype()) || weight.shape() != wanted.type.shape)
    fail("weight '", wanted.name, "' is ", weight.type(), ", a float of ", wanted.type.shape, " is needed");
  return weight;
}

// As it was found: whoever packs it converts it, so that no second copy of all weights is made before.
Tensor fitting_weight(const WeightSource& weights, const Port& wanted) {
  const Tensor weight = found_weight(weights, wanted);
  if (wanted.type.dtype == DType::fp16) check_fits_half(weight, wanted.name, wider);
  return weight;
}

}  // namespace

Tensor load_weight(const WeightSource& weights, const Port& wanted) {
  return narrowed(found_weight(weights, wanted), wanted.type.dtype, wanted.name, wider);
}

Precision precision_from_name(std::string_view name) {
  for (const MatrixFormat format : {MatrixFormat::bf16, MatrixFormat::int8, MatrixFormat::int4})
    if (name == matrix_format_name(format)) return {DType::fp16, format};
  if (name == dtype_name(DType::fp16)) return DType::fp16;
  if (name == dtype_name(DType::fp32)) return DType::fp32;
  fail("dtype '", name, "': fp32, fp16, bf16, int8 or int4 is needed");
}

LanguageModel::LanguageModel(ModelConfig config, DType dtype, Device& device)
    : config_(std::move(config)), dtype_(dtype), device_(device) {
  for (std::int64_t layer = 0; layer < config_.layers; ++layer)
    for (std::string name : {key_cache_name(layer), value_cache_name(layer)})
      cache_names_.push_back(std::move(name));
}

LanguageModel::LanguageModel(ModelConfig config, const WeightSource& weights, Precision precision,
                             Device& device)
    : LanguageModel(std::move(config), precision.dtype, device) {
  TensorMap used;
  for (const Port& wanted : model_weights(config_, dtype_)) {
    used.emplace(wanted.name, fitting_weight(weights, wanted));
    parameters_ += wanted.type.shape.size();
  }
  weights_ = device_.load_as(used, precision.matrices);
}

LanguageModel::LanguageModel(ModelConfig config, const PackedWeights& weights, DType dtype, Device& device)
    : LanguageModel(std::move(config), dtype, device) {
  const std::vector<Port> wanted = model_weights(config_, dtype_);
  for (const Port& port : wanted) {
    const TensorType* type = type_in(weights, port.name);
    if (type == nullptr) fail("no packed weight '", port.name, "', which is ", port.type);
    if (*type != port.type)
      fail("packed weight '", port.name, "' is ", *type, ", the model asks for ", port.type);
    parameters_ += port.type.shape.size();
  }
  if (const std::size_t count = weights.matrices.size() + weights.tensors.size(); count != wanted.size())
    fail(count, " packed weights, the model has ", wanted.size());
  weights_ = device_.load_packed(weights);
}

Tensor LanguageModel::logits(std::span<const std::int32_t> ids) {
  return logits(ids, adapters().inputs());
}

Tensor LanguageModel::logits(std::span<const std::int32_t> ids, const AdapterInputs& adapter) {
  check_ids(ids, "logits");
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const Tensor input = Tensor::from_ints(ids);
  const Tensor output({DType::fp32, {tokens, config_.vocab}});
  const Binding bindings[] = {{"ids", input.reshaped({1, tokens})},
                              {"logits", output.reshaped({1, tokens, config_.vocab})}};
  run({.batch = 1, .tokens = tokens, .cache = 0, .head = Head::every_position}, bindings, adapter);
  return output;
}

void LanguageModel::extend(const CacheStep& step) {
  by_adapter(step, [this](const CacheStep& part) { read(part); });
}

// Sequences that share an adapter.
void LanguageModel::read(const CacheStep& step) {
  const Shape& ids = step.ids.shape();
  std::vector<Binding> bindings = {{"ids", step.ids}, {"position", step.positions}, {"logits", step.logits}};
  for (std::size_t i = 0; i < cache_names_.size(); ++i) bindings.push_back({cache_names_[i], step.caches[i]});
  const std::int64_t rows = step.caches.front().shape()[2];
  run({.batch = ids[0], .tokens = ids[1], .cache = rows, .head = Head::last_position}, bindings,
      step.adapters.front());
}

void LanguageModel::run(const ForwardShape& shape, std::span<const Binding> bindings) {
  run(shape, bindings, adapters().inputs());
}

void LanguageModel::run(const ForwardShape& shape, std::span<const Binding> bindings,
                        const AdapterInputs& adapter) {
  const std::lock_guard lock(turn_);
  Compiled& compiled = program(shape, adapter->capacity);
  for (const Binding& binding : bindings) compiled.program->bind(binding.port, unowned(binding.memory));
  for (const WeightPort& port : compiled.adapter_ports)
    compiled.program->bind(port.port, adapter->tensors.at(port.weight));
  compiled.program->run();
}

PackedWeights LanguageModel::packed() {
  const std::lock_guard lock(turn_);
  program({.batch = 1, .tokens = 1, .cache = 0, .head = Head::last_position}, {});
  return weights_->packed();
}

LanguageModel::Compiled& LanguageModel::program(const ForwardShape& shape, const LoraShape& capacity) {
  const auto found = std::ranges::find_if(
      programs_, [&](const Compiled& c) { return c.shape == shape && c.adapters == capacity; });
  if (found != programs_.end()) {
    programs_.splice(programs_.begin(), programs_, found);
    return *found;
  }
  Compiled compiled{.shape = shape, .adapters = capacity, .program = nullptr, .adapter_ports = {}};
  const Graph graph = with_adapter_inputs(forward(config_, shape, dtype_), capacity, compiled.adapter_ports);
  {
    const Stopwatch watch(compile_seconds_);
    compiled.program = device_.compile(graph, weights_);
  }
  programs_.push_front(std::move(compiled));
  ++compiles_;
  if (programs_.size() > programs_kept) programs_.pop_back();
  return programs_.front();
}

}  // namespace orion
