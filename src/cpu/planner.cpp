#include "cpu/planner.h"

#include "cpu/chains.h"
#include "orion/error.h"
#include "orion/passes.h"

#include <algorithm>

namespace orion::cpu {
namespace {

std::size_t index(NodeId id) {
  return static_cast<std::size_t>(id);
}

std::size_t bytes_of(const TensorType& type, DType memory) {
  return static_cast<std::size_t>(type.shape.size()) * dtype_size(memory);
}

// A transpose that only moves axes of size 1 leaves the elements where they are.
bool moves_nothing(const Node& node, const Shape& from) {
  std::int64_t previous = -1;
  for (const std::int64_t axis : node.list("perm")) {
    if (from[static_cast<int>(axis)] == 1) continue;
    if (axis < previous) return false;
    previous = axis;
  }
  return true;
}

std::function<void(const Run&)> copy_step(Slot from, Slot to, std::size_t bytes) {
  return [=](const Run& run) { std::copy_n(run.at<std::byte>(from), bytes, run.at<std::byte>(to)); };
}

}  // namespace

bool is_view(const Graph& graph, const Node& node) {
  if (node.is("identity") || node.is("reshape")) return true;
  if (node.is("transpose")) return moves_nothing(node, graph.node(node.inputs[0]).type.shape);
  // Narrowing rounds; widening fp16 changes nothing, since fp16 values already live in fp32.
  if (node.is("cast"))
    return node.type.dtype == DType::fp32 && graph.node(node.inputs[0]).type.dtype == DType::fp16;
  return false;
}

Planner::Planner(Plan& plan) : plan_(plan) {
  const auto size = index(graph().size());
  located_.resize(size);
  moved_.resize(size);
  widened_.resize(size, no_slot);
  fused_into_.resize(size, absent);
  users_.resize(size);
  for (NodeId id = 0; id < graph().size(); ++id) {
    roots_.push_back(is_view(graph(), node(id)) ? roots_[index(node(id).inputs[0])] : id);
    for (const NodeId input : node(id).inputs)
      if (input != absent) users_[index(input)].push_back(id);
  }
}

void Planner::build() {
  locate_sources();
  lower_all();
  write_outputs();
  plan_.arena_bytes = lay_out_arena(plan_.steps, plan_.places);
  for (const Step& step : plan_.steps) plan_.scratch_bytes = std::max(plan_.scratch_bytes, step.scratch);
}

Slot Planner::wide(NodeId id) {
  const Located where = stored(id);
  if (where.rounded) fail("cpu: ", node(id).name, " is kept as bfloat16");
  if (where.dtype != DType::fp16) return where.slot;
  Slot& copy = widened_[index(id)];
  if (copy != no_slot) return copy;
  const std::int64_t count = shape(id).size();
  copy = new_arena_place(bytes_of(node(id).type, DType::fp32));
  const Slot to = copy;
  add_step({.label = str("widen ", node(id).name),
            .reads = {where.slot},
            .writes = to,
            .run = [=](const Run& run) {
              widen(run.pool, run.at<std::uint16_t>(where.slot), run.at<float>(to), count);
            }});
  return to;
}

Located Planner::stored(NodeId id) {
  if (is_fixed(id)) {
    Located& where = located_[index(id)];
    if (where.slot == no_slot) {
      const void* address = store(id).rows(fixed_name(id), Form::wide);
      where = {new_place({.kind = Place::Kind::fixed, .fixed = address}), memory_dtype(node(id).type.dtype)};
    }
    return where;
  }
  if (moved_[index(id)]) compute(id);
  const Located where = located_[index(id)];
  if (where.slot == no_slot) fail("cpu: ", node(id).name, " is read before it is computed");
  return where;
}

bool Planner::is_stored_in_halves(NodeId id) const {
  return located_[index(id)].dtype == DType::fp16;
}

LocatedRows Planner::rows(NodeId id) {
  const std::optional<Moved>& moved = moved_[index(id)];
  if (!moved || moved->strides.steps.back() != 1) {
    const Shape& x = shape(id);
    return {.slot = wide(id), .rows = dense_rows(x[1], x[2], x[3])};
  }
  const std::vector<std::int64_t>& steps = moved->strides.steps;
  return {wide(moved->source), moved->strides.offset, {steps[0], steps[1], steps[2]}, false};
}

// Whether nothing overwrites the value, and it is neither kept packed nor in halves, which are widened whole.
bool Planner::stays(NodeId id) const {
  const Node& source = node(root(id));
  if (!source.op->is_source()) return true;
  return source.is("input") && source.type.dtype != DType::fp16 &&
         std::ranges::find(graph().outputs(), source.name, &Output::name) == graph().outputs().end();
}

// Slices, transposes and axes split are put off: who takes strides reads them where they are.
bool Planner::move_later(NodeId id) {
  const Node& n = node(id);
  if (n.inputs.empty() || !is_float(n.type.dtype)) return false;
  const NodeId operand = n.inputs[0];
  if (!stays(operand) || node(operand).type.dtype != n.type.dtype) return false;
  const std::optional<Moved>& before = moved_[index(operand)];
  auto strides = moved(n, shape(operand), before ? before->strides : dense_strides(shape(operand)));
  if (!strides) return false;
  moved_[index(id)] = {before ? before->source : operand, std::move(*strides)};
  return true;
}

void Planner::compute(NodeId id) {
  moved_[index(id)].reset();
  if (is_view(graph(), node(id)))
    alias(id, node(id).inputs[0]);
  else
    lower(*this, id);
}

bool Planner::is_fixed(NodeId id) const {
  const Node& source = node(root(id));
  return source.is("weight") || source.is("const");
}

Panels Planner::panels(NodeId id, Form form) {
  const auto reads_rows = [&](const Node& user) {
    return user.is("gather") && root(user.inputs[0]) == root(id);
  };
  return store(id).panels(fixed_name(id), form, std::ranges::any_of(graph().nodes(), reads_rows));
}

bool Planner::has_panels(NodeId id, Form form) const {
  return store(id).has(fixed_name(id), form);
}

Located Planner::natural(NodeId id) {
  const DType dtype = node(root(id)).type.dtype;
  return {new_place({.kind = Place::Kind::fixed, .fixed = store(id).rows(fixed_name(id), Form::natural)}),
          dtype};
}

Slot Planner::result(NodeId id) {
  const DType memory = memory_dtype(node(id).type.dtype);
  const Slot slot = new_arena_place(bytes_of(node(id).type, memory));
  locate(id, {slot, memory});
  return slot;
}

Located Planner::result_or_rounded(NodeId id, bool can_round) {
  if (can_round && shape(id).back() % 2 == 0 && only_rounded(id))
    locate(id, {new_arena_place(bytes_of(node(id).type, DType::fp16)), DType::fp32, true});
  else
    result(id);
  return located_[index(id)];
}

bool Planner::only_rounded(NodeId id) {
  return !is_output(id) && !users(id).empty() && std::ranges::all_of(users(id), [&](NodeId user) {
    return is_view(graph(), node(user)) ? only_rounded(user) : reads_rounded(*this, node(user), id);
  });
}

Slot Planner::result_over(NodeId id, NodeId over) {
  const NodeId state = state_of(id, over);
  if (state == absent || node(state).type.dtype != node(id).type.dtype || node(id).type.dtype == DType::fp16)
    return result(id);
  locate(id, stored(state));
  return stored(state).slot;
}

void Planner::alias(NodeId id, NodeId operand) {
  if (!is_fixed(operand)) locate(id, stored(operand));
}

void Planner::add_step(Step step) {
  plan_.steps.push_back(std::move(step));
}

NodeId Planner::only_user(NodeId id) const {
  return users(id).size() == 1 && !is_output(id) ? users(id).front() : absent;
}

bool Planner::is_output(NodeId id) const {
  return std::ranges::any_of(graph().outputs(), [&](const Output& output) { return output.node == id; });
}

NodeId Planner::state_of(NodeId id, NodeId operand) const {
  const NodeId input = root(operand);
  if (!node(input).is("input")) return absent;
  bool is_state = false;
  for (const Output& output : graph().outputs()) {
    if (output.node == id && output.name == node(input).name) is_state = true;
    if (output.node != id && root(output.node) == input) return absent;
  }
  for (NodeId other = 0; other < graph().size(); ++other)
    if (other != id && emitted_with(other) >= emitted_with(id))
      for (const NodeId read : node(other).inputs)
        if (read != absent && root(read) == input) return absent;
  return is_state ? input : absent;
}

NodeId Planner::emitted_with(NodeId id) const {
  while (is_fused(id) && fused_into_[index(id)] != id) id = fused_into_[index(id)];
  return id;
}

CpuWeights& Planner::store(NodeId id) const {
  return node(root(id)).is("const") ? *plan_.constants : *plan_.weights;
}

std::string Planner::fixed_name(NodeId id) const {
  return node(root(id)).name;
}

NodeId Planner::root(NodeId id) const {
  return roots_[index(id)];
}

Slot Planner::new_place(Place place) {
  plan_.places.push_back(place);
  return static_cast<Slot>(plan_.places.size()) - 1;
}

void Planner::locate_sources() {
  for (const NodeId id : graph().inputs()) {
    const Place place{.kind = Place::Kind::input, .port = static_cast<int>(plan_.inputs.size())};
    plan_.inputs.push_back({node(id).name, node(id).type});
    input_slots_[id] = new_place(place);
    locate(id, {input_slots_[id], node(id).type.dtype});
  }
  TensorMap constants;
  for (const Node& n : graph().nodes()) {
    if (n.is("weight")) plan_.weights->require(n.name, n.type);
    if (n.is("const")) constants[n.name] = n.value;
  }
  plan_.constants = std::make_shared<CpuWeights>(constants);
}

void Planner::lower_all() {
  std::map<NodeId, Product> products;  // by the node they compute
  for (const Product& product : find_products(*this)) products[product.last] = product;
  std::map<NodeId, Chain> chains;  // by their last node
  for (Chain& chain : find_chains(*this)) chains[chain.nodes.back()] = std::move(chain);
  for (NodeId id = 0; id < graph().size(); ++id) {
    if (node(id).op->is_source()) continue;
    if (const auto product = products.find(id); product != products.end())
      lower_product(*this, product->second);
    else if (const auto chain = chains.find(id); chain != chains.end())
      lower_chain(*this, chain->second);
    else if (!is_fused(id) && !move_later(id))
      compute(id);
  }
}

bool Planner::is_state(const Output& output) const {
  const std::optional<NodeId> input = graph().find(output.name);
  return input && node(*input).is("input");
}

// Results before new states, since a result may be a state's old value; and states that are other
// states' old values are set aside before the first is overwritten.
void Planner::write_outputs() {
  const std::vector<Output>& outputs = graph().outputs();
  for (const Output& output : outputs) plan_.outputs.push_back({output.name, node(output.node).type});
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (!is_state(outputs[i])) write_output(static_cast<int>(i), outputs[i]);
  for (const Output& output : outputs)
    if (is_state(output) && node(root(output.node)).is("input")) locate(output.node, staged(output.node));
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (is_state(outputs[i])) write_output(static_cast<int>(i), outputs[i]);
}

void Planner::write_output(int port, const Output& output) {
  const TensorType& type = node(output.node).type;
  const bool halves = type.dtype == DType::fp16;
  const Located from = halves ? stored(output.node) : Located{wide(output.node), type.dtype};
  const Slot state = is_state(output) ? input_slots_.at(*graph().find(output.name)) : no_slot;
  if (from.slot == state) return;  // updated in place
  Place& place = plan_.places[static_cast<std::size_t>(from.slot)];
  if (state == no_slot && place.kind == Place::Kind::arena && from.dtype == type.dtype) {
    place.kind = Place::Kind::output;  // computed where the caller wants it
    place.port = port;
    return;
  }
  const Slot to = state != no_slot ? state : new_place({.kind = Place::Kind::output, .port = port});
  Step step{.label = str("output ", output.name), .reads = {from.slot}, .writes = to, .run = {}};
  if (from.dtype == type.dtype)
    step.run = copy_step(from.slot, to, type.bytes());
  else
    step.run = [=, count = type.shape.size()](const Run& run) {
      narrow(run.pool, run.at<float>(from.slot), run.at<std::uint16_t>(to), count);
    };
  add_step(std::move(step));
}

Located Planner::staged(NodeId id) {
  const Located from = stored(id);
  const std::size_t bytes = bytes_of(node(id).type, from.dtype);
  const Slot to = new_arena_place(bytes);
  add_step({.label = str("stage ", node(id).name),
            .reads = {from.slot},
            .writes = to,
            .run = copy_step(from.slot, to, bytes)});
  return {to, from.dtype};
}

std::unique_ptr<Plan> make_plan(const Graph& graph, std::shared_ptr<CpuWeights> weights) {
  auto plan =
      std::make_unique<Plan>(Plan{.graph = optimize(join_padded(graph)), .weights = std::move(weights)});
  if (plan->graph.outputs().empty()) fail("compile: graph ", graph.name(), " has no output");
  Planner(*plan).build();
  return plan;
}

}  // namespace orion::cpu
