#include "ir/rewrite.h"
#include "orion/op.h"
#include "passes/passes.h"

namespace orion {
namespace {

// Whether every value of `from` is one of `to`, so that going through `to` loses nothing.
bool lossless(DType from, DType to) {
  if (from == to || from == DType::boolean) return true;
  return from == DType::fp16 && to == DType::fp32;
}

}  // namespace

//   %1 = cast(x=%0, dtype="fp32")      %0 is fp16: widening is exact
//   %2 = cast(x=%1, dtype="fp16")
// becomes
//   %1 = cast(x=%0, dtype="fp16")      which identity elimination then drops
//
// fp32 -> fp16 -> fp32 stays: it rounds.
Graph fuse_casts(const Graph& graph) {
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    if (!call.node.is("cast") || !call.in[0].node().is("cast")) return {};
    const Node& inner = call.in[0].node();
    const Value source{&call.graph, inner.inputs[0]};
    if (!lossless(source.dtype(), inner.type.dtype)) return {};
    return call.graph.copy(call.node, {source.id});
  });
}

}  // namespace orion
