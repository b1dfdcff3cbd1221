#include "ane/device.h"

#include "ane/device_weights.h"
#include "ane/program.h"
#include "orion/error.h"

namespace orion::ane {

AneDevice::AneDevice(std::string name, std::unique_ptr<Engine> engine, Profile profile, Update update)
    : name_(std::move(name)),
      runtime_(std::make_shared<Runtime>(std::move(engine), std::move(profile))),
      update_(update) {}

std::shared_ptr<DeviceWeights> AneDevice::load(const TensorMap& weights) {
  return std::make_shared<AneWeights>(weights);
}

std::unique_ptr<Program> AneDevice::compile(const Graph& graph, std::shared_ptr<DeviceWeights> weights) {
  auto own = std::dynamic_pointer_cast<AneWeights>(std::move(weights));
  if (own == nullptr) fail("compile: the weights were loaded on another device than ", name_);
  return std::make_unique<AneProgram>(runtime_, graph, std::move(own), update_, name_);
}

}  // namespace orion::ane
