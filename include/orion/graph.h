// A program as data: an append-only list of nodes, each using only earlier ones and giving one result.
#pragma once

#include "orion/tensor.h"

#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace orion {

struct OpDef;
class Graph;

using NodeId = std::int32_t;
inline constexpr NodeId absent = -1;  // an optional operand that was not given

/// bools and ints both use a vector of int64 for lists; the op table says which is meant.
using Attr = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>>;
using AttrMap = std::map<std::string, Attr, std::less<>>;

struct Node {
  const OpDef* op = nullptr;
  std::vector<NodeId> inputs = {};  // in the order of op->args (variadic ones last), `absent` if not given
  std::vector<Attr> attrs = {};     // in the order of op->attrs, complete and canonical
  TensorType type = {};             // of the one result
  std::string name = {};            // unique within the graph
  Tensor value = {};                // of a `const`; empty otherwise

  bool is(std::string_view op_name) const;
  const Attr& attr(std::string_view attr_name) const;
  bool flag(std::string_view attr_name) const { return std::get<bool>(attr(attr_name)); }
  std::int64_t integer(std::string_view attr_name) const { return std::get<std::int64_t>(attr(attr_name)); }
  double number(std::string_view attr_name) const { return std::get<double>(attr(attr_name)); }
  const std::string& text(std::string_view attr_name) const { return std::get<std::string>(attr(attr_name)); }
  const std::vector<std::int64_t>& list(std::string_view attr_name) const {
    return std::get<std::vector<std::int64_t>>(attr(attr_name));
  }
};

/// A node of a graph under construction. Cheap to copy; valid as long as the graph.
struct Value {
  Graph* graph = nullptr;
  NodeId id = absent;

  explicit operator bool() const { return id != absent; }
  /// The graph; Error if this value is empty.
  Graph& owner() const;
  const Node& node() const;
  const TensorType& type() const;
  const Shape& shape() const;
  DType dtype() const;
};

struct Output {
  std::string name;
  NodeId node;
};

/// A named input or output of a program, or a weight.
struct Port {
  std::string name;
  TensorType type;
};

class Graph {
 public:
  /// `name` is the function's name in MIL text: letters, digits and underscores.
  explicit Graph(std::string name = "main");

  // -- building ---------------------------------------------------------------------------------
  /// A run-time input. Inputs and outputs are the program's interface and are bound by name.
  Value input(std::string_view name, const TensorType& type);
  /// A named tensor that lives outside the graph and is given when a program is compiled. Any text
  /// without control characters or quotes may be its name (Hugging Face's names have dots).
  Value weight(std::string_view name, const TensorType& type);
  Value constant(Tensor value, std::string_view name = "");
  /// A scalar constant.
  Value scalar(DType dtype, double value) { return constant(Tensor::scalar(dtype, value)); }
  /// Appends one op; its type rule checks operands and completes attributes.
  Value add(const OpDef& op, std::vector<NodeId> inputs, std::vector<Attr> attrs, std::string_view name = "");
  /// The same by name, attributes left out taking their defaults.
  Value add(std::string_view op, const std::vector<Value>& inputs, const AttrMap& attrs = {},
            std::string_view name = "");
  /// Copies a node of another graph, its operands mapped to `inputs`.
  Value copy(const Node& node, std::vector<NodeId> inputs);
  /// Names a result of the program. An output may repeat an input's name if their types agree: it
  /// is then that input's new state, written in place by devices that can.
  void output(std::string_view name, Value value);

  // -- looking ----------------------------------------------------------------------------------
  const std::string& name() const { return name_; }
  NodeId size() const { return static_cast<NodeId>(nodes_.size()); }
  const Node& node(NodeId id) const { return nodes_[static_cast<std::size_t>(id)]; }
  const std::deque<Node>& nodes() const { return nodes_; }
  const std::vector<NodeId>& inputs() const { return inputs_; }
  const std::vector<Output>& outputs() const { return outputs_; }
  /// The node of that name, or none.
  std::optional<NodeId> find(std::string_view name) const;
  Value value(NodeId id) { return {this, id}; }
  /// Number of times each node is used, by nodes and as an output.
  std::vector<int> use_counts() const;

 private:
  Value append(Node node, std::string_view name);
  std::string unique_name(std::string_view base);

  std::string name_;
  std::deque<Node> nodes_;
  std::vector<NodeId> inputs_;
  std::vector<Output> outputs_;
  std::unordered_map<std::string, NodeId> by_name_;
  std::unordered_map<std::string, int> next_suffix_;
};

/// What a program of the graph has, in the graph's order.
std::vector<Port> input_ports(const Graph& graph);
std::vector<Port> output_ports(const Graph& graph);
std::vector<Port> weight_ports(const Graph& graph);

/// One line per node: `%3 relu: fp16 (1, 128, 1, 32) = relu(x=%2)`, with `  # note` after it where `notes`,
/// by node, has one.
std::string to_text(const Graph& graph, std::span<const std::string> notes = {});

/// Re-derives every node's type and checks names, order and interface; Error naming the first fault.
void verify(const Graph& graph);

/// True for MIL identifiers: [a-zA-Z_][a-zA-Z0-9_]*.
bool is_identifier(std::string_view name);

/// Extends `graph` with the gradient of `loss` (a scalar) with respect to each of `wrt`, in that
/// order. Composite ops without a gradient of their own must have been expanded (see passes.h).
/// A `wrt` that `loss` does not depend on gets zeros of its shape.
std::vector<Value> gradient(Graph& graph, Value loss, std::span<const Value> wrt);
/// The same for any values `of`, given the gradients `dy` of the loss with respect to them.
std::vector<Value> gradient(Graph& graph, std::span<const Value> of, std::span<const Value> dy,
                            std::span<const Value> wrt);

}  // namespace orion
