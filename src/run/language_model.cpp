#include "orion/error.h"
#include "orion/model.h"

#include <algorithm>
#include <cmath>

namespace orion {
namespace {

// Decode, logits, and a few prompts of different lengths.
constexpr std::size_t programs_kept = 8;

// The largest float that rounds to a finite fp16 lies just below this.
constexpr float fp16_overflow = 65520.0F;

void check_fits_fp16(const std::string& name, const Tensor& weight) {
  const auto values = weight.as<float>();
  const auto beyond = [](float value) { return std::isfinite(value) && std::abs(value) >= fp16_overflow; };
  const auto found = std::ranges::find_if(values, beyond);
  if (found == values.end()) return;
  fail("weight '", name, "': element ", found - values.begin(), " is ", *found,
       ", beyond fp16's range; load the model with dtype fp32");
}

Tensor load_weight(const WeightSource& weights, const Port& wanted) {
  const Tensor weight = weights(wanted.name);
  if (weight.empty()) fail("no weight '", wanted.name, "', which is ", wanted.type.shape);
  if (!is_float(weight.dtype()) || weight.shape() != wanted.type.shape)
    fail("weight '", wanted.name, "' is ", weight.type(), ", a float of ", wanted.type.shape, " is needed");
  if (weight.dtype() == wanted.type.dtype) return weight;
  if (wanted.type.dtype == DType::fp16) check_fits_fp16(wanted.name, weight);
  return convert(weight, wanted.type.dtype);
}

// Programs outlive the memory they are run on: what they hold must not keep a cache alive.
Tensor unowned(const Tensor& memory) {
  return Tensor::view(memory.type(), memory.data());
}

}  // namespace

LanguageModel::LanguageModel(ModelConfig config, const WeightSource& weights, DType dtype, Device& device)
    : config_(std::move(config)), dtype_(dtype), device_(device) {
  TensorMap used;
  for (const Port& wanted : model_weights(config_, dtype)) {
    used.emplace(wanted.name, load_weight(weights, wanted));
    parameters_ += wanted.type.shape.size();
  }
  weights_ = device_.load(used);
}

Tensor LanguageModel::logits(std::span<const std::int32_t> ids) {
  check_ids(ids, "logits");
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const Tensor input = Tensor::from_ints(ids);
  const Tensor output({DType::fp32, {tokens, config_.vocab}});
  const Binding bindings[] = {{"ids", input.reshaped({1, tokens})},
                              {"logits", output.reshaped({1, tokens, config_.vocab})}};
  run({.batch = 1, .tokens = tokens, .cache = 0, .head = Head::every_position}, bindings);
  return output;
}

void LanguageModel::check_ids(std::span<const std::int32_t> ids, std::string_view what) const {
  if (ids.empty()) fail(what, ": no token ids given, at least one is needed");
  if (static_cast<std::int64_t>(ids.size()) > config_.context)
    fail(what, ": ", ids.size(), " tokens, the model's context holds ", config_.context);
  check_vocabulary(ids, what);
}

void LanguageModel::check_vocabulary(std::span<const std::int32_t> ids, std::string_view what) const {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= config_.vocab)
      fail(what, ": token id ", ids[i], " at index ", i, " is outside the vocabulary of ", config_.vocab);
}

void LanguageModel::run(const ForwardShape& shape, std::span<const Binding> bindings) {
  const std::lock_guard lock(turn_);
  Program& compiled = program(shape);
  for (const Binding& binding : bindings) compiled.bind(binding.port, unowned(binding.memory));
  compiled.run();
}

Program& LanguageModel::program(const ForwardShape& shape) {
  const auto found = std::ranges::find(programs_, shape, &Compiled::shape);
  if (found != programs_.end()) {
    programs_.splice(programs_.begin(), programs_, found);
    return *found->program;
  }
  programs_.push_front({shape, device_.compile(forward(config_, shape, dtype_), weights_)});
  if (programs_.size() > programs_kept) programs_.pop_back();
  return *programs_.front().program;
}

}  // namespace orion
