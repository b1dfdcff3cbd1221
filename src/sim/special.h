// Ops that the engine computes otherwise than the op table's kernels, or not at all.
#pragma once

#include "orion/op.h"
#include "sim/arithmetic.h"

namespace orion::sim {

struct EngineCall {
  const Graph& graph;
  const Node& node;
  std::span<const Tensor> in;  // absent operands empty
  const Arithmetic& arithmetic;
};

/// Computes `call.node` into `result` (fp32 memory, not yet rounded) if the arithmetic has a way of its own
/// for it; otherwise leaves `result` alone and returns false.
bool computed_specially(const EngineCall& call, const Tensor& result);

/// The operands as the op table's kernel is to see them, where it may compute the rest.
std::vector<Tensor> seen_operands(const EngineCall& call);

/// Damages a result that the engine is reported to get wrong.
void spoil(const EngineCall& call, const Tensor& result);

}  // namespace orion::sim
