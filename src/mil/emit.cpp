// Graph -> MIL text.
#include "base/number.h"
#include "mil/lowered.h"
#include "mil/names.h"
#include "mil/syntax.h"
#include "orion/error.h"
#include "orion/op.h"

#include <algorithm>
#include <limits>
#include <map>

namespace orion::mil {
namespace {

// The compiler wants the keys; the versions are those of coremltools 9.
constexpr std::string_view header =
    "program(1.3)\n"
    "[buildInfo = dict<string, string>({{\"coremlc-component-MIL\", \"3510.2.1\"}, "
    "{\"coremlc-version\", \"3505.4.1\"}, {\"coremltools-component-milinternal\", \"\"}, "
    "{\"coremltools-version\", \"9.0\"}})]\n"
    "{\n";
constexpr std::string_view indent = "            ";

std::string string_literal(std::string_view text) {
  const auto needs_escape = [](char c) {
    return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
  };
  if (std::ranges::any_of(text, needs_escape)) fail("MIL text: the string '", text, "' cannot be written");
  return str("string(\"", text, "\")");
}

std::string element_text(DType dtype, double value) {
  if (dtype == DType::boolean) return value != 0 ? "true" : "false";
  return is_float(dtype) ? hex_float(value) : std::to_string(static_cast<std::int64_t>(value));
}

// [[a, b], [c, d]]: a list per axis from `axis` on, `next` walks the elements.
std::string list_text(const Tensor& tensor, int axis, std::int64_t& next) {
  if (axis == tensor.shape().rank()) return element_text(tensor.dtype(), tensor.at(next++));
  std::string text = "[";
  for (std::int64_t i = 0; i < tensor.shape()[axis]; ++i)
    text += (i > 0 ? ", " : "") + list_text(tensor, axis + 1, next);
  return text + "]";
}

std::string literal(const Tensor& tensor) {
  std::int64_t next = 0;
  return str(type_text(tensor.type()), '(', list_text(tensor, 0, next), ')');
}

std::string blob_literal(const BlobEntry& entry) {
  return str(type_text(entry.type), "(BLOBFILE(path = string(\"@model_path/", weight_file,
             "\"), offset = uint64(", std::to_string(entry.offset), ")))");
}

struct Typed {
  std::string type;
  std::string literal;
};

Typed typed(const Tensor& tensor) {
  return {type_text(tensor.type()), literal(tensor)};
}

std::int32_t narrowed(const Node& node, std::int64_t value) {
  if (value < std::numeric_limits<std::int32_t>::min() || value > std::numeric_limits<std::int32_t>::max())
    fail(node.op->name, ": node '", node.name, "' has the attribute value ", value, ", beyond MIL's int32");
  return static_cast<std::int32_t>(value);
}

// MIL wants epsilon, alpha and the like in the type of what they are applied to.
DType number_type(const Graph& graph, const Node& node) {
  std::optional<DType> first;
  for (const NodeId input : node.inputs) {
    if (input == absent) continue;
    const DType dtype = graph.node(input).type.dtype;
    if (is_float(dtype)) return dtype;
    if (!first) first = dtype;
  }
  return first.value_or(DType::fp32);
}

Tensor list_tensor(const Node& node, AttrKind kind, const std::vector<std::int64_t>& values) {
  const DType dtype = kind == AttrKind::booleans ? DType::boolean : DType::int32;
  const Tensor tensor(TensorType{dtype, {static_cast<std::int64_t>(values.size())}});
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::boolean)
      tensor.as<std::uint8_t>()[i] = values[i] != 0;
    else
      tensor.as<std::int32_t>()[i] = narrowed(node, values[i]);
  }
  return tensor;
}

Typed attr_literal(const Graph& graph, const Node& node, std::size_t index) {
  const AttrKind kind = node.op->attrs[index].kind;
  const Attr& attr = node.attrs[index];
  switch (kind) {
    case AttrKind::boolean:
      return typed(Tensor::scalar(DType::boolean, std::get<bool>(attr) ? 1 : 0));
    case AttrKind::integer:
      return typed(Tensor::scalar(DType::int32, narrowed(node, std::get<std::int64_t>(attr))));
    case AttrKind::number:
      return typed(Tensor::scalar(number_type(graph, node), std::get<double>(attr)));
    case AttrKind::text:
      return {"string", string_literal(std::get<std::string>(attr))};
    case AttrKind::booleans:
    case AttrKind::integers:
      break;
  }
  return typed(list_tensor(node, kind, std::get<std::vector<std::int64_t>>(attr)));
}

