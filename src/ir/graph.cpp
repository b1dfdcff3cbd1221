#include "orion/graph.h"

#include "orion/error.h"
#include "orion/op.h"

#include <algorithm>

namespace orion {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

void check_identifier(std::string_view what, std::string_view name) {
  if (!is_identifier(name))
    fail(what, " name '", name, "': letters, digits and underscores only, no digit first");
}

void check_weight_name(std::string_view name) {
  const bool plain = std::ranges::all_of(
      name, [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\'; });
  if (name.empty() || !plain)
    fail("weight name '", name, "': some text without quotes, backslashes or control characters is needed");
}

std::vector<NodeId> ids_of(const Graph& graph, const OpDef& op, const std::vector<Value>& values) {
  std::vector<NodeId> ids;
  for (const Value& value : values) {
    if (value && value.graph != &graph) fail(op.name, ": an operand belongs to another graph");
    ids.push_back(value.id);
  }
  return ids;
}

void check_operands(const Graph& graph, const OpDef& op, const Node& node) {
  const std::size_t fixed = op.args.size() - (op.is_variadic() ? 1 : 0);
  if (node.inputs.size() < fixed || (!op.is_variadic() && node.inputs.size() > fixed))
    fail(op.name, ": ", node.inputs.size(), " operands given, ", op.args.size(), " expected");
  if (op.is_variadic() && node.inputs.size() == fixed) fail(op.name, ": ", op.args.back().name, " is empty");
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const ArgDef& arg = op.args[std::min(i, op.args.size() - 1)];
    if (node.inputs[i] == absent && arg.kind != ArgKind::optional)
      fail(op.name, ": operand ", arg.name, " is missing");
    if (node.inputs[i] < absent || node.inputs[i] >= graph.size())
      fail(op.name, ": operand ", arg.name, " is not a node of this graph");
  }
}

bool fits(AttrKind kind, const Attr& attr) {
  switch (kind) {
    case AttrKind::boolean:
      return std::holds_alternative<bool>(attr);
    case AttrKind::integer:
      return std::holds_alternative<std::int64_t>(attr);
    case AttrKind::number:
      return std::holds_alternative<double>(attr);
    case AttrKind::text:
      return std::holds_alternative<std::string>(attr);
    case AttrKind::booleans:
    case AttrKind::integers:
      return std::holds_alternative<std::vector<std::int64_t>>(attr);
  }
  return false;
}

std::string_view kind_name(AttrKind kind) {
  constexpr std::string_view kinds[] = {"bool", "int", "float", "str", "list of bool", "list of int"};
  return kinds[static_cast<std::size_t>(kind)];
}

Attr widened(AttrKind kind, const Attr& attr) {
  const std::int64_t* integer = std::get_if<std::int64_t>(&attr);
  if (kind == AttrKind::number && integer != nullptr) return static_cast<double>(*integer);
  if (kind == AttrKind::integers && integer != nullptr) return std::vector<std::int64_t>{*integer};
  return attr;
}

std::vector<Attr> ordered_attrs(const OpDef& op, const AttrMap& given) {
  for (const auto& [name, value] : given)
    if (!op.attr_index(name)) fail(op.name, ": no attribute '", name, "'");
  std::vector<Attr> attrs;
  for (const AttrDef& def : op.attrs) {
    const auto found = given.find(def.name);
    if (found == given.end() && !def.fallback) fail(op.name, ": attribute ", def.name, " is missing");
    attrs.push_back(found == given.end() ? *def.fallback : widened(def.kind, found->second));
    if (!fits(def.kind, attrs.back())) fail(op.name, ": ", def.name, " must be a ", kind_name(def.kind));
  }
  return attrs;
}

}  // namespace

bool is_identifier(std::string_view name) {
  return !name.empty() && is_letter(name[0]) &&
         std::ranges::all_of(name, [](char c) { return is_letter(c) || is_digit(c); });
}

bool Node::is(std::string_view op_name) const {
  return op->name == op_name;
}

const Attr& Node::attr(std::string_view attr_name) const {
  const std::optional<std::size_t> index = op->attr_index(attr_name);
  if (!index) fail(op->name, ": no attribute '", attr_name, "'");
  return attrs[*index];
}

Graph& Value::owner() const {
  if (graph == nullptr) fail("an operand is missing");
  return *graph;
}
const Node& Value::node() const {
  return graph->node(id);
}
const TensorType& Value::type() const {
  return node().type;
}
const Shape& Value::shape() const {
  return node().type.shape;
}
DType Value::dtype() const {
  return node().type.dtype;
}

Graph::Graph(std::string name) : name_(std::move(name)) {
  check_identifier("graph", name_);
}

Value Graph::input(std::string_view name, const TensorType& type) {
  check_identifier("input", name);
  if (by_name_.contains(std::string(name)))
    fail("input '", name, "': the graph already has a node of that name");
  const Value value = append({.op = &op("input"), .type = type}, name);
  inputs_.push_back(value.id);
  return value;
}

Value Graph::weight(std::string_view name, const TensorType& type) {
  check_weight_name(name);
  if (by_name_.contains(std::string(name)))
    fail("weight '", name, "': the graph already has a node of that name");
  return append({.op = &op("weight"), .type = type}, name);
}

Value Graph::constant(Tensor value, std::string_view name) {
  if (value.empty()) fail("const: no value given");
  const TensorType type = value.type();
  return append({.op = &op("const"), .type = type, .value = std::move(value)}, name);
}

Value Graph::add(const OpDef& op, std::vector<NodeId> inputs, std::vector<Attr> attrs,
                 std::string_view name) {
  if (op.is_source()) fail(op.name, ": made by Graph::input, Graph::weight or Graph::constant");
  Node node{.op = &op, .inputs = std::move(inputs), .attrs = std::move(attrs)};
  while (!op.is_variadic() && node.inputs.size() < op.args.size() &&
         op.args[node.inputs.size()].kind == ArgKind::optional)
    node.inputs.push_back(absent);
  check_operands(*this, op, node);
  node.type = op.infer(*this, node);
  return append(std::move(node), name);
}

Value Graph::add(std::string_view op_name, const std::vector<Value>& inputs, const AttrMap& attrs,
                 std::string_view name) {
  const OpDef& def = op(op_name);
  return add(def, ids_of(*this, def, inputs), ordered_attrs(def, attrs), name);
}

Value Graph::copy(const Node& node, std::vector<NodeId> inputs) {
  if (node.is("input")) return input(node.name, node.type);
  if (node.is("weight")) {
    // One weight, one node: copying it a second time gives the first.
    const std::optional<NodeId> existing = find(node.name);
    return existing && this->node(*existing).is("weight") ? value(*existing) : weight(node.name, node.type);
  }
  if (node.is("const")) return constant(node.value, node.name);
  return add(*node.op, std::move(inputs), node.attrs, node.name);
}

void Graph::output(std::string_view name, Value value) {
  check_identifier("output", name);
  if (value.graph != this || value.id < 0 || value.id >= size())
    fail("output '", name, "': the value belongs to another graph");
  for (const Output& output : outputs_)
    if (output.name == name) fail("output '", name, "' is given twice");
  const std::optional<NodeId> same = find(name);
  if (same && node(*same).is("input") && node(*same).type != value.type())
    fail("output '", name, "' is ", value.type(), " but the input of that name is ", node(*same).type);
  outputs_.push_back({std::string(name), value.id});
}

std::optional<NodeId> Graph::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<int> Graph::use_counts() const {
  std::vector<int> counts(nodes_.size(), 0);
  for (const Node& node : nodes_)
    for (const NodeId input : node.inputs)
      if (input != absent) ++counts[static_cast<std::size_t>(input)];
  for (const Output& output : outputs_) ++counts[static_cast<std::size_t>(output.node)];
  return counts;
}

Value Graph::append(Node node, std::string_view name) {
  if (!name.empty() && !node.is("weight")) check_identifier("node", name);
  node.name = unique_name(name.empty() ? node.op->name : name);
  const NodeId id = size();
  by_name_.emplace(node.name, id);
  nodes_.push_back(std::move(node));
  return {this, id};
}

std::string Graph::unique_name(std::string_view base) {
  std::string name(base);
  if (!by_name_.contains(name)) return name;
  int& suffix = next_suffix_[name];
  do {
    name = str(base, '_', suffix++);
  } while (by_name_.contains(name));
  return name;
}

}  // namespace orion
