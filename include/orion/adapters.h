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

/// Checks the tensors against the model: every target has both, in its shape, all numbers finite; none is
/// beside.
Adapter make_adapter(const ModelConfig& config, const LoraShape& shape, const TensorMap& tensors);
/// A weight with an adapter worked in, W + scale B A, fp32 in its own layout.
Tensor merged_weight(const Adapter& adapter, const LoraModule& module, const Tensor& weight);

/// The graph with adapters of that capacity as inputs: `ports` says which input is which tensor. Without
/// targets the graph as it is.
Graph with_adapter_inputs(const Graph& graph, const LoraShape& capacity, std::vector<WeightPort>& ports);

/// What programs compiled for a capacity are given.
struct AdapterValues {
  LoraShape capacity;
  TensorMap tensors;  // A and B of every module of the capacity; B includes the scale
};
using AdapterInputs = std::shared_ptr<const AdapterValues>;

/// Which adapter to compute with, its scale multiplied; without a name the model as it is.
struct AdapterChoice {
  std::optional<std::string> name = std::nullopt;
  double scale = 1.0;
};

/// Writes the tensors of a packed input into its memory (r, width), of the tensors' own width.
void write_packed(const AdapterValues& adapter, const PackedLora& packed, const Tensor& memory);

class AdapterSet {
 public:
  AdapterSet(const ModelConfig& config, DType dtype) : config_(config), dtype_(dtype) {}

  /// Error if the name is taken, or for what `make_adapter` refuses.
  void add(const std::string& name, const LoraShape& shape, const TensorMap& tensors);
  /// Error for an unknown name. If it was active, none is from now on.
  void remove(std::string_view name);
  std::vector<std::string> names() const;

  /// What the next tokens are computed with. Error for an unknown name or a scale that is not finite or
  /// beyond what the programs can hold: what was active stays so.
  void activate(AdapterChoice choice);
  AdapterChoice active() const;

  /// What programs are compiled for; no targets until an adapter was resident. It only grows: by adapters
  /// that need more, and by what is reserved for those to come.
  LoraShape capacity() const;
  void reserve(const LoraShape& capacity);
  /// The inputs of the active adapter, or of another. They stay valid when adapters come and go.
  AdapterInputs inputs();
  AdapterInputs inputs(const AdapterChoice& choice);

 private:
  // With the inputs that it was last used as.
  struct Resident {
    Adapter adapter;
    AdapterInputs inputs = nullptr;
    double scale = 1.0;
  };

  Resident& find(std::string_view name);
  void grow(const LoraShape& needed);
  AdapterInputs made(const Adapter* adapter, double scale) const;
  AdapterInputs used(const AdapterChoice& choice);

  const ModelConfig& config_;
  DType dtype_;
  mutable std::mutex mutex_;
  std::map<std::string, Resident, std::less<>> resident_;
  AdapterInputs none_;  // zeros
  LoraShape capacity_ = {.rank = 0};
  std::vector<LoraModule> modules_;  // of the capacity
  AdapterChoice active_;
};

}  // namespace orion
