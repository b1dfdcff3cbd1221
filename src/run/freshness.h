// Proof that a device computes with the weights it was last given.
#pragma once

#include "run/train_stages.h"

namespace orion {

/// Compares what a segment's program gives for a fixed input with what the host computes from the new weights
/// and from those before. Steps are small beside fp16's rounding, so the question is along which of the two
/// the outputs lie: with d = device - old and s = new - old, d.s / s.s is 1 for new weights and 0 for old
/// ones, whatever the rounding, which is not correlated with s.
class Freshness {
 public:
  /// `graph`: the segment, with inputs x (and cos, sin) and an output hidden.
  Freshness(const Graph& graph, Device& host);

  /// `weights` by name, `inputs` by port: x is made here.
  Tensor reference(const std::function<Tensor(const std::string&)>& weights, const TensorMap& inputs);
  Tensor check_input() const { return x_; }

  /// d.s / s.s; none if the weights' change is too small to be seen.
  static std::optional<double> measure(const Tensor& device, const Tensor& older, const Tensor& newer);

 private:
  StageProgram program_;
  Tensor x_;
};

}  // namespace orion
