// The programs of one differentiated graph in training, and the memory their ports are bound to.
#pragma once

#include "orion/device.h"
#include "orion/stages.h"

namespace orion {

/// A program and, if its weights are inputs, which they are.
struct StageProgram {
  std::shared_ptr<Program> program;
  std::vector<WeightPort> weights;
};

/// A stage that may give weights' gradients, added to what they were or written over it.
struct GradientStage {
  StageProgram adding, overwriting;
  std::vector<GradientPort> gradients;
};

/// Compiles stages, each once: layers that are alike share a program where weights are inputs.
class StageCompiler {
 public:
  /// Without `weights` the device shares host memory and every weight is an input; with them, programs hold
  /// them, but for those that `inputs` takes.
  explicit StageCompiler(Device& device, std::shared_ptr<DeviceWeights> weights = nullptr,
                         WeightTest inputs = {})
      : device_(device), weights_(std::move(weights)), inputs_(std::move(inputs)) {}
  /// Every weight is an input, products being computed in a format.
  StageCompiler(Device& device, MatrixFormat products) : device_(device), products_(products) {}

  StageProgram compile(const Graph& graph);
  GradientStage compile(const Graph& graph, const std::vector<GradientPort>& gradients);
  std::int64_t programs() const { return static_cast<std::int64_t>(made_.size()); }
  double seconds() const { return seconds_; }

 private:
  struct Made {
    Graph graph;
    std::shared_ptr<Program> program;
  };

  Device& device_;
  std::shared_ptr<DeviceWeights> weights_;
  WeightTest inputs_;
  MatrixFormat products_ = MatrixFormat::exact;
  std::vector<Made> made_;
  double seconds_ = 0.0;
};

/// What ports are bound to: the first that knows a name gives its memory.
using Memory = std::function<Tensor(const Port& port)>;

/// Binds every port and runs. Weights come from `weight_of` by name.
void run_stage(const StageProgram& stage, const Memory& memory,
               const std::function<Tensor(const std::string&)>& weight_of);

/// For `differentiate` where an engine runs the layers: norms in parts, so that what forward and backward
/// have in common is a tap.
bool shared_parts(const Graph& graph, const Node& node);

/// Half a layer with its derivative, cut for an engine, where attention is differentiated in parts and its
/// weights are a tap; or for a device that works on the host's memory, where what is cheap is computed again
/// and the backward stage gives the weights' gradients.
Stages layer_stages(const Graph& layer, bool in_place, const WeightTest& trained = {});

/// Bytes of distinct memory in a map.
std::size_t bytes_of(const TensorMap& tensors);

}  // namespace orion
