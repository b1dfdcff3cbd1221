#include "ir/rewrite.h"
#include "orion/op.h"
#include "orion/ops.h"
#include "passes/passes.h"

#include <algorithm>

namespace orion {
namespace {

Value operand_of(const RewriteCall& call, Value value) {
  return {&call.graph, value.node().inputs[0]};
}

// transpose(transpose(x, inner), outer): axis i of the result is axis inner[outer[i]] of x.
Value merge_transposes(const RewriteCall& call) {
  const std::vector<std::int64_t>& outer = call.node.list("perm");
  const std::vector<std::int64_t>& inner = call.in[0].node().list("perm");
  std::vector<std::int64_t> perm;
  for (const std::int64_t axis : outer) perm.push_back(inner[static_cast<std::size_t>(axis)]);
  return ops::transpose(operand_of(call, call.in[0]), perm);
}

Value merge_reshapes(const RewriteCall& call) {
  return ops::reshape(operand_of(call, call.in[0]), call.node.list("shape"));
}

// True for a transpose that swaps the last two axes and nothing else.
bool swaps_last_two(const Node& node) {
  if (!node.is("transpose") || node.type.shape.rank() < 2) return false;
  std::vector<std::int64_t> perm = node.list("perm");
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return std::ranges::is_sorted(perm);
}

Value absorb_transposes(const RewriteCall& call) {
  const bool x = swaps_last_two(call.in[0].node());
  const bool y = swaps_last_two(call.in[1].node());
  if (!x && !y) return {};
  return ops::matmul(x ? operand_of(call, call.in[0]) : call.in[0],
                     y ? operand_of(call, call.in[1]) : call.in[1], call.node.flag("transpose_x") != x,
                     call.node.flag("transpose_y") != y);
}

}  // namespace

//   %1 = transpose(x=%0, perm=[0, 2, 1])
//   %2 = transpose(x=%1, perm=[0, 2, 1])
// becomes
//   %1 = transpose(x=%0, perm=[0, 1, 2])      which identity elimination then drops
//
//   %1 = reshape(x=%0, shape=[2, 3, 4])
//   %2 = reshape(x=%1, shape=[6, 4])
// becomes
//   %1 = reshape(x=%0, shape=[6, 4])
//
//   %1 = transpose(x=%0, perm=[1, 0])
//   %2 = matmul(x=%3, y=%1)
// becomes
//   %1 = matmul(x=%3, y=%0, transpose_y=true)
Graph cancel_layout(const Graph& graph) {
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    if (call.node.is("transpose") && call.in[0].node().is("transpose")) return merge_transposes(call);
    if (call.node.is("reshape") && call.in[0].node().is("reshape")) return merge_reshapes(call);
    if (call.node.is("matmul")) return absorb_transposes(call);
    return {};
  });
}

}  // namespace orion
