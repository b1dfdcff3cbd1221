// Adapters: the rewrite as weights and as packed inputs, and the set of those that are resident.
#include "orion/adapters.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

using namespace orion;

namespace {

Tensor numbers(const Shape& shape, float first) {
  Tensor tensor(TensorType{DType::fp32, shape});
  float next = first;
  for (float& value : tensor.as<float>()) value = std::sin(next += 1.0F);
  return tensor;
}

// x @ W, beside it x as columns through the turned W, and a table that is also a product's weight.
Graph example() {
  Graph g;
  const Value w = g.weight("up.weight", {DType::fp32, {6, 5}});
  const Value table = g.weight("table.weight", {DType::fp32, {5, 6}});
  const Value y = ops::matmul(g.input("x", {DType::fp32, {4, 6}}), w);
  const Value v = g.weight("deep.down.weight", {DType::fp32, {6, 5}});
  const Value columns = g.input("columns", {DType::fp32, {1, 5, 1, 4}});
  g.output("y", ops::matmul(y, table));
  g.output("z", ops::conv(columns, ops::reshape(v, {6, 5, 1, 1})));
  g.output("rows", ops::gather(table, g.input("ids", {DType::int32, {2}})));
  return g;
}

constexpr std::int64_t rank = 2;
const LoraShape shape = {.rank = rank, .scale = 1.0, .targets = {"up", "down"}};

}  // namespace

TEST_CASE("linear modules are products with a weight that is no table") {
  const std::vector<LoraModule> modules = linear_modules(example());
  REQUIRE(modules.size() == 2);
  CHECK(modules[0].name == "up");
  CHECK((modules[0].in == 6 && modules[0].out == 5 && modules[0].transposed));
  CHECK(modules[1].name == "deep.down");
  CHECK((modules[1].in == 5 && modules[1].out == 6 && !modules[1].transposed));
}

TEST_CASE("targets are names or the ends of names after a dot") {
  const std::vector<std::string> targets = {"down", "c.d"};
  for (const std::string_view yes : {"down", "a.down", "c.d", "b.c.d"}) CHECK(is_lora_target(yes, targets));
  for (const std::string_view no : {"updown", "down.a", "d", "bc.d", ""}) CHECK(!is_lora_target(no, targets));
}

TEST_CASE("an adapter beside a weight, packed or not, is the weight with it worked in") {
  const Graph graph = example();
  const std::int32_t ids[] = {1, 3};
  TensorMap inputs = {{"x", numbers({4, 6}, 1)}, {"columns", numbers({1, 5, 1, 4}, 2)}};
  inputs.emplace("ids", Tensor::from_ints(ids));
  TensorMap weights = {{"up.weight", numbers({6, 5}, 3)},
                       {"table.weight", numbers({5, 6}, 4)},
                       {"deep.down.weight", numbers({6, 5}, 5)}};
  Adapter adapter{.shape = shape, .modules = linear_modules(graph), .tensors = {}};
  for (const LoraModule& module : adapter.modules) {
    adapter.tensors.emplace(module.a(), numbers({rank, module.in}, 6));
    adapter.tensors.emplace(module.b(), numbers({module.out, rank}, 7));
  }
  TensorMap merged = weights;
  for (const LoraModule& module : adapter.modules)
    merged.insert_or_assign(module.name + ".weight",
                            merged_weight(adapter, module, weights.at(module.name + ".weight")));
  const TensorMap wanted = evaluate(graph, inputs, merged);

  std::vector<LoraModule> modules;
  TensorMap with_adapter = weights;
  for (const auto& [name, tensor] : adapter.tensors) with_adapter.emplace(name, tensor);
  const TensorMap beside = evaluate(with_lora(graph, shape, modules), inputs, with_adapter);

  modules.clear();
  const Graph masked = with_lora(graph, shape, modules, true);
  TensorMap masked_inputs = inputs;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    const std::string port = str("mask_", i);
    const Tensor mask(masked.node(*masked.find(port)).type);
    std::ranges::fill(mask.as<float>(), i == 0 ? 1.0F : 0.0F);  // `up` as it is, `down` without
    masked_inputs.emplace(port, mask);
  }
  const TensorMap half = evaluate(masked, masked_inputs, with_adapter);
  CHECK(half.at("y").identical(beside.at("y")));
  CHECK(half.at("z").identical(evaluate(graph, inputs, weights).at("z")));

  std::vector<PackedLora> ports;
  const Graph packed = with_packed_lora(graph, shape, ports);
  REQUIRE(ports.size() == 1);
  CHECK(ports[0].width == 6 + 5 + 5 + 6);
  const Tensor memory({DType::fp32, {rank, ports[0].width}});
  write_packed({.capacity = shape, .tensors = adapter.tensors}, ports[0], memory);
  TensorMap more = inputs;
  more.emplace(ports[0].port, memory);
  const TensorMap from_packed = evaluate(packed, more, weights);

  for (const auto& [name, tensor] : wanted)
    for (std::int64_t i = 0; i < tensor.shape().size(); ++i) {
      CHECK(beside.at(name).at(i) == doctest::Approx(tensor.at(i)).epsilon(1e-5));
      CHECK(from_packed.at(name).at(i) == doctest::Approx(tensor.at(i)).epsilon(1e-5));
    }
}

TEST_CASE("ranks are from 1 to 256") {
  std::vector<LoraModule> modules;
  for (const std::int64_t wrong : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{257}})
    CHECK_THROWS_AS(with_lora(example(), {.rank = wrong, .scale = 1.0, .targets = {"up"}}, modules), Error);
}
