// Inputs and outputs as the engine wants them: fp16 (1, C, H, W), rows wide enough, surfaces of one size
// where the profile says so, in alphabetical order.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "ops/rules.h"
#include "ops/slice.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace orion::ane {
namespace {

// Hardware that packs rows and hardware that pads them agree on rows that need no padding.
std::int64_t width_step(const Profile& profile, const TensorType& type) {
  const bool either = profile.has("surfaces-packed") && profile.has("rows-padded");
  return either ? profile.row_alignment / static_cast<std::int64_t>(dtype_size(type.dtype)) : 1;
}

void widen(std::vector<PortUse>& ports, const Profile& profile) {
  for (PortUse& port : ports) {
    const std::int64_t least = profile.has("minimum-width")
                                   ? std::max(port.type.shape[3], profile.minimum_width)
                                   : port.type.shape[3];
    const std::int64_t step = width_step(profile, port.type);
    port.type.shape.set(3, (least + step - 1) / step * step);
  }
}

// Channels are added until all ports have as many elements as the largest, rounded up to whole channels of
// each.
std::int64_t size_with_own_rows(const std::vector<PortUse>& ports) {
  std::int64_t most = 0;
  std::int64_t step = 1;
  for (const PortUse& port : ports) {
    most = std::max(most, port.type.shape.size());
    step = std::lcm(step, port.type.shape.stride(1));
  }
  return (most + step - 1) / step * step;
}

// The least shape that holds every port.
Shape common_shape(const std::vector<PortUse>& ports) {
  Shape shape = Shape::ones(4);
  for (const PortUse& port : ports)
    for (int axis = 0; axis < 4; ++axis) shape.set(axis, std::max(shape[axis], port.type.shape[axis]));
  return shape;
}

void make_uniform(std::vector<PortUse>& ports) {
  const std::int64_t size = size_with_own_rows(ports);
  const Shape common = common_shape(ports);
  for (PortUse& port : ports) {
    if (size <= common.size())
      port.type.shape.set(1, size / port.type.shape.stride(1));
    else
      port.type.shape = common;
  }
}

// Only floats can be padded.
void check_padding(const std::vector<PortUse>& ports, const Profile& profile) {
  for (const PortUse& port : ports)
    if (!is_float(port.type.dtype) && port.shape != port.type.shape)
      fail("minimum-width (", profile.name, "): '", port.source, "' is ", port.source_type,
           ", which the engine wants as ", port.type,
           " and can pad floats only; give floats and cast inside");
}

void check_float(std::string_view name, const TensorType& type, const Profile& profile) {
  if (!is_float(type.dtype))
    fail("port-types (", profile.name, "): '", name, "' is ", type,
         ", the engine's inputs and outputs are floats; give floats and cast inside, or compute it on the "
         "host");
}

void shape_ports(std::vector<PortUse>& ports, const Profile& profile, std::string_view uniform) {
  widen(ports, profile);
  if (profile.has(uniform)) make_uniform(ports);
  check_padding(ports, profile);
  std::ranges::sort(ports, {}, &PortUse::name);
}

Slice unpadded(const Shape& shape) {
  Slice slice;
  for (const std::int64_t size : shape) slice.push_back({.count = size});
  return slice;
}

std::vector<std::int64_t> padding(const Shape& from, const Shape& to) {
  std::vector<std::int64_t> pad;
  for (int axis = 0; axis < from.rank(); ++axis) pad.insert(pad.end(), {0, to[axis] - from[axis]});
  return pad;
}

PortUse make_port(const std::string& name, const TensorType& type) {
  const Shape shape = four_axes(type.shape);
  return {.name = name, .source = name, .type = {type.dtype, shape}, .source_type = type, .shape = shape};
}

class PortRewrite {
 public:
  PortRewrite(const Graph& graph, const Profile& profile, std::span<const SplitOutput> splits,
              LegalProgram& program)
      : graph_(graph), program_(program), result_(graph.name()) {
    for (const NodeId id : graph.inputs())
      program_.inputs.push_back(make_port(graph.node(id).name, graph.node(id).type));
    shape_ports(program_.inputs, profile, "uniform-inputs");
    for (const Output& output : graph.outputs()) {
      program_.outputs.push_back(make_port(output.name, graph.node(output.node).type));
      program_.outputs.back().name = output_name(output.name);
      nodes_[program_.outputs.back().name] = output.node;
    }
    for (const SplitOutput& split : splits) place_in_source(split);
    shape_ports(program_.outputs, profile, "uniform-outputs");
  }

