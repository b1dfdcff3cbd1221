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
  auto own = std::dynamic_pointer_cast<AneWeights>(std::move(weights));
  if (own == nullptr) fail("compile: the weights were loaded on another device than ", name_);
  return std::make_unique<AneProgram>(runtime_, graph, std::move(own), update_, name_);
}

}  // namespace orion::ane
