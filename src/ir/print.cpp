#include "orion/error.h"
#include "orion/graph.h"
#include "orion/op.h"

#include <iomanip>
#include <limits>

namespace orion {
namespace {

constexpr std::int64_t shown_elements = 8;

void print_value(std::ostream& out, const Tensor& tensor) {
  const std::int64_t size = tensor.shape().size();
  if (size > shown_elements) {
    out << "[...]";
    return;
  }
  for (std::int64_t i = 0; i < size; ++i) out << (i > 0 ? ", " : "") << tensor.at(i);
}

struct PrintAttr {
  std::ostream& out;
  void operator()(bool value) const { out << (value ? "true" : "false"); }
  void operator()(std::int64_t value) const { out << value; }
  void operator()(double value) const {
    out << std::setprecision(std::numeric_limits<float>::max_digits10) << value;
  }
  void operator()(const std::string& value) const { out << '"' << value << '"'; }
  void operator()(const std::vector<std::int64_t>& values) const {
    out << '[';
    for (std::size_t i = 0; i < values.size(); ++i) out << (i > 0 ? ", " : "") << values[i];
    out << ']';
  }
};

void print_call(std::ostream& out, const Node& node) {
  const char* separator = "";
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == absent) continue;
    out << separator;
    if (i < node.op->args.size()) out << node.op->args[i].name << '=';
    out << '%' << node.inputs[i];
    separator = ", ";
  }
  for (std::size_t i = 0; i < node.attrs.size(); ++i) {
    if (node.op->attrs[i].fallback == node.attrs[i]) continue;
    out << separator << node.op->attrs[i].name << '=';
    std::visit(PrintAttr{out}, node.attrs[i]);
    separator = ", ";
  }
  if (!node.value.empty()) print_value(out, node.value);
}

}  // namespace

std::string to_text(const Graph& graph, std::span<const std::string> notes) {
  std::ostringstream out;
  out << "graph " << graph.name() << '\n';
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    out << "  %" << id << ' ' << node.name << ": " << node.type << " = " << node.op->name << '(';
    print_call(out, node);
    const auto i = static_cast<std::size_t>(id);
    out << ')' << (i < notes.size() && !notes[i].empty() ? "  # " + notes[i] : "") << '\n';
  }
  for (const Output& output : graph.outputs()) out << "  -> " << output.name << " = %" << output.node << '\n';
  return out.str();
}

}  // namespace orion
