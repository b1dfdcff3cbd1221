// Programs made before, on devices that know graphs only.
#include "ane/packed_program.h"
#include "ir/rewrite.h"
#include "orion/device.h"
#include "orion/error.h"
#include "orion/packed_weights.h"

#include <algorithm>

namespace orion {
namespace {

// The weights of the text under the names that DeviceWeights has.
Graph with_own_weights(const ane::LegalProgram& program) {
  return rewrite(program.graph, [&](const RewriteCall& call) -> Value {
    if (!call.node.is("weight")) return {};
    const auto use = std::ranges::find(program.weights, call.node.name, &ane::WeightUse::name);
    const std::optional<NodeId> known = call.graph.find(use->source);
    if (!known) return call.graph.weight(use->source, call.node.type);
    const TensorType& type = call.graph.node(*known).type;
    if (type != call.node.type)
      fail("weight '", use->source, "' is read as ", type, " and as ", call.node.type);
    return call.graph.value(*known);
  });
}

// Whether the program's port is the source itself.
bool is_same(const ane::PortUse& use) {
  return use.count == 0 && use.type == use.source_type;
}

/// A program whose ports the host converts.
class PortedProgram final : public Program {
 public:
  PortedProgram(std::unique_ptr<Program> program, ane::LegalProgram legal)
      : program_(std::move(program)),
        uses_{std::move(legal.inputs), std::move(legal.outputs)},
        inputs_(source_ports(uses_[0])),
        outputs_(source_ports(uses_[1])) {}

  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }

  Tensor buffer(std::string_view port) const override {
    const ane::PortUse& found = use(port);
    return is_same(found) ? program_->buffer(found.name) : memory(found);
  }

  void bind(std::string_view port, Tensor tensor) override {
    const ane::PortUse& found = use(port);
    if (!tensor.empty() && tensor.type() != found.source_type)
      fail("'", port, "' is ", found.source_type, ", the memory given is ", tensor.type());
    if (is_same(found)) return program_->bind(found.name, std::move(tensor));
    memory_.insert_or_assign(found.source, std::move(tensor));
  }

  void run() override {
    for (const ane::PortUse& use : uses_[0])
      if (!is_same(use)) write_port(use, memory(use), program_->buffer(use.name));
    program_->run();
    for (const ane::PortUse& use : uses_[1])
      if (!is_same(use)) read_port(use, program_->buffer(use.name), memory(use));
  }

  std::shared_ptr<DeviceWeights> weights() const override { return program_->weights(); }
  std::string_view device() const override { return program_->device(); }
  std::string describe() const override { return program_->describe(); }

 private:
  const ane::PortUse& use(std::string_view source) const {
    for (const auto& uses : uses_)
      for (const ane::PortUse& use : uses)
        if (use.source == source) return use;
    fail("the program has no input or output '", source, "'");
  }

  // What is bound, else its own.
  const Tensor& memory(const ane::PortUse& use) const {
    Tensor& tensor = memory_[use.source];
    if (tensor.empty()) tensor = Tensor(use.source_type);
    return tensor;
  }

  std::unique_ptr<Program> program_;
  std::vector<ane::PortUse> uses_[2];  // of inputs, of outputs
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
  mutable TensorMap memory_;  // by source
};

}  // namespace

std::shared_ptr<DeviceWeights> Device::load_as(const TensorMap& weights, MatrixFormat format) {
  if (format != MatrixFormat::exact)
    fail(name(), " keeps no matrices in ", format, ": choose the device cpu");
  return load(weights);
}

std::shared_ptr<DeviceWeights> Device::load_packed(const PackedWeights&) {
  fail(name(), " reads no packed weights: load the model they were made from, or choose the device cpu");
}

PackedWeights DeviceWeights::packed() const {
  fail("weights are packed on the device cpu alone");
}

void Device::check(std::string_view text) const {
  static_cast<void>(mil::parse(text));
}

std::unique_ptr<Program> Device::open(const PackedProgram& packed, std::shared_ptr<DeviceWeights> weights) {
  ane::LegalProgram program = ane::unpack(packed).program;
  std::unique_ptr<Program> compiled = compile(with_own_weights(program), std::move(weights));
  return std::make_unique<PortedProgram>(std::move(compiled), std::move(program));
}

}  // namespace orion
