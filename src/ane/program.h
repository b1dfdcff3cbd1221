// A graph on the engine: legalised, compiled or found compiled, its ports converted on the way.
#pragma once

#include "ane/packed_program.h"
#include "ane/surface_set.h"
#include "ane/weight_inputs.h"
#include "ane/weight_update.h"

namespace orion::ane {

class AneWeights;

class AneProgram final : public Program {
 public:
  AneProgram(std::shared_ptr<Runtime> runtime, const Graph& graph, std::shared_ptr<AneWeights> weights,
             Update update, std::string_view device);
  /// Takes the program as it is; `check` of the device has let it pass.
  AneProgram(std::shared_ptr<Runtime> runtime, const PackedProgram& packed,
             std::shared_ptr<AneWeights> weights, Update update, std::string_view device);
  ~AneProgram() override;

  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  Tensor buffer(std::string_view port) const override;
  void bind(std::string_view port, Tensor memory) override;
  void run() override;
  std::shared_ptr<DeviceWeights> weights() const override;
  std::string_view device() const override { return device_; }
  std::string describe() const override;

  /// Takes the new values of these source weights from its AneWeights. DeviceError if the engine refuses.
  void refresh(std::span<const std::string> changed);
  /// It has other values of these source weights than its AneWeights: the next run takes them first.
  void mark_stale(std::span<const std::string> changed);

 private:
  struct Memory {
    Port port;
    mutable Tensor own;  // made when first needed
    Tensor bound;        // what runs use; empty: `own`
  };

  void start();
  void make_memory();
  /// Loads what the host's weights make, with surfaces that nothing else has.
  void load();
  Image image() const;
  void write_weight_inputs(std::span<const std::string> changed);
  std::vector<Patch> patches(std::span<const std::string> changed) const;
  void write_weight_input(const std::string& weight);
  void write_input(const PortUse& use, const Tensor& source);
  void read_output(const PortUse& use);
  const Memory& memory(std::string_view port) const;

  std::shared_ptr<Runtime> runtime_;
  std::shared_ptr<AneWeights> weights_;
  Update update_;
  std::string device_;
  std::map<std::string, std::string>
      weight_inputs_;  // input of the graph -> weight, where weights are inputs
  LegalProgram legal_;
  Blueprint blueprint_;
  std::shared_ptr<Loaded> loaded_;
  std::unique_ptr<SurfaceSet> surfaces_;
  std::vector<std::string> stale_;
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
  std::vector<Memory> memory_;  // inputs, then outputs that are no states
  TensorMap staging_;           // of ports whose surface is not dense
};

}  // namespace orion::ane
