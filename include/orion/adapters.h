// Adapters of a model that runs: several resident at once, swapped without compiling or loading anything.
//
// Programs are compiled for a capacity: the modules that any resident adapter reaches, and a rank that holds
// them all. An adapter that stays within it is another set of inputs; rows that it does not use are zeros.
#pragma once

#include "orion/model.h"

namespace orion {

/// An adapter as it is stored.
struct Adapter {
  LoraShape shape;
  std::vector<LoraModule> modules;
  TensorMap tensors;  // A and B of each module, by their names
};

/// Checks the tensors against the model: every target has both, in its shape, all numbers finite.
Adapter make_adapter(const ModelConfig& config, const LoraShape& shape, const TensorMap& tensors);
/// The model's weights with an adapter worked in: W + scale B A, in the layout of each weight.
Tensor merged_weight(const Adapter& adapter, const LoraModule& module, const Tensor& weight);

/// The graph with adapters of that capacity as inputs: `ports` says which input is which tensor. Without
/// targets the graph as it is.
Graph with_adapter_inputs(const Graph& graph, const LoraShape& capacity, std::vector<WeightPort>& ports);

/// Inputs of a program: A and B of every module of the capacity. B includes the scale.
using AdapterInputs = std::shared_ptr<const TensorMap>;

class AdapterSet {
 public:
  AdapterSet(const ModelConfig& config, DType dtype) : config_(config), dtype_(dtype) {}

  /// Error if the name is taken.
  void add(const std::string& name, Adapter adapter);
  /// Error for an unknown name. If it was active, none is from now on.
  void remove(std::string_view name);
  std::vector<std::string> names() const;
  const Adapter& get(std::string_view name);

  /// Which adapter the next tokens are computed with, its scale multiplied; none: the model as it is. Error
  /// for an unknown name or a scale that is not finite: what was active stays so.
  void activate(const std::optional<std::string>& name, double scale = 1.0);
  std::optional<std::string> active() const;
  double active_scale() const;

  /// What programs are compiled for; no targets while no adapter is resident. It only grows.
  LoraShape capacity() const;
  /// The inputs of the active adapter, or of a named one.
  AdapterInputs inputs();
  AdapterInputs inputs(const std::optional<std::string>& name, double scale);

 private:
  // With the inputs that it was last used as.
  struct Resident {
    Adapter adapter;
    AdapterInputs inputs = nullptr;
    double scale = 1.0;
  };

  Resident& find(std::string_view name);
  void grow(const Adapter& adapter);
  AdapterInputs made(const Adapter* adapter, double scale) const;
  AdapterInputs used(const std::optional<std::string>& name, double scale);

  const ModelConfig& config_;
  DType dtype_;
  mutable std::mutex mutex_;
  std::map<std::string, Resident, std::less<>> resident_;
  AdapterInputs none_;  // zeros
  LoraShape capacity_ = {.rank = 0};
  std::vector<LoraModule> modules_;  // of the capacity
  std::optional<std::string> active_;
  double scale_ = 1.0;
};

}  // namespace orion