// An empty list stands for MIL's own default.
bool is_left_out(const Attr& attr) {
  const auto* list = std::get_if<std::vector<std::int64_t>>(&attr);
  return list != nullptr && list->empty();
}

// MIL's reshape does not give scalars, its squeeze does.
bool is_squeeze(const Node& node) {
  return node.is("reshape") && node.type.shape.rank() == 0;
}

class Emitter {
 public:
  explicit Emitter(const Graph& graph) : graph_(graph), variables_(static_cast<std::size_t>(graph.size())) {
    for (BlobEntry& entry : blob_entries_of_lowered(graph)) blobs_.emplace(entry.name, std::move(entry));
    name_variables();
  }

  std::string run() {
    out_ << header << "    func " << graph_.name() << "<ios18>(";
    const char* separator = "";
    for (const NodeId id : graph_.inputs()) {
      out_ << separator << type_text(graph_.node(id).type) << ' ' << variable(id);
      separator = ", ";
    }
    out_ << ") {\n";
    for (NodeId id = 0; id < graph_.size(); ++id) statement(id);
    out_ << "        } -> (";
    separator = "";
    for (const Output& output : graph_.outputs()) {
      out_ << separator << variable(output.node);
      separator = ", ";
    }
    out_ << ");\n}\n";
    return out_.str();
  }

 private:
  std::string& variable(NodeId id) { return variables_[static_cast<std::size_t>(id)]; }

  // Outputs first, then nodes: both are what they are called. Weights get what is left.
  void name_variables() {
    for (const Output& output : graph_.outputs()) variable(output.node) = output.name;
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (graph_.node(id).is("weight")) continue;
      if (variable(id).empty()) variable(id) = graph_.node(id).name;
      names_.take(variable(id));
    }
    for (NodeId id = 0; id < graph_.size(); ++id)
      if (graph_.node(id).is("weight"))
        variable(id) = names_.unique_inner(identifier_from(graph_.node(id).name));
  }

  void statement(NodeId id) {
    const Node& node = graph_.node(id);
    if (node.is("input")) return;
    if (is_blob(node)) {
      const std::string& label = node.is("weight") ? node.name : variable(id);
      return constant(type_text(node.type), variable(id), label, blob_literal(blobs_.at(node.name)));
    }
    if (node.is("const"))
      return constant(type_text(node.type), variable(id), variable(id), literal(node.value));
    operation(id, node);
  }

  void constant(std::string_view type, std::string_view name, std::string_view label,
                std::string_view value) {
    out_ << indent << type << ' ' << name << " = const()[name = " << string_literal(label)
         << ", val = " << value << "];\n";
  }

  void operation(NodeId id, const Node& node) {
    std::map<std::string_view, std::string> arguments = operands(node);
    for (std::size_t i = 0; i < node.attrs.size(); ++i) {
      if (!node.op->attrs[i].in_mil || is_left_out(node.attrs[i])) continue;
      const Typed value = attr_literal(graph_, node, i);
      const std::string name = names_.unique(str(variable(id), '_', node.op->attrs[i].name, "_0"));
      constant(value.type, name, name, value.literal);
      arguments.emplace(node.op->attrs[i].name, name);
    }
    out_ << indent << type_text(node.type) << ' ' << variable(id) << " = "
         << (is_squeeze(node) ? "squeeze" : node.op->name) << '(';
    const char* separator = "";
    for (const auto& [name, value] : arguments) {
      out_ << separator << name << " = " << value;
      separator = ", ";
    }
    out_ << ")[name = " << string_literal(variable(id)) << "];\n";
  }

  std::map<std::string_view, std::string> operands(const Node& node) {
    std::map<std::string_view, std::string> arguments;
    const std::vector<ArgDef>& args = node.op->args;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == absent) continue;
      const ArgDef& arg = args[std::min(i, args.size() - 1)];
      std::string& text = arguments[arg.name];
      if (arg.kind == ArgKind::variadic) text += text.empty() ? "(" : ", ";
      text += variable(node.inputs[i]);
    }
    if (node.op->is_variadic()) arguments[args.back().name] += ")";
    return arguments;
  }

  const Graph& graph_;
  std::vector<std::string> variables_;  // by node
  std::map<std::string, BlobEntry> blobs_;
  Names names_;
  std::ostringstream out_;
};

}  // namespace

std::string emit_lowered(const Graph& graph) {
  return Emitter(graph).run();
}

std::string emit(const Graph& graph) {
  return emit_lowered(lower_to_mil(graph));
}

}  // namespace orion::mil
