#include "cpu/device.h"

#include "cpu/program.h"
#include "orion/error.h"

namespace orion::cpu {
namespace {

class CpuDevice final : public Device {
 public:
  std::string_view name() const override { return "cpu"; }
  bool shares_host_memory() const override { return true; }

  std::shared_ptr<DeviceWeights> load(const TensorMap& weights) override {
    return load_as(weights, MatrixFormat::exact);
  }

  std::shared_ptr<DeviceWeights> load_as(const TensorMap& weights, MatrixFormat format) override {
    return std::make_shared<CpuWeights>(weights, format);
  }

  std::shared_ptr<DeviceWeights> load_packed(const PackedWeights& weights) override {
    return std::make_shared<CpuWeights>(weights);
  }

  std::unique_ptr<Program> compile(const Graph& graph, std::shared_ptr<DeviceWeights> weights) override {
    auto own = std::dynamic_pointer_cast<CpuWeights>(std::move(weights));
    if (own == nullptr) fail("compile: the weights were loaded on another device than cpu");
    return std::make_unique<CpuProgram>(make_plan(graph, std::move(own)), shared_pool(), memory_);
  }

 private:
  std::shared_ptr<WorkMemory> memory_ = std::make_shared<WorkMemory>();
};

}  // namespace

Device& cpu_device() {
  static CpuDevice device;
  return device;
}

}  // namespace orion::cpu