  Graph run() {
    for (const PortUse& port : program_.inputs) inputs_[port.name] = result_.input(port.name, port.type);
    const std::vector<bool> live = live_nodes(graph_);
    std::vector<Value> rebuilt(static_cast<std::size_t>(graph_.size()));
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_.node(id);
      if (!live[static_cast<std::size_t>(id)]) continue;
      std::vector<NodeId> ids;
      for (const NodeId input : node.inputs)
        ids.push_back(input == absent ? absent : rebuilt[static_cast<std::size_t>(input)].id);
      rebuilt[static_cast<std::size_t>(id)] =
          node.is("input") ? read_input(node) : result_.copy(node, std::move(ids));
    }
    for (const PortUse& port : program_.outputs)
      result_.output(port.name, written(port, rebuilt[static_cast<std::size_t>(nodes_.at(port.name))]));
    return std::move(result_);
  }

 private:
  void place_in_source(const SplitOutput& split) {
    PortUse& port = *std::ranges::find(program_.outputs, split.name, &PortUse::source);
    port.source = split.source;
    port.axis = split.axis;
    port.begin = split.begin;
    port.count = split.count;
  }

  // An output that is an input's new state needs a name of its own.
  std::string output_name(const std::string& name) const {
    const auto taken = [&](const std::string& candidate) {
      const auto is_output = [&](const Output& output) { return output.name == candidate; };
      const std::optional<NodeId> node = graph_.find(candidate);
      return (node && graph_.node(*node).is("input")) ||
             (candidate != name && std::ranges::any_of(graph_.outputs(), is_output));
    };
    std::string own = name;
    while (taken(own)) own += "_out";
    return own;
  }

  Value read_input(const Node& node) {
    const auto named = [&](const PortUse& port) { return port.name == node.name; };
    const PortUse& port = *std::ranges::find_if(program_.inputs, named);
    return reshaped(take(inputs_.at(port.name), unpadded(port.shape)), node.type.shape);
  }

  static Value written(const PortUse& port, Value value) {
    const Value whole = reshaped(value, port.shape);
    return port.shape == port.type.shape ? whole : ops::pad(whole, padding(port.shape, port.type.shape));
  }

  const Graph& graph_;
  LegalProgram& program_;
  Graph result_;
  std::map<std::string, Value> inputs_;  // by port
  std::map<std::string, NodeId> nodes_;  // by output port
};

}  // namespace

void check_port_types(const Graph& graph, const Profile& profile) {
  if (!profile.has("port-types")) return;
  for (const NodeId id : graph.inputs()) check_float(graph.node(id).name, graph.node(id).type, profile);
  for (const Output& output : graph.outputs())
    check_float(output.name, graph.node(output.node).type, profile);
}

//   %0 x: fp16 (8, 3) = input()
//   %1 = relu(x=%0)
//   -> y = %1
// becomes, where rows have at least 16 elements,
//   %0 x: fp16 (1, 8, 1, 16) = input()
//   %1 = slice_by_index(x=%0, end=[1, 8, 1, 3])
//   %2 = relu(x=reshape(x=%1, shape=[8, 3]))
//   -> y = pad(x=reshape(x=%2, shape=[1, 8, 1, 3]), pad=[..., 0, 13])
Graph legal_ports(const Graph& graph, const Profile& profile, std::span<const SplitOutput> splits,
                  LegalProgram& program) {
  return PortRewrite(graph, profile, splits, program).run();
}

//   -> y = %0      an input
//   -> z = %1      %1 = relu(x=%0)
//   -> w = %1
// becomes
//   -> y = add(x=%0, y=0)
//   -> z = %1
//   -> w = add(x=%1, y=0)
Graph own_results(const Graph& graph) {
  Graph owned(graph.name());
  for (const Node& node : graph.nodes()) owned.copy(node, node.inputs);
  std::set<NodeId> returned;
  for (const Output& output : graph.outputs()) {
    const Value value = owned.value(output.node);
    const bool is_fresh = !value.node().op->is_source() && returned.insert(value.id).second;
    owned.output(output.name, is_fresh ? value : ops::add(value, scalar_like(value, 0.0)));
  }
  return owned;
}

}  // namespace orion::ane
