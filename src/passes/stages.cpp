#include "orion/stages.h"

#include "ir/rewrite.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"
#include "orion/passes.h"

#include <algorithm>
#include <map>
#include <set>

namespace orion {
namespace {

enum class Stage : std::uint8_t { forward, backward, weights };

bool has_no_gradient(const Graph&, const Node& node) {
  return node.op->gradient == nullptr && node.op->expand != nullptr;
}

std::optional<NodeId> output_node(const Graph& graph, std::string_view name) {
  const auto found = std::ranges::find(graph.outputs(), name, &Output::name);
  return found == graph.outputs().end() ? std::nullopt : std::optional(found->node);
}

// Marks `id` and what it is computed from, as far as `enter` lets pass.
template <class Enter>
std::vector<bool> needed_for(const Graph& graph, std::span<const NodeId> ids, const Enter& enter) {
  std::vector<bool> needed(static_cast<std::size_t>(graph.size()), false);
  for (const NodeId id : ids) needed[static_cast<std::size_t>(id)] = true;
  for (NodeId id = graph.size() - 1; id >= 0; --id) {
    if (!needed[static_cast<std::size_t>(id)] || !enter(id)) continue;
    for (const NodeId input : graph.node(id).inputs)
      if (input != absent) needed[static_cast<std::size_t>(input)] = true;
  }
  return needed;
}

// -- one stage ------------------------------------------------------------------------------------

// Copies nodes into a graph of their own, in fp32 if `wide`.
class StageGraph {
 public:
  StageGraph(const Graph& from, bool wide)
      : from_(from), wide_(wide), values_(static_cast<std::size_t>(from.size())) {}

  Graph& graph() { return graph_; }
  Value value(NodeId id) const { return values_[static_cast<std::size_t>(id)]; }

  // As the graph it comes from gives it.
  void output(const Output& output) {
    const Value made = value(output.node);
    const DType wanted = from_.node(output.node).type.dtype;
    graph_.output(output.name,
                  made.dtype() == wanted ? made : ops::cast(made, std::string(dtype_name(wanted))));
  }

  void import(NodeId id, const std::string& name) {
    values_[static_cast<std::size_t>(id)] = widened(graph_.input(name, from_.node(id).type));
  }

  void copy(NodeId id) {
    const Node& node = from_.node(id);
    std::vector<NodeId> inputs;
    for (const NodeId input : node.inputs) inputs.push_back(input == absent ? absent : value(input).id);
    values_[static_cast<std::size_t>(id)] = copied(node, std::move(inputs));
  }

 private:
  Value copied(const Node& node, std::vector<NodeId> inputs) {
    if (!wide_ || !is_float(node.type.dtype)) return graph_.copy(node, std::move(inputs));
    if (node.is("const")) return graph_.constant(convert(node.value, DType::fp32), node.name);
    if (node.is("cast")) return as_fp32(graph_.value(inputs[0]));
    const Value value = graph_.copy(node, std::move(inputs));
    return node.op->is_source() ? widened(value) : value;
  }

  static Value as_fp32(Value value) {
    return value.dtype() == DType::fp32 ? value : ops::cast(value, "fp32");
  }

  Value widened(Value value) const { return wide_ && is_float(value.dtype()) ? as_fp32(value) : value; }

  const Graph& from_;
  bool wide_;
  Graph graph_;
  std::vector<Value> values_;
};

bool is_zeros(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (node.is("broadcast_to")) return is_zeros(graph, node.inputs[0]);
  return node.is("const") && node.value.identical(Tensor(node.type));
}

// before + gradient. Rows scattered into zeros are scattered into what was there.
Value accumulated(Value before, Value gradient) {
  const Node& node = gradient.node();
  const bool scattered =
      node.is("scatter") && node.text("mode") == "add" && is_zeros(*gradient.graph, node.inputs[0]);
  if (!scattered) return ops::add(before, gradient);
  std::vector<NodeId> inputs = node.inputs;
  inputs[0] = before.id;
  return gradient.graph->add(*node.op, std::move(inputs), node.attrs);
}

void output_gradients(StageGraph& stage, const Differentiated& whole) {
  for (const GradientPort& gradient : whole.gradients) {
    const Value value = stage.value(*output_node(whole.graph, gradient.port));
    const Value before = stage.graph().input(gradient.port, {DType::fp32, value.shape()});
    stage.graph().output(gradient.port, accumulated(before, value));
  }
}

// -- all stages -----------------------------------------------------------------------------------

class Cutter {
 public:
  Cutter(const Differentiated& whole, const NodeTest& repeat, bool apart)
      : whole_(whole), graph_(whole.graph), repeat_(repeat), apart_(apart) {
    const auto all = [](NodeId) { return true; };
    forward_ = needed_for(graph_, original_outputs(), all);
    backward_ = needed_for(graph_, input_gradients(), all);
  }

