// Weights in the form that a device's programs read: what `DeviceWeights::packed` gives and
// `Device::load_packed` takes, without packing or copying.
#pragma once

#include "orion/matrix_format.h"
#include "orion/tensor.h"

namespace orion {

/// A matrix of products, in the panels of the CPU device. They are the same for every instruction set.
struct PackedMatrix {
  TensorType type;  // of the weight
  MatrixFormat format = MatrixFormat::exact;
  bool transposed = false;  // the weight is (N, K) and products are x W^T; else (K, N) and x W
  Tensor content;           // bytes (as bool), 64-byte aligned
};

struct PackedWeights {
  /// Of the model; a matrix that is read by rows too may have a wider one.
  MatrixFormat format = MatrixFormat::exact;
  std::map<std::string, PackedMatrix, std::less<>> matrices;
  /// All others.
  TensorMap tensors;
};

}  // namespace orion
