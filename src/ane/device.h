// The Neural Engine as a device; the simulator is the same device over another engine.
#pragma once

#include "ane/runtime.h"
#include "ane/weight_update.h"
#include "orion/device.h"

namespace orion::ane {

class AneWeights;

class AneDevice final : public Device {
 public:
  AneDevice(std::string name, std::unique_ptr<Engine> engine, Profile profile, Update update);

  std::string_view name() const override { return name_; }
  ProgramLimits limits() const override;
  std::shared_ptr<DeviceWeights> load(const TensorMap& weights) override;
  std::unique_ptr<Program> compile(const Graph& graph, std::shared_ptr<DeviceWeights> weights) override;

  /// Error naming the limit of the profile that the program crosses.
  void check(std::string_view text) const override;
  std::unique_ptr<Program> open(const PackedProgram& program,
                                std::shared_ptr<DeviceWeights> weights) override;

  Runtime& runtime() { return *runtime_; }
  Update update() const { return update_; }

 private:
  std::shared_ptr<AneWeights> own(std::shared_ptr<DeviceWeights> weights) const;

  std::string name_;
  std::shared_ptr<Runtime> runtime_;
  Update update_;
};

}  // namespace orion::ane
