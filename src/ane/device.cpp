#include "ane/device.h"

#include "ane/device_weights.h"
#include "ane/legalize_passes.h"
#include "ane/limits.h"
#include "ane/program.h"
#include "orion/error.h"

namespace orion::ane {

AneDevice::AneDevice(std::string name, std::unique_ptr<Engine> engine, Profile profile, Update update)
    : name_(std::move(name)),
      runtime_(std::make_shared<Runtime>(std::move(engine), std::move(profile))),
      update_(update) {}

ProgramLimits AneDevice::limits() const {
  const Profile& profile = runtime_->profile();
  ProgramLimits limits{.channels = most_channels(profile),
                       .loaded = runtime_->most_loaded(),
                       .compiles_left = profile.compile_budget - runtime_->usage().compiles};
  if (profile.has("program-weights-2gb")) limits.weight_bytes = weight_bytes_limit - 1;
  if (profile.has("sram-working-set")) limits.working_bytes = profile.sram_bytes;
  return limits;
}

std::shared_ptr<DeviceWeights> AneDevice::load(const TensorMap& weights) {
  return std::make_shared<AneWeights>(weights);
}

std::unique_ptr<Program> AneDevice::compile(const Graph& graph, std::shared_ptr<DeviceWeights> weights) {
  return std::make_unique<AneProgram>(runtime_, graph, own(std::move(weights)), update_, name_);
}

void AneDevice::check(std::string_view text) const {
  if (update_ == Update::input)
    fail("update=input: the program has its weights inside; choose another update strategy");
  verify_ane(text, runtime_->profile());
}

std::unique_ptr<Program> AneDevice::open(const PackedProgram& program,
                                         std::shared_ptr<DeviceWeights> weights) {
  check(program.text);
  return std::make_unique<AneProgram>(runtime_, program, own(std::move(weights)), update_, name_);
}

std::shared_ptr<AneWeights> AneDevice::own(std::shared_ptr<DeviceWeights> weights) const {
  auto cast = std::dynamic_pointer_cast<AneWeights>(std::move(weights));
  if (cast == nullptr) fail("compile: the weights were loaded on another device than ", name_);
  return cast;
}

}  // namespace orion::ane
