#include "orion/lora.h"

#include "ir/rewrite.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

namespace orion {
namespace {

constexpr std::string_view weight_suffix = ".weight";
constexpr std::int64_t largest_rank = 256;
// The shortest axis that an engine was reported to limit (M1, M2).
constexpr std::int64_t widest_packing = 16384;

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

// A (r, in), and B (out, r) or, turned, (r, out).
struct Factors {
  Value a;
  Value b;
  bool b_is_turned = false;
  Value mask = {};  // of x's type, if there is one
};
using FactorsOf = std::function<Factors(Graph& graph, const TensorType& x, const LoraModule& module)>;

// x (..., N, in) -> (..., N, out)
Value beside_rows(Value x, const Factors& f) {
  return ops::matmul(ops::matmul(x, f.a, false, true), f.b, false, !f.b_is_turned);
}

// x (1, in, 1, S) -> (1, out, 1, S)
Value beside_columns(Value x, const Factors& f) {
  const std::int64_t columns = x.shape()[3];
  const Value low = ops::matmul(f.a, ops::reshape(x, {x.shape()[1], columns}));
  const Value y = ops::matmul(f.b, low, f.b_is_turned);
  return ops::reshape(y, {1, y.shape()[0], 1, columns});
}

// conv or matmul as it was, plus scale B (A x)
Value adapted(const RewriteCall& call, double scale, const LoraModule& module, const FactorsOf& factors_of) {
  std::vector<NodeId> inputs;
  for (const Value& value : call.in) inputs.push_back(value.id);
  const Value y = call.graph.copy(call.node, std::move(inputs));
  const Factors factors = factors_of(call.graph, call.in[0].type(), module);
  const Value x = factors.mask ? ops::mul(call.in[0], factors.mask) : call.in[0];
  const Value beside = call.node.is("conv") ? beside_columns(x, factors) : beside_rows(x, factors);
  return ops::add(y, scale == 1.0 ? beside : ops::mul(beside, call.graph.scalar(y.dtype(), scale)));
}

Graph with_factors(const Graph& graph, const LoraShape& shape, const FactorsOf& factors_of) {
  check_rank(shape);
  const std::set<std::string> tables = tables_of(graph);
  return rewrite(graph, [&](const RewriteCall& call) -> Value {
    const std::optional<LoraModule> module = module_of(call.from, call.node, tables);
    if (!module || !is_lora_target(module->name, shape.targets)) return {};
    return adapted(call, shape.scale, *module, factors_of);
  });
}

// Tensor after tensor into the last input, or, when it would grow too wide, into one more.
void pack_after(std::vector<PackedLora>& ports, const std::string& name, std::int64_t rank,
                std::int64_t width) {
  if (ports.empty() || ports.back().width + width > widest_packing)
    ports.push_back({.port = str("adapter_", ports.size()), .rank = rank});
  ports.back().parts.push_back({name, ports.back().width, width});
  ports.back().width += width;
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
Graph with_lora(const Graph& graph, const LoraShape& shape, std::vector<LoraModule>& modules, bool masked) {
  return with_factors(graph, shape,
                      [&](Graph& made, const TensorType& x, const LoraModule& module) -> Factors {
                        Factors factors = {made.weight(module.a(), {x.dtype, {shape.rank, module.in}}),
                                           made.weight(module.b(), {x.dtype, {module.out, shape.rank}})};
                        if (masked) factors.mask = made.input(str("mask_", modules.size()), x);
                        modules.push_back(module);
                        return factors;
                      });
}

//   %2 (16, 64) = matmul(x=%0, y=%w)
// becomes
//   %2 (16, 64) = matmul(x=%0, y=%w)
//   %3 (8, 32) = slice_by_index(x=adapter_0)     A
//   %4 (16, 8) = matmul(x=%0, y=%3)
//   %5 (8, 64) = slice_by_index(x=adapter_0)     B, turned
//   %6 (16, 64) = matmul(x=%4, y=%5)
//   %7 (16, 64) = add(x=%2, y=%6)
Graph with_packed_lora(const Graph& graph, const LoraShape& shape, std::vector<PackedLora>& ports) {
  for (const LoraModule& module : linear_modules(graph)) {
    if (!is_lora_target(module.name, shape.targets)) continue;
    pack_after(ports, module.a(), shape.rank, module.in);
    pack_after(ports, module.b(), shape.rank, module.out);
  }
  std::map<std::string, Value> inputs;
  const auto part_of = [&](Graph& made, DType dtype, const std::string& name) {
    for (const PackedLora& packed : ports)
      for (const PackedLora::Part& part : packed.parts) {
        if (part.tensor != name) continue;
        Value& input = inputs[packed.port];
        if (!input) input = made.input(packed.port, {dtype, {packed.rank, packed.width}});
        return ops::slice_by_index(input, {0, part.begin}, {packed.rank, part.begin + part.width});
      }
    fail("lora: '", name, "' has no place in the inputs");
  };
  return with_factors(graph, shape,
                      [&](Graph& made, const TensorType& x, const LoraModule& module) -> Factors {
                        return {part_of(made, x.dtype, module.a()), part_of(made, x.dtype, module.b()), true};
                      });
}

}  // namespace orion
