#pragma once

#include "ane/weight_update.h"
#include "orion/device.h"

namespace orion::ane {

class AneProgram;

/// The host's copy of a set of weights, and the programs on the engine that use it.
class AneWeights final : public DeviceWeights {
 public:
  explicit AneWeights(const TensorMap& weights) : values_(weights) {}

  std::vector<Port> list() const override;
  Tensor read(std::string_view name) const override;
  /// Every program that uses a changed weight gets it, by the device's strategy. If one refuses, those that
  /// took the new weights are given the old ones again.
  void update(const TensorMap& changes) override;
  std::size_t bytes() const override;

  /// As the graph that uses it wants it: Error if missing or of another shape.
  Tensor value(std::string_view name, const TensorType& type) const;
  const TensorMap& values() const { return values_; }

  void attach(AneProgram& program) { programs_.push_back(&program); }
  void detach(AneProgram& program) { std::erase(programs_, &program); }

 private:
  const Tensor& stored(std::string_view name) const;
  TensorMap checked(const TensorMap& changes) const;
  static void give_back(std::span<AneProgram* const> programs, std::span<const std::string> names,
                        const std::exception& reason);

  TensorMap values_;
  std::vector<AneProgram*> programs_;
};

}  // namespace orion::ane
