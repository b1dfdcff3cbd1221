// The order of the passes, and the loop that runs them.
#include "orion/error.h"
#include "orion/op.h"
#include "passes/passes.h"

#include "ir/rewrite.h"

#include <cstdlib>
#include <iostream>

namespace orion {
namespace {

constexpr PassDef pipeline[] = {
    // First, so that no later pass has to look through a node that does nothing.
    {"identities", "Drops nodes whose result is their operand.", eliminate_identities},
    {"casts", "Drops the middle of two casts where it rounds nothing.", fuse_casts},
    {"layout", "Merges neighbouring transposes and reshapes, and transposes into matmul.", cancel_layout},
    // After layout: a transposed constant is folded only if nothing absorbed the transpose.
    {"constants", "Computes nodes whose operands are all constants.", fold_constants},
    // Last, when what can become equal has become equal.
    {"common", "Computes equal nodes once and stores equal constants once.", share_common},
};

// Each round can only shrink the graph or merge nodes; this bound is never met unless a pass is wrong.
constexpr int most_rounds = 100;

bool printing() {
  const char* debug = std::getenv("ORION_DEBUG");
  return debug != nullptr && *debug != '\0' && std::string_view(debug) != "0";
}

}  // namespace

std::span<const PassDef> all_passes() {
  return pipeline;
}

Graph optimize(const Graph& graph) {
  const bool print = printing();
  Graph current = rewrite(graph, [](const RewriteCall&) { return Value{}; });
  if (print) std::cerr << "-- live part\n" << to_text(current);
  for (int round = 0; round < most_rounds; ++round) {
    bool changed = false;
    for (const PassDef& pass : pipeline) {
      Graph next = pass.run(current);
      if (same_structure(current, next)) continue;
      changed = true;
      current = std::move(next);
      if (print) std::cerr << "-- after " << pass.name << '\n' << to_text(current);
    }
    if (!changed) return current;
  }
  fail("passes: graph ", graph.name(), " still changes after ", most_rounds, " rounds");
}

Graph expand_composites(const Graph& graph, const std::function<bool(const Graph&, const Node&)>& wanted) {
  bool expanded = true;
  Graph current = graph;
  while (expanded) {
    expanded = false;
    current = rewrite(current, [&](const RewriteCall& call) -> Value {
      if (call.node.op->expand == nullptr || !wanted(call.from, call.node)) return {};
      expanded = true;
      return call.node.op->expand({call.graph, call.node, call.in});
    });
  }
  return current;
}

bool same_structure(const Graph& a, const Graph& b) {
  if (a.size() != b.size() || a.inputs() != b.inputs() || a.outputs().size() != b.outputs().size())
    return false;
  for (std::size_t i = 0; i < a.outputs().size(); ++i)
    if (a.outputs()[i].name != b.outputs()[i].name || a.outputs()[i].node != b.outputs()[i].node)
      return false;
  for (NodeId id = 0; id < a.size(); ++id) {
    const Node& x = a.node(id);
    const Node& y = b.node(id);
    const bool named = x.is("input") || x.is("weight");
    if (x.op != y.op || x.inputs != y.inputs || x.attrs != y.attrs || x.type != y.type) return false;
    if ((named && x.name != y.name) || !x.value.identical(y.value)) return false;
  }
  return true;
}

}  // namespace orion
