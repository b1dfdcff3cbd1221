// One matrix product with the engine's rounding.
#pragma once

#include "orion/tensor.h"
#include "sim/arithmetic.h"

namespace orion::sim {

/// Part of a tensor of fp16 values (in fp16 or fp32 memory) as a matrix. Offset and strides in elements.
struct Matrix {
  Tensor tensor;
  std::int64_t offset = 0;
  std::int64_t rows = 1;
  std::int64_t cols = 1;
  std::int64_t row_stride = 1;
  std::int64_t col_stride = 1;
};

/// x (M, K) @ y (K, N) -> z (M, N), each result rounded once; `bias` (M,), if not null, is added before.
void multiply_matrices(const Matrix& x, const Matrix& y, const float* bias, float* z,
                       const Arithmetic& arithmetic);

}  // namespace orion::sim
