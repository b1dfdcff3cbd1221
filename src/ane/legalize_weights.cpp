// Weights in the layouts that the engine wants: the legal graph's weights are forms of the original's.
#include "ane/legalize_passes.h"
#include "base/narrow.h"
#include "base/threads.h"
#include "ir/rewrite.h"
#include "ops/rules.h"
#include "orion/op.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>

namespace orion::ane {
namespace {

bool is_view(const Node& node) {
  return node.is("reshape") || node.is("transpose") || node.is("slice_by_index");
}

// The weight that `id` is a view of, and the nodes between, outermost last; no source if it is none.
struct Chain {
  const Node* source = nullptr;
  std::vector<Node> steps;
};

Chain chain_of(const Graph& graph, NodeId id) {
  Chain chain;
  while (is_view(graph.node(id))) {
    chain.steps.push_back(graph.node(id));
    id = graph.node(id).inputs[0];
  }
  std::ranges::reverse(chain.steps);
  if (graph.node(id).is("weight")) chain.source = &graph.node(id);
  return chain;
}

// Whether anything but a view uses the node.
std::vector<bool> really_used(const Graph& graph) {
  std::vector<bool> used(static_cast<std::size_t>(graph.size()), false);
  const std::vector<bool> live = live_nodes(graph);
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (!live[static_cast<std::size_t>(id)] || is_view(graph.node(id))) continue;
    for (const NodeId input : graph.node(id).inputs)
      if (input != absent) used[static_cast<std::size_t>(input)] = true;
  }
  for (const Output& output : graph.outputs()) used[static_cast<std::size_t>(output.node)] = true;
  return used;
}

// Every form of every weight, by node; a weight used in one form alone keeps its name.
class Forms {
 public:
  explicit Forms(const Graph& graph) : form_(static_cast<std::size_t>(graph.size()), none) {
    const std::vector<bool> used = really_used(graph);
    for (NodeId id = 0; id < graph.size(); ++id) {
      if (!used[static_cast<std::size_t>(id)]) continue;
      const Chain chain = chain_of(graph, id);
      if (chain.source != nullptr) form_[static_cast<std::size_t>(id)] = index_of(chain, graph.node(id).type);
    }
    name_uses();
  }

  const WeightUse* of(NodeId id) const {
    const std::size_t index = form_[static_cast<std::size_t>(id)];
    return index == none ? nullptr : &uses_[index];
  }
  std::vector<WeightUse> release() { return std::move(uses_); }

 private:
  static constexpr std::size_t none = static_cast<std::size_t>(-1);

  std::size_t index_of(const Chain& chain, const TensorType& type) {
    const WeightUse wanted{.name = "",
                           .source = chain.source->name,
                           .steps = chain.steps,
                           .type = type,
                           .source_type = chain.source->type};
    const auto found =
        std::ranges::find_if(uses_, [&](const WeightUse& use) { return same_form(use, wanted); });
    const auto index = static_cast<std::size_t>(found - uses_.begin());
    if (found == uses_.end()) uses_.push_back(wanted);
    return index;
  }

  void name_uses() {
    std::map<std::string, int> forms;
    for (const WeightUse& use : uses_) ++forms[use.source];
    std::map<std::string, int> next;
    for (WeightUse& use : uses_)
      use.name = forms[use.source] == 1 ? use.source : str(use.source, '#', next[use.source]++);
  }

