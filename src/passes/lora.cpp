#include "orion/lora.h"

#include "ir/rewrite.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <algorithm>
#include <set>

namespace orion {
namespace {

constexpr std::string_view weight_suffix = ".weight";
constexpr std::int64_t largest_rank = 256;

// The weight that a value is a view of, or none.
const Node* viewed_weight(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (node.is("weight")) return &node;
  return node.is("reshape") || node.is("transpose") ? viewed_weight(graph, node.inputs[0]) : nullptr;
}

// An embedding that is also the head's weight is one.
std::set<std::string> tables_of(const Graph& graph) {
  std::set<std::string> names;
  for (const Node& node : graph.nodes()) {
    const Node* weight = node.is("gather") ? viewed_weight(graph, node.inputs[0]) : nullptr;
    if (weight != nullptr) names.insert(weight->name);
  }
  return names;
}

// Whether the weight is (in, out): its shape does not tell if it is square.
bool is_transposed(const Graph& graph, const Node& product) {
  bool transposed = product.is("matmul") && !product.flag("transpose_y");
  for (const Node* view = &graph.node(product.inputs[1]); !view->is("weight");
       view = &graph.node(view->inputs[0]))
    if (view->is("transpose")) transposed = !transposed;
  return transposed;
}

LoraModule described(const Node& node, const Graph& graph, const Node& weight) {
  const Shape& x = graph.node(node.inputs[0]).type.shape;
  const bool is_conv = node.is("conv");
  return {.name = weight.name.substr(0, weight.name.size() - weight_suffix.size()),
          .in = is_conv ? x[1] : x.back(),
          .out = is_conv ? node.type.shape[1] : node.type.shape.back(),
          .transposed = is_transposed(graph, node)};
}

// The module whose weight the second operand of a product is, or none.
std::optional<LoraModule> module_of(const Graph& graph, const Node& node,
                                    const std::set<std::string>& tables) {
  if (!node.is("matmul") && !node.is("conv")) return std::nullopt;
  const Node* weight = viewed_weight(graph, node.inputs[1]);
  const bool is_module =
      weight != nullptr && weight->type.shape.rank() == 2 && weight->name.ends_with(weight_suffix);
  if (!is_module || tables.contains(weight->name)) return std::nullopt;
  return described(node, graph, *weight);
}

// x (..., N, in) -> (..., N, out)
Value beside_rows(Value x, Value a, Value b) {
  return ops::matmul(ops::matmul(x, a, false, true), b, false, true);
}

// x (1, in, 1, S) -> (1, out, 1, S)
Value beside_columns(Value x, Value a, Value b) {
  const std::int64_t columns = x.shape()[3];
  const Value low = ops::matmul(a, ops::reshape(x, {x.shape()[1], columns}));
  return ops::reshape(ops::matmul(b, low), {1, b.shape()[0], 1, columns});
}

// conv or matmul as it was, plus scale B (A x)
Value adapted(const RewriteCall& call, const LoraShape& shape, const LoraModule& module) {
  std::vector<NodeId> inputs;
  for (const Value& value : call.in) inputs.push_back(value.id);
  const Value y = call.graph.copy(call.node, std::move(inputs));
  const DType dtype = y.dtype();
  const Value a = call.graph.weight(module.a(), {dtype, {shape.rank, module.in}});
  const Value b = call.graph.weight(module.b(), {dtype, {module.out, shape.rank}});
  const Value x = call.in[0];
  const Value beside = call.node.is("conv") ? beside_columns(x, a, b) : beside_rows(x, a, b);
  return ops::add(y, shape.scale == 1.0 ? beside : ops::mul(beside, call.graph.scalar(dtype, shape.scale)));
}

}  // namespace

bool is_lora_target(std::string_view module, std::span<const std::string> targets) {
  return std::ranges::any_of(targets, [&](const std::string& target) {
    return module == target || (module.ends_with(target) && module.size() > target.size() &&
                                module[module.size() - target.size() - 1] == '.');
  });
}

void check_rank(const LoraShape& shape) {
  if (shape.rank < 1 || shape.rank > largest_rank)
    fail("lora: a rank of ", shape.rank, ", from 1 to ", largest_rank, " is needed");
}

std::vector<LoraModule> linear_modules(const Graph& graph) {
  const std::set<std::string> tables = tables_of(graph);
  std::vector<LoraModule> modules;
  for (const Node& node : graph.nodes())
    if (std::optional<LoraModule> module = module_of(graph, node, tables)) modules.push_back(*module);
  return modules;
}

//   %2 (16, 64) = matmul(x=%0, y=%w)
// becomes
//   %2 (16, 64) = matmul(x=%0, y=%w)
//   %3 (16, 8) = matmul(x=%0, y=%A)
//   %4 (16, 64) = matmul(x=%3, y=%B)
//   %5 (16, 64) = mul(x=%4, y=scale)
//   %6 (16, 64) = add(x=%2, y=%5)
Graph with_lora(const Graph& graph, const LoraShape& shape, std::vector<LoraModule>& modules) {
  check_rank(shape);
  const std::set<std::string> tables = tables_of(graph);
  return rewrite(graph, [&](const RewriteCall& call) -> Value {
    const std::optional<LoraModule> module = module_of(call.from, call.node, tables);
    if (!module || !is_lora_target(module->name, shape.targets)) return {};
    modules.push_back(*module);
    return adapted(call, shape, modules.back());
  });
}

}  // namespace orion
