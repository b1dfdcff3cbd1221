// Brings a graph into the form that MIL text has.
#include "ir/rewrite.h"
#include "mil/names.h"
#include "orion/error.h"
#include "orion/mil.h"
#include "orion/op.h"
#include "orion/passes.h"

namespace orion::mil {
namespace {

bool is_in_mil(const Graph& graph, const Node& node) {
  return node.op->is_source() || node.op->in_mil == nullptr || node.op->in_mil(graph, node);
}

// MIL has no empty lists. An op that must have a list, one number for each axis, does nothing to a scalar.
bool is_idle(const Node& node) {
  if (node.is("reshape")) return false;
  for (std::size_t i = 0; i < node.attrs.size(); ++i) {
    const auto* list = std::get_if<std::vector<std::int64_t>>(&node.attrs[i]);
    if (list != nullptr && list->empty() && !node.op->attrs[i].fallback) return true;
  }
  return false;
}

Graph expanded(const Graph& graph) {
  Graph result = expand_composites(graph, [](const Graph& g, const Node& n) { return !is_in_mil(g, n); });
  for (const Node& node : result.nodes())
    if (!is_in_mil(result, node))
      fail(node.op->name, ": node '", node.name, "' has no form in MIL, and the op has no expansion");
  return rewrite(result, [](const RewriteCall& call) {
    return is_idle(call.node) ? call.graph.add("identity", {call.in[0]}, {}, call.node.name) : Value{};
  });
}

void check_port(std::string_view what, std::string_view name) {
  if (is_mil_word(name)) fail(what, " '", name, "': a word of MIL, give it another name");
}

// An output in the lowered graph.
struct Result {
  std::string name;
  std::string node_name;  // the same, unless a weight has it
  NodeId source;          // in the graph read
  bool by_identity;       // the source has another name to keep
};

// Rebuilds a graph with names that are variables of a MIL program.
class Renamer {
 public:
  explicit Renamer(const Graph& graph)
      : graph_(graph), result_(graph.name()), node_names_(static_cast<std::size_t>(graph.size())) {}

  Graph run() {
    take_fixed_names();
    name_outputs();
    name_inner_nodes();
    copy_nodes();
    for (const Result& output : outputs_) {
      const Value source = copies_[static_cast<std::size_t>(output.source)];
      result_.output(output.name,
                     output.by_identity ? result_.add("identity", {source}, {}, output.node_name) : source);
    }
    return std::move(result_);
  }

 private:
  std::string& name_of(NodeId id) { return node_names_[static_cast<std::size_t>(id)]; }

  bool is_a(std::string_view op, std::string_view name) const {
    const std::optional<NodeId> id = graph_.find(name);
    return id && graph_.node(*id).is(op);
  }

  // Inputs, weights and outputs keep theirs.
  void take_fixed_names() {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_.node(id);
      if (!node.is("input") && !node.is("weight")) continue;
      if (node.is("input")) check_port("input", node.name);
      names_.take(node.name);
      name_of(id) = node.name;
    }
    for (const Output& output : graph_.outputs()) {
      check_port("output", output.name);
      names_.take(output.name);
    }
  }

  void name_outputs() {
    for (const auto& [name, source] : graph_.outputs()) {
      const std::string own = is_a("input", name) ? names_.unique(name + "_out") : name;
      const std::string node_name = is_a("weight", name) ? names_.unique(name) : own;
      const bool by_identity = graph_.node(source).op->is_source() || !name_of(source).empty();
      if (!by_identity) name_of(source) = node_name;
      outputs_.push_back({own, node_name, source, by_identity});
    }
  }

  // Those that can keep their name do; the others get what is left.
  void name_inner_nodes() {
    for (const bool avoided : {false, true})
      for (NodeId id = 0; id < graph_.size(); ++id) {
        const std::string& name = graph_.node(id).name;
        if (name_of(id).empty() && is_avoided(name) == avoided) name_of(id) = names_.unique_inner(name);
      }
  }

  void copy_nodes() {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      Node node = graph_.node(id);
      node.name = name_of(id);
      std::vector<NodeId> inputs;
      for (const NodeId input : node.inputs)
        inputs.push_back(input == absent ? absent : copies_[static_cast<std::size_t>(input)].id);
      copies_.push_back(result_.copy(node, std::move(inputs)));
    }
  }

  const Graph& graph_;
  Graph result_;
  Names names_;
  std::vector<std::string> node_names_;  // by id
  std::vector<Value> copies_;            // by id
  std::vector<Result> outputs_;
};

}  // namespace

Graph lower_to_mil(const Graph& graph) {
  const Graph simple = expanded(graph);
  return Renamer(simple).run();
}

}  // namespace orion::mil