  Stages cut() {
    // Last stage first: what a stage reads, an earlier one must give.
    Stages stages;
    stages.gradients = whole_.gradients;
    if (apart_) stages.weights = build(Stage::weights, {}, true);
    stages.backward = build(Stage::backward, input_gradients(), !apart_);
    stages.forward = build(Stage::forward, original_outputs(), false);
    return stages;
  }

 private:
  std::vector<NodeId> original_outputs() const { return nodes_of(whole_.outputs); }

  std::vector<NodeId> input_gradients() const {
    std::vector<std::string> names;
    for (const Output& output : graph_.outputs())
      if (!is_original(output.name) && !is_weight_gradient(output.name)) names.push_back(output.name);
    return nodes_of(names);
  }

  std::vector<NodeId> weight_gradients() const {
    std::vector<std::string> names;
    for (const GradientPort& gradient : whole_.gradients) names.push_back(gradient.port);
    return nodes_of(names);
  }

  std::vector<NodeId> nodes_of(std::span<const std::string> names) const {
    std::vector<NodeId> ids;
    for (const std::string& name : names) ids.push_back(*output_node(graph_, name));
    return ids;
  }

  bool is_original(std::string_view name) const {
    return std::ranges::find(whole_.outputs, name) != whole_.outputs.end();
  }
  bool is_weight_gradient(std::string_view name) const {
    return std::ranges::find(whole_.gradients, name, &GradientPort::port) != whole_.gradients.end();
  }

  Stage stage_of(NodeId id) const {
    if (forward_[static_cast<std::size_t>(id)]) return Stage::forward;
    return backward_[static_cast<std::size_t>(id)] || !apart_ ? Stage::backward : Stage::weights;
  }

  // What every stage may have for itself.
  bool is_free(NodeId id) const {
    const Node& node = graph_.node(id);
    return node.op->is_source() || node.is("reshape") || is_view_of_source(id) ||
           (repeat_ && stage_of(id) == Stage::forward && repeat_(graph_, node));
  }

  // Another layout of a weight is a weight to the program that reads it, but a large value between programs;
  // that of an input costs less than a tap.
  bool is_view_of_source(NodeId id) const {
    const Node& node = graph_.node(id);
    if (node.op->is_source()) return true;
    const bool is_view = node.is("reshape") || node.is("transpose") || node.is("slice_by_index");
    return is_view && is_view_of_source(node.inputs[0]);
  }

  bool belongs(NodeId id, Stage stage) const { return is_free(id) || stage_of(id) == stage; }

  // Copies what the stage needs for `wanted` and its exports.
  void fill(StageGraph& to, Stage stage, std::vector<NodeId> wanted) {
    for (const auto& [id, name] : exports_)
      if (stage_of(id) == stage) wanted.push_back(id);
    const std::vector<bool> needed =
        needed_for(graph_, wanted, [&](NodeId id) { return belongs(id, stage); });
    // All inputs first, as every graph has them.
    for (NodeId id = 0; id < graph_.size(); ++id)
      if (needed[static_cast<std::size_t>(id)] && !belongs(id, stage)) to.import(id, exported(id));
    for (NodeId id = 0; id < graph_.size(); ++id)
      if (needed[static_cast<std::size_t>(id)] && belongs(id, stage)) to.copy(id);
  }

  // `last`: with the weights' gradients.
  Graph build(Stage stage, std::vector<NodeId> wanted, bool last) {
    if (last) std::ranges::copy(weight_gradients(), std::back_inserter(wanted));
    StageGraph to(graph_, last);
    fill(to, stage, std::move(wanted));
    if (stage != Stage::weights) outputs(to, stage);
    if (last) output_gradients(to, whole_);
    return std::move(to.graph());
  }

  // Its own, and what later stages read.
  void outputs(StageGraph& to, Stage stage) {
    for (const Output& output : graph_.outputs()) {
      const bool here = stage == Stage::forward
                            ? is_original(output.name)
                            : !is_original(output.name) && !is_weight_gradient(output.name);
      if (here) to.output(output);
    }
    for (const auto& [id, name] : exports_)
      if (stage_of(id) == stage && !is_output_of(stage, id)) to.graph().output(name, to.value(id));
  }

