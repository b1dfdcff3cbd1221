// Adapters of whole models.
#include "orion/lora.h"

#include "orion/error.h"
#include "orion/model.h"
#include "orion/sampler.h"

#include <algorithm>
#include <cmath>

namespace orion {
namespace {

// The last part of a module's name: what targets are usually called by.
std::string last_part(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

[[noreturn]] void fail_unknown_target(const ModelConfig& config, const std::string& target) {
  std::vector<std::string> parts;
  std::string known;
  for (const Port& weight : model_weights(config, DType::fp32)) {
    if (weight.type.shape.rank() != 2 || !weight.name.ends_with(".weight")) continue;
    const std::string part = last_part(weight.name.substr(0, weight.name.rfind('.')));
    if (std::ranges::count(parts, part) > 0) continue;
    parts.push_back(part);
    known += (known.empty() ? "" : ", ") + part;
  }
  fail("lora: no module of this ", config.model_type, " model is called '", target, "'; there are ", known);
}

}  // namespace

std::vector<LoraModule> lora_modules(const ModelConfig& config, const LoraShape& shape) {
  if (shape.targets.empty()) fail("lora: no target modules are given");
  std::vector<LoraModule> modules;
  with_lora(forward(config, {}, DType::fp32), shape, modules);
  for (const std::string& target : shape.targets)
    if (std::ranges::none_of(modules,
                             [&](const LoraModule& m) { return is_lora_target(m.name, {&target, 1}); }))
      fail_unknown_target(config, target);
  return modules;
}

// Kaiming-uniform with a = sqrt(5), as the PEFT library draws A: a bound of 1 / sqrt(in).
TensorMap initial_lora(std::span<const LoraModule> modules, std::int64_t rank, std::uint64_t seed) {
  Random random(seed);
  TensorMap result;
  for (const LoraModule& module : modules) {
    const Tensor a({DType::fp32, {rank, module.in}});
    const double bound = 1.0 / std::sqrt(static_cast<double>(module.in));
    for (float& value : a.as<float>()) value = static_cast<float>((2.0 * random.uniform() - 1.0) * bound);
    result.emplace(module.a(), a);
    result.emplace(module.b(), Tensor({DType::fp32, {module.out, rank}}));
  }
  return result;
}

}  // namespace orion
