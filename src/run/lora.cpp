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

[[noreturn]] void fail_unknown_target(const ModelConfig& config, const std::string& target,
                                      std::span<const LoraModule> modules) {
  std::vector<std::string> parts;
  std::string known;
  for (const LoraModule& module : modules) {
    const std::string part = last_part(module.name);
    if (std::ranges::count(parts, part) > 0) continue;
    parts.push_back(part);
    known += (known.empty() ? "" : ", ") + part;
  }
  fail("lora: no linear module of this ", config.model_type, " model is called '", target, "'; there are ",
       known);
}

}  // namespace

std::vector<LoraModule> lora_modules(const ModelConfig& config, const LoraShape& shape) {
  check_rank(shape);
  if (shape.targets.empty()) fail("lora: no target modules are given");
  const std::vector<LoraModule> all = linear_modules(forward(config, {}, DType::fp32));
  const auto is_meant = [](const LoraModule& module, std::span<const std::string> targets) {
    return is_lora_target(module.name, targets);
  };
  for (const std::string& target : shape.targets)
    if (std::ranges::none_of(all, [&](const LoraModule& m) { return is_meant(m, {&target, 1}); }))
      fail_unknown_target(config, target, all);
  std::vector<LoraModule> modules;
  std::ranges::copy_if(all, std::back_inserter(modules),
                       [&](const LoraModule& m) { return is_meant(m, shape.targets); });
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
