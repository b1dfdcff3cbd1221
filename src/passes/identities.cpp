#include "ir/rewrite.h"
#include "orion/op.h"
#include "passes/passes.h"

#include <algorithm>

namespace orion {
namespace {

bool is_one(const Node& node) {
  return node.is("const") && node.type.shape.size() == 1 && node.value.at(0) == 1.0;
}

bool in_order(const std::vector<std::int64_t>& perm) {
  return std::ranges::is_sorted(perm);
}

bool all_zero(const std::vector<std::int64_t>& values) {
  return std::ranges::all_of(values, [](std::int64_t v) { return v == 0; });
}

// Whether the node's result is its first operand, bit for bit, given that their types agree.
bool keeps_first(const Graph& graph, const Node& node) {
  if (node.is("identity") || node.is("cast") || node.is("reshape") || node.is("broadcast_to")) return true;
  if (node.is("concat")) return node.inputs.size() == 1;
  if (node.is("transpose")) return in_order(node.list("perm"));
  if (node.is("pad")) return all_zero(node.list("pad"));
  if (node.is("slice_by_index"))  // same shape: the whole axis each time, unless it runs backwards
    return std::ranges::all_of(node.list("stride"), [](std::int64_t s) { return s > 0; });
  if (node.is("mul") || node.is("real_div")) return is_one(graph.node(node.inputs[1]));
  return false;
}

}  // namespace

//   %1 = cast(x=%0, dtype="fp16")      where %0 is fp16 already
//   %2 = relu(x=%1)
// becomes
//   %1 = relu(x=%0)
Graph eliminate_identities(const Graph& graph) {
  return rewrite(graph, [](const RewriteCall& call) -> Value {
    if (call.in.empty() || !call.in[0] || call.in[0].type() != call.node.type) return {};
    return keeps_first(call.from, call.node) ? call.in[0] : Value{};
  });
}

}  // namespace orion
