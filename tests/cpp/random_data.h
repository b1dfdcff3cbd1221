// Random values for a graph's inputs and weights, and how far results may differ.
#pragma once

#include "orion/op.h"
#include "orion/sampler.h"

#include <algorithm>
#include <cmath>

namespace orion::test {

inline Tensor random_tensor(const TensorType& type, Random& random, double scale = 1.0) {
  const Tensor tensor({DType::fp32, type.shape});
  for (float& value : tensor.as<float>()) value = static_cast<float>((random.uniform() * 2 - 1) * scale);
  return convert(tensor, type.dtype);
}

struct Data {
  TensorMap inputs, weights;
};

/// Inputs within +-scale, weights within +-1.
inline Data data_for(const Graph& graph, double scale = 1.0) {
  Random random(5);
  Data data;
  for (const Node& node : graph.nodes()) {
    if (node.is("input")) data.inputs.emplace(node.name, random_tensor(node.type, random, scale));
    if (node.is("weight")) data.weights.emplace(node.name, random_tensor(node.type, random));
  }
  return data;
}

/// The largest difference, beside the largest value; infinite if `got` is not finite.
inline double relative_error(const Tensor& got, const Tensor& wanted) {
  double error = 0.0;
  double size = 1e-3;
  for (std::int64_t i = 0; i < wanted.shape().size(); ++i) {
    error = std::max(error, std::abs(got.at(i) - wanted.at(i)));
    size = std::max(size, std::abs(wanted.at(i)));
    if (!std::isfinite(got.at(i))) return INFINITY;
  }
  return error / size;
}

}  // namespace orion::test
