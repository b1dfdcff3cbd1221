// The op table: everything the project knows about an op is in its one OpDef.
#pragma once

#include "orion/graph.h"

namespace orion {

enum class ArgKind : std::uint8_t { required, optional, variadic };

struct ArgDef {
  std::string_view name;
  ArgKind kind = ArgKind::required;
};

enum class AttrKind : std::uint8_t { boolean, integer, number, text, booleans, integers };

struct AttrDef {
  std::string_view name;
  AttrKind kind;
  std::optional<Attr> fallback = std::nullopt;  // none: the attribute must be given
  bool in_mil = true;                           // false: MIL text has no such argument
};

/// A dense array handed to a kernel. fp16 values arrive widened to fp32 memory: `dtype` is what is in
/// memory, never fp16 in the table's own kernels.
struct View {
  void* data = nullptr;  // null: an optional operand that was not given
  DType dtype = DType::fp32;
  Shape shape;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

struct KernelCall {
  const Node& node;
  std::span<const View> in;
  View out;
};

struct GradientCall {
  Graph& graph;
  Node node;              // a copy: the graph grows while the rule runs
  std::vector<Value> in;  // operands; empty Value where absent
  Value out;              // the node's own result
  Value dy;               // gradient of the loss with respect to `out`, same type as `out`
};

struct ExpandCall {
  Graph& graph;
  const Node& node;
  std::vector<Value> in;
};

struct OpDef {
  std::string_view name;
  std::string_view doc;  // first line: a sentence. Formulas, shapes and sources after it
  std::vector<ArgDef> args = {};
  std::vector<AttrDef> attrs = {};

  /// Result type from operand types. Checks operands and brings attributes to their canonical form
  /// (axes non-negative, floats rounded to the operand's dtype). Errors start with the op's name.
  TensorType (*infer)(const Graph&, Node&) = nullptr;
  /// The obviously right implementation, in fp32, single-threaded. Constant folding runs it, devices
  /// fall back on it, tests compare everything else with it.
  void (*kernel)(const KernelCall&) = nullptr;
  /// Gradients with respect to each operand (empty Value: none flows). Null: expand first, or not
  /// differentiable if `expand` is null too.
  std::vector<Value> (*gradient)(const GradientCall&) = nullptr;
  /// The same thing in simpler ops.
  Value (*expand)(const ExpandCall&) = nullptr;
  /// Whether MIL has this op with these attributes. Null: always.
  bool (*in_mil)(const Graph&, const Node&) = nullptr;
  /// Result element i depends only on operand elements i (after broadcasting).
  bool elementwise = false;

  bool is_source() const { return infer == nullptr; }  // input, weight, const
  bool is_variadic() const { return !args.empty() && args.back().kind == ArgKind::variadic; }
  std::optional<std::size_t> attr_index(std::string_view attr) const;
};

/// Every op, in documentation order.
std::span<const OpDef* const> all_ops();
/// Null if there is none of that name.
const OpDef* find_op(std::string_view name);
/// Error listing near misses if there is none of that name.
const OpDef& op(std::string_view name);

/// Computes one node from the values of its operands (by the table's kernel; fp16 operands are
/// widened, an fp16 result is rounded once).
Tensor evaluate(const Node& node, std::span<const Tensor> operands);
/// Runs a whole graph the same way, one node after the other, every fp16 result rounded. Slow and
/// obviously right: what devices are compared with. Returns the outputs by name.
TensorMap evaluate(const Graph& graph, const TensorMap& inputs, const TensorMap& weights = {});

}  // namespace orion
