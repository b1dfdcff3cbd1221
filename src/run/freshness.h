// Proof that a device computes with the weights it was last given.
#pragma once

#include "run/train_stages.h"

namespace orion {

/// What a segment gives for a fixed input, on the device and on the host.
struct Answers {
  Tensor device;  // fp16
  Tensor host;    // fp32, from the weights in fp16
};

/// How far the device has moved from one pair of answers to another, where 1 is as far as the weights say and
/// 0 not at all. Steps are small beside fp16's rounding, so with d and s the differences on device and host
/// the measure is d.s / s.s: rounding is not correlated with s. None if s is too small to tell by, beside
/// what remains of d or beside fp16's rounding; or if an answer is not finite.
std::optional<double> moved(const Answers& before, const Answers& after);

/// The host's answers of one segment.
class Freshness {
 public:
  /// `graph`: the segment in fp32, with inputs x (and cos, sin) and an output hidden.
  Freshness(const Graph& graph, Device& host);

  /// `weights` by name and `inputs` by port, fp16; x is made here.
  Tensor answer(const std::function<Tensor(const std::string&)>& weights, const TensorMap& inputs);
  /// x, fp16, for the device.
  const Tensor& input() const { return x_; }

 private:
  StageProgram program_;
  Tensor x_;
};

}  // namespace orion