  std::vector<WeightUse> uses_;
  std::vector<std::size_t> form_;
};

using Halves [[gnu::vector_size(16)]] = std::uint16_t;
constexpr std::int64_t lanes = 8;

// Row i and row i + 4 become rows 2 i and 2 i + 1: three times that transposes.
void interleave(Halves (&rows)[lanes]) {
  Halves mixed[lanes];
  for (std::size_t i = 0; i < lanes / 2; ++i) {
    const Halves a = rows[i], b = rows[i + lanes / 2];
    mixed[2 * i] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    mixed[2 * i + 1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  }
  std::ranges::copy(mixed, rows);
}

void swap_square(const std::uint16_t* from, std::int64_t row, std::uint16_t* to, std::int64_t to_row) {
  Halves rows[lanes];
  for (std::int64_t i = 0; i < lanes; ++i) std::memcpy(&rows[i], from + i * row, sizeof(Halves));
  for (int round = 0; round < 3; ++round) interleave(rows);
  for (std::int64_t i = 0; i < lanes; ++i) std::memcpy(to + i * to_row, &rows[i], sizeof(Halves));
}

// (rows, columns) -> (columns, rows), halves.
Tensor swapped(const Tensor& value, const TensorType& type) {
  const Tensor result(type);
  const std::int64_t rows = type.shape[1];
  const std::int64_t columns = type.shape[0];
  const std::uint16_t* from = value.as<std::uint16_t>().data();
  std::uint16_t* to = result.as<std::uint16_t>().data();
  const auto swap_block = [&](std::int64_t r, std::int64_t c, std::int64_t end) {
    if (r + lanes <= rows && c + lanes <= end)
      return swap_square(from + r * columns + c, columns, to + c * rows + r, rows);
    for (std::int64_t i = r; i < std::min(r + lanes, rows); ++i)
      for (std::int64_t j = c; j < std::min(c + lanes, end); ++j) to[j * rows + i] = from[i * columns + j];
  };
  // As many columns at a time as share the cache lines that are read.
  shared_pool().split(columns, 4 * lanes, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; c += 4 * lanes)
      for (std::int64_t r = 0; r < rows; r += lanes)
        for (std::int64_t j = c; j < std::min(c + 4 * lanes, end); j += lanes) swap_block(r, j, end);
  });
  return result;
}

Tensor stepped(const Node& step, const Tensor& value) {
  if (step.is("reshape")) return value.reshaped(step.type.shape);
  if (step.is("transpose") && step.type.shape.rank() == 2 && value.dtype() == DType::fp16)
    return swapped(value, {value.dtype(), step.type.shape});
  Node node = step;
  node.type.dtype = value.dtype();
  return evaluate(node, std::span(&value, 1));
}

}  // namespace

//   %1 w: fp16 (64, 96) = weight()
//   %2 = transpose(x=%1)
//   %3 = reshape(x=%2, shape=[96, 64, 1, 1])
//   %4 = conv(x=%0, weight=%3)
// becomes
//   %1 w: fp16 (96, 64, 1, 1) = weight()
//   %2 = conv(x=%0, weight=%1)
Graph fold_weight_views(const Graph& graph, std::vector<WeightUse>& uses) {
  Forms forms(graph);
  Graph result(graph.name());
  const std::vector<bool> live = live_nodes(graph);
  std::vector<Value> rebuilt(static_cast<std::size_t>(graph.size()));
  std::map<const WeightUse*, Value> weights;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    Value& value = rebuilt[static_cast<std::size_t>(id)];
    if (const WeightUse* use = forms.of(id)) {
      Value& weight = weights[use];
      if (!weight) weight = result.weight(use->name, use->type);
      value = weight;
      continue;
    }
    const bool only_viewed = node.is("weight") || (is_view(node) && chain_of(graph, id).source != nullptr);
    if (only_viewed || (!live[static_cast<std::size_t>(id)] && !node.is("input"))) continue;
    std::vector<NodeId> ids;
    for (const NodeId input : node.inputs)
      ids.push_back(input == absent ? absent : rebuilt[static_cast<std::size_t>(input)].id);
    value = result.copy(node, std::move(ids));
  }
  for (const Output& output : graph.outputs())
    result.output(output.name, rebuilt[static_cast<std::size_t>(output.node)]);
  uses = forms.release();
  return result;
}

bool same_form(const WeightUse& a, const WeightUse& b) {
  const auto same_step = [](const Node& x, const Node& y) {
    return x.op == y.op && x.attrs == y.attrs && x.type == y.type;
  };
  return a.source == b.source && a.rows == b.rows && std::ranges::equal(a.steps, b.steps, same_step);
}

Tensor legal_weight(const WeightUse& use, const Tensor& source) {
  const bool as_given = use.steps.empty() && use.rows == WeightUse::Rows::as_given;
  if (as_given && source.type() == use.type) return source;
  if (!is_float(source.dtype()) || source.shape() != use.source_type.shape)
    fail("weight '", use.source, "' is ", source.type(), ", a float of ", use.source_type.shape,
         " is needed");
  Tensor value = narrowed(source, use.type.dtype, use.source, half_is_all);
  for (const Node& step : use.steps) value = stepped(step, value);
  return with_rows(value, use.rows, value.data() != source.data());
}

TensorMap legal_weights(const LegalProgram& program, const TensorMap& sources) {
  TensorMap weights;
  for (const WeightUse& use : program.weights) {
    const auto source = sources.find(use.source);
    if (source == sources.end()) fail("no weight '", use.source, "', which the program needs");
    weights.emplace(use.name, legal_weight(use, source->second));
  }
  return weights;
}

}  // namespace orion::ane
