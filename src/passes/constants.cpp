#include "ir/rewrite.h"
#include "orion/op.h"
#include "passes/passes.h"

#include <algorithm>

namespace orion {
namespace {

// Folding may store at most this much more than it removes: a broadcast of a scalar to a whole mask
// is cheaper to compute than to keep.
constexpr std::int64_t growth_allowed = 4096;

bool foldable(const RewriteCall& call) {
  if (call.in.empty() || call.node.op->kernel == nullptr) return false;
  std::int64_t elements = 0;
  for (const Value& value : call.in) {
    if (!value) continue;
    if (!value.node().is("const")) return false;
    elements += value.shape().size();
  }
  return call.node.type.shape.size() <= elements + growth_allowed;
}

}  // namespace

//   %0 = const(2)
//   %1 = sqrt(x=%0)
//   %2 = mul(x=%3, y=%1)
// becomes
//   %1 = const(1.41421354)
//   %2 = mul(x=%3, y=%1)
//
// The table's own kernels do the arithmetic, rounding each fp16 result once, as a device would.
Graph fold_constants(const Graph& graph) {
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    if (!foldable(call)) return {};
    std::vector<Tensor> operands;
    for (const Value& value : call.in) operands.push_back(value ? value.node().value : Tensor());
    return call.graph.constant(evaluate(call.node, operands), call.node.name);
  });
}

}  // namespace orion
