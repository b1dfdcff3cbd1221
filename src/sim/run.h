// Running a compiled program on values.
#pragma once

#include "sim/code.h"

namespace orion::sim {

/// Inputs and outputs in symbol order, as the engine holds them: floats are fp16 values in fp32 memory.
std::vector<Tensor> run(const Program& program, std::span<const Tensor> inputs);

}  // namespace orion::sim