  // The name under which a stage gives a value to later ones: its own as an output, if it is one.
  const std::string& exported(NodeId id) {
    const auto known = exports_.find(id);
    if (known != exports_.end()) return known->second;
    const Stage stage = stage_of(id);
    for (const Output& output : graph_.outputs())
      if (output.node == id && is_output_of(stage, id)) return exports_[id] = output.name;
    const std::string_view kind = stage == Stage::forward ? "tap_" : "cut_";
    return exports_[id] = str(kind, exports_.size());
  }

  bool is_output_of(Stage stage, NodeId id) const {
    return std::ranges::any_of(graph_.outputs(), [&](const Output& output) {
      return output.node == id && !is_weight_gradient(output.name) &&
             is_original(output.name) == (stage == Stage::forward);
    });
  }

  const Differentiated& whole_;
  const Graph& graph_;
  const NodeTest& repeat_;
  bool apart_;  // weights' gradients from the backward stage
  std::vector<bool> forward_;
  std::vector<bool> backward_;
  std::map<NodeId, std::string> exports_;
};

}  // namespace

Differentiated differentiate(const Graph& graph, std::span<const std::string> inputs, const NodeTest& expand,
                             const WeightTest& trained) {
  Graph joint = expand_composites(graph, has_no_gradient);
  Differentiated result;
  std::vector<Value> of, dy, wrt;
  for (const Output& output : graph.outputs()) result.outputs.push_back(output.name);
  for (const Output& output : std::vector(joint.outputs())) {
    const Value value = joint.value(output.node);
    if (!is_float(value.dtype())) continue;
    of.push_back(value);
    dy.push_back(joint.input("d_" + output.name, value.type()));
  }
  for (const std::string& name : inputs) {
    const std::optional<NodeId> id = joint.find(name);
    if (!id || !joint.node(*id).is("input")) fail("differentiate: no input '", name, "'");
    wrt.push_back(joint.value(*id));
  }
  for (NodeId id = 0; id < joint.size(); ++id) {
    if (!joint.node(id).is("weight") || (trained && !trained(joint.node(id).name))) continue;
    wrt.push_back(joint.value(id));
    result.gradients.push_back({str("dw_", result.gradients.size()), joint.node(id).name});
  }
  const std::vector<Value> dx = gradient(joint, of, dy, wrt);
  for (std::size_t i = 0; i < dx.size(); ++i)
    joint.output(i < inputs.size() ? "d_" + inputs[i] : result.gradients[i - inputs.size()].port, dx[i]);
  result.graph = optimize(
      expand_composites(joint, [&](const Graph& g, const Node& node) { return expand && expand(g, node); }));
  return result;
}

Graph accumulating(const Differentiated& whole) {
  StageGraph to(whole.graph, true);
  const std::vector<bool> live = live_nodes(whole.graph);
  for (NodeId id = 0; id < whole.graph.size(); ++id)
    if (live[static_cast<std::size_t>(id)] || whole.graph.node(id).is("input")) to.copy(id);
  for (const Output& output : whole.graph.outputs())
    if (std::ranges::find(whole.gradients, output.name, &GradientPort::port) == whole.gradients.end())
      to.output(output);
  output_gradients(to, whole);
  return std::move(to.graph());
}

Graph overwriting(const Graph& adding, std::span<const GradientPort> gradients) {
  std::map<NodeId, NodeId> alone;  // by the sum with the state, what is added
  std::set<NodeId> states;
  for (const GradientPort& gradient : gradients) {
    const NodeId sum = *output_node(adding, gradient.port);
    if (!adding.node(sum).is("add")) continue;
    states.insert(adding.node(sum).inputs[0]);
    alone.emplace(sum, adding.node(sum).inputs[1]);
  }
  StageGraph made(adding, false);
  for (NodeId id = 0; id < adding.size(); ++id)
    if (!states.contains(id) && !alone.contains(id)) made.copy(id);
  for (const Output& output : adding.outputs()) {
    const auto found = alone.find(output.node);
    made.graph().output(output.name, made.value(found == alone.end() ? output.node : found->second));
  }
  return std::move(made.graph());
}

Stages in_stages(const Differentiated& whole, const NodeTest& repeat, bool apart) {
  return Cutter(whole, repeat, apart).cut();
}

Graph weights_as_inputs(const Graph& graph, std::vector<WeightPort>& ports, const WeightTest& wanted) {
  return rewrite(graph, [&](const RewriteCall& call) -> Value {
    if (!call.node.is("weight") || (wanted && !wanted(call.node.name))) return {};
    ports.push_back({str("w_", ports.size()), call.node.name});
    return call.graph.input(ports.back().port, call.node.type);
  });
}

}  // namespace orion
