// matmul and conv as the engine computes them: each product is rounded to fp16, then summed in fp32
// (field survey N1); overflow and tiny products as the arithmetic says (N2, N3).
#pragma once

#include "orion/op.h"
#include "sim/arithmetic.h"

namespace orion::sim {

/// Whether `node` is computed here.
bool is_product(const Node& node);

/// Operands are fp16 values, in fp16 or in fp32 memory; the result, in fp32 memory, is rounded to fp16.
void multiply(const Node& node, std::span<const Tensor> operands, const Tensor& result,
              const Arithmetic& arithmetic);

}  // namespace orion::sim
