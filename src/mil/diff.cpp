// What differs between two graphs, found from their outputs down.
#include "orion/error.h"
#include "orion/mil.h"
#include "orion/op.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

namespace orion::mil {
namespace {

std::string attr_text(const Attr& attr) {
  if (const auto* flag = std::get_if<bool>(&attr)) return *flag ? "true" : "false";
  if (const auto* integer = std::get_if<std::int64_t>(&attr)) return str(*integer);
  if (const auto* number = std::get_if<double>(&attr)) return str(*number);
  if (const auto* text = std::get_if<std::string>(&attr)) return '"' + *text + '"';
  std::string list;
  for (const std::int64_t item : std::get<std::vector<std::int64_t>>(attr))
    list += str(list.empty() ? "" : ", ", item);
  return '[' + list + ']';
}

bool same_attr(const Attr& a, const Attr& b) {
  const auto* x = std::get_if<double>(&a);
  const auto* y = std::get_if<double>(&b);
  if (x != nullptr && y != nullptr && std::isnan(*x) && std::isnan(*y)) return true;
  return a == b;
}

// Bit for bit, except that MIL text knows one NaN only.
std::optional<std::int64_t> first_difference(const Tensor& a, const Tensor& b) {
  if (a.identical(b)) return std::nullopt;
  for (std::int64_t i = 0; i < a.shape().size(); ++i) {
    const double x = a.at(i);
    const double y = b.at(i);
    const bool same = x == y ? std::signbit(x) == std::signbit(y) : std::isnan(x) && std::isnan(y);
    if (!same) return i;
  }
  return std::nullopt;
}

class Comparison {
 public:
  Comparison(const Graph& a, const Graph& b)
      : a_(a),
        b_(b),
        partner_in_b_(static_cast<std::size_t>(a.size()), absent),
        partner_in_a_(static_cast<std::size_t>(b.size()), absent) {}

  std::vector<std::string> run() {
    compare_inputs();
    compare_outputs();
    while (!open_.empty()) {
      const Pair pair = open_.back();
      open_.pop_back();
      compare(pair);
    }
    return std::move(lines_);
  }

 private:
  struct Pair {
    NodeId a;
    NodeId b;
    std::string where;
  };

  template <class... Parts>
  void report(const Parts&... parts) {
    lines_.push_back(str(parts...));
  }

  void compare_inputs() {
    std::vector<std::string> names_a;
    std::vector<std::string> names_b;
    for (const NodeId id : a_.inputs()) names_a.push_back(a_.node(id).name);
    for (const NodeId id : b_.inputs()) names_b.push_back(b_.node(id).name);
    if (compare_names("input", names_a, names_b)) return;
    for (std::size_t i = 0; i < names_a.size(); ++i) {
      const TensorType& a = a_.node(a_.inputs()[i]).type;
      const TensorType& b = b_.node(*b_.find(names_a[i])).type;
      if (a != b) report("input ", names_a[i], ": ", a, " against ", b);
    }
  }

  void compare_outputs() {
    std::vector<std::string> names_a;
    std::vector<std::string> names_b;
    for (const Output& output : a_.outputs()) names_a.push_back(output.name);
    for (const Output& output : b_.outputs()) names_b.push_back(output.name);
    compare_names("output", names_a, names_b);
    for (const Output& output : a_.outputs()) {
      const auto same = std::ranges::find(b_.outputs(), output.name, &Output::name);
      if (same != b_.outputs().end()) open_.push_back({output.node, same->node, "output " + output.name});
    }
    std::ranges::reverse(open_);  // so that the first output is looked at first
  }

  // True if it found a difference in the sets of names.
  bool compare_names(std::string_view what, const std::vector<std::string>& a,
                     const std::vector<std::string>& b) {
    const std::size_t before = lines_.size();
    for (const std::string& name : a)
      if (std::ranges::find(b, name) == b.end()) report(what, " ", name, ": only in the first");
    for (const std::string& name : b)
      if (std::ranges::find(a, name) == a.end()) report(what, " ", name, ": only in the second");
    const bool differ = lines_.size() > before;
    if (!differ && a != b) report(what, "s: in another order");
    return differ;
  }

  // A node of one graph stands for exactly one node of the other.
  void compare(const Pair& pair) {
    NodeId& in_b = partner_in_b_[static_cast<std::size_t>(pair.a)];
    NodeId& in_a = partner_in_a_[static_cast<std::size_t>(pair.b)];
    if (in_b == pair.b && in_a == pair.a) return;
    const Node& a = a_.node(pair.a);
    const Node& b = b_.node(pair.b);
    const std::string where = str(pair.where, ": ");
    if (in_b != absent || in_a != absent)
      return report(where, "one node (", (in_b != absent ? a : b).name, ") against several");
    in_b = pair.b;
    in_a = pair.a;
    if (a.op != b.op)
      return report(where, a.op->name, " (", a.name, ") against ", b.op->name, " (", b.name, ")");
    if (a.type != b.type) report(where, a.op->name, " of ", a.type, " against ", b.type);
    if (a.op->is_source())
      compare_sources(where, a, b);
    else
      compare_operations(pair.where, a, b);
  }

  void compare_sources(const std::string& where, const Node& a, const Node& b) {
    if (!a.is("const") && a.name != b.name)
      return report(where, a.op->name, " ", a.name, " against ", b.name);
    if (!a.is("const") || a.type != b.type) return;
    const std::optional<std::int64_t> index = first_difference(a.value, b.value);
    if (index)
      report(where, "const (", a.name, "): element ", *index, " is ", a.value.at(*index), " against ",
             b.value.at(*index));
  }

  void compare_operations(const std::string& where, const Node& a, const Node& b) {
    for (std::size_t i = 0; i < a.attrs.size(); ++i)
      if (!same_attr(a.attrs[i], b.attrs[i]))
        report(where, ": ", a.op->name, " (", a.name, ") has ", a.op->attrs[i].name, " ",
               attr_text(a.attrs[i]), " against ", attr_text(b.attrs[i]));
    if (a.inputs.size() != b.inputs.size())
      return report(where, ": ", a.op->name, " (", a.name, ") has ", a.inputs.size(), " operands against ",
                    b.inputs.size());
    for (std::size_t i = a.inputs.size(); i-- > 0;) compare_operand(where, a, b, i);
  }

  void compare_operand(const std::string& where, const Node& a, const Node& b, std::size_t i) {
    const std::string_view arg = a.op->args[std::min(i, a.op->args.size() - 1)].name;
    if ((a.inputs[i] == absent) != (b.inputs[i] == absent))
      return report(where, ": ", a.op->name, " (", a.name, ") has ", a.inputs[i] == absent ? "no " : "", arg,
                    " against ", b.inputs[i] == absent ? "none" : "one");
    if (a.inputs[i] != absent)
      open_.push_back({a.inputs[i], b.inputs[i], str(output_of(where), ", ", arg, " of ", a.name)});
  }

  // "output y" of "output y, x of mul": a place is given by its output and its user.
  static std::string_view output_of(std::string_view where) { return where.substr(0, where.find(',')); }

  const Graph& a_;
  const Graph& b_;
  std::vector<NodeId> partner_in_b_;  // by node of a
  std::vector<NodeId> partner_in_a_;  // by node of b
  std::vector<Pair> open_;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> diff(const Graph& a, const Graph& b) {
  return Comparison(a, b).run();
}

}  // namespace orion::mil
