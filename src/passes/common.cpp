#include "ir/rewrite.h"
#include "orion/op.h"
#include "passes/passes.h"

#include <functional>
#include <string_view>
#include <unordered_map>

namespace orion {
namespace {

bool equal_nodes(const Node& a, const Node& b, const std::vector<NodeId>& inputs_a) {
  return a.op == b.op && inputs_a == b.inputs && a.attrs == b.attrs && a.type == b.type &&
         a.value.identical(b.value);
}

std::size_t hash_of(const Node& node, const std::vector<NodeId>& inputs) {
  std::size_t hash = std::hash<const void*>{}(node.op);
  for (const NodeId input : inputs) hash = hash * 31 + static_cast<std::size_t>(input + 1);
  if (!node.value.empty()) {
    const auto* bytes = reinterpret_cast<const char*>(node.value.data());
    hash = hash * 31 + std::hash<std::string_view>{}({bytes, node.value.bytes()});
  }
  return hash;
}

}  // namespace

//   %1 = exp(x=%0)
//   %2 = exp(x=%0)
//   %3 = add(x=%1, y=%2)
// becomes
//   %1 = exp(x=%0)
//   %2 = add(x=%1, y=%1)
//
// Equal constants are shared the same way. Weights never are: their values may change.
Graph share_common(const Graph& graph) {
  std::unordered_multimap<std::size_t, NodeId> seen;
  return rewrite(graph, [&seen](const RewriteCall& call) -> Value {
    if (call.node.is("weight")) return {};
    std::vector<NodeId> inputs;
    for (const Value& value : call.in) inputs.push_back(value.id);
    const std::size_t hash = hash_of(call.node, inputs);
    const auto [first, last] = seen.equal_range(hash);
    for (auto candidate = first; candidate != last; ++candidate)
      if (equal_nodes(call.node, call.graph.node(candidate->second), inputs))
        return call.graph.value(candidate->second);
    const Value copied = call.graph.copy(call.node, inputs);
    seen.emplace(hash, copied.id);
    return copied;
  });
}

}  // namespace orion
