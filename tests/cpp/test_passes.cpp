// Each pass by an example, printed before and after.
#include "passes/passes.h"

#include "orion/model.h"
#include "orion/op.h"
#include "orion/ops.h"
#include "orion/stages.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string_view>

using namespace orion;

namespace {

// The nodes of a printed graph: everything between its first and last line.
std::string body(const Graph& graph) {
  verify(graph);
  const std::string text = to_text(graph);
  return text.substr(text.find('\n') + 1);
}

Tensor ones(const Shape& shape) {
  Tensor tensor(TensorType{DType::fp32, shape});
  std::ranges::fill(tensor.as<float>(), 1.0F);
  return tensor;
}

}  // namespace

TEST_CASE("identities disappear, output names stay") {
  Graph g;
  const Value x = g.input("x", {DType::fp16, {2, 3}});
  const Value same = ops::reshape(ops::cast(ops::identity(x), "fp16"), {2, 3});
  const Value scaled = ops::mul(ops::transpose(same, {0, 1}), g.scalar(DType::fp16, 1.0));
  g.output("y", ops::identity(ops::relu(scaled)));
  g.output("z", ops::identity(x));
  CHECK(body(eliminate_identities(g)) ==
        "  %0 x: fp16 (2, 3) = input()\n"
        "  %1 const: fp16 () = const(1)\n"
        "  %2 relu: fp16 (2, 3) = relu(x=%0)\n"
        "  -> y = %2\n"
        "  -> z = %0\n");
}

TEST_CASE("a product by one that broadcasts is no identity") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {1}});
  g.output("y", ops::mul(x, g.constant(ones({1, 1}))));
  CHECK(eliminate_identities(g).node(2).is("mul"));
}

TEST_CASE("casts fuse only where the middle one rounds nothing") {
  Graph g;
  const Value half = g.input("half", {DType::fp16, {2}});
  const Value single = g.input("single", {DType::fp32, {2}});
  const Value integer = g.input("integer", {DType::int32, {2}});
  g.output("exact", ops::cast(ops::cast(half, "fp32"), "fp16"));
  g.output("rounded", ops::cast(ops::cast(single, "fp16"), "fp32"));
  g.output("truncated", ops::cast(ops::cast(single, "int32"), "fp32"));
  g.output("limited", ops::cast(ops::cast(integer, "fp32"), "int32"));
  CHECK(body(optimize(g)) ==
        "  %0 half: fp16 (2,) = input()\n"
        "  %1 single: fp32 (2,) = input()\n"
        "  %2 integer: int32 (2,) = input()\n"
        "  %3 cast_1: fp16 (2,) = cast(x=%1, dtype=\"fp16\")\n"
        "  %4 cast_2: fp32 (2,) = cast(x=%3, dtype=\"fp32\")\n"
        "  %5 cast_3: int32 (2,) = cast(x=%1, dtype=\"int32\")\n"
        "  %6 cast_4: fp32 (2,) = cast(x=%5, dtype=\"fp32\")\n"
        "  %7 cast_5: fp32 (2,) = cast(x=%2, dtype=\"fp32\")\n"
        "  %8 cast_6: int32 (2,) = cast(x=%7, dtype=\"int32\")\n"
        "  -> exact = %0\n"
        "  -> rounded = %4\n"
        "  -> truncated = %6\n"
        "  -> limited = %8\n");
}

TEST_CASE("transposes and reshapes merge, and cancel") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {2, 3, 4}});
  g.output("back", ops::transpose(ops::transpose(x, {1, 2, 0}), {2, 0, 1}));
  g.output("turned", ops::transpose(ops::transpose(x, {1, 0, 2}), {2, 1, 0}));
  g.output("flat", ops::reshape(ops::reshape(x, {6, 4}), {24}));
  CHECK(body(optimize(g)) ==
        "  %0 x: fp32 (2, 3, 4) = input()\n"
        "  %1 transpose_2: fp32 (4, 2, 3) = transpose(x=%0, perm=[2, 0, 1])\n"
        "  %2 reshape_0: fp32 (24,) = reshape(x=%0, shape=[24])\n"
        "  -> back = %0\n"
        "  -> turned = %1\n"
        "  -> flat = %2\n");
}

TEST_CASE("matmul takes transposes of its operands in") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {5, 2, 3}});
  const Value y = g.input("y", {DType::fp32, {4, 3}});
  g.output("z", ops::matmul(x, ops::transpose(y, {1, 0})));
  CHECK(to_text(optimize(g)).find("matmul(x=%0, y=%1, transpose_y=true)") != std::string::npos);
}

TEST_CASE("constants fold, but never into something much larger") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {2}});
  const Value two = g.scalar(DType::fp32, 4.0);
  const Value wide = ops::broadcast_to(two, {1000, 1000});
  g.output("y", ops::mul(x, ops::sqrt(two)));
  g.output("z", wide);
  const std::string text = to_text(optimize(g));
  CHECK(text.find("const(2)") != std::string::npos);
  CHECK(text.find("sqrt(") == std::string::npos);
  CHECK(text.find("broadcast_to(") != std::string::npos);
}

TEST_CASE("folding in fp16 rounds every result once") {
  Graph g;
  const Value third = ops::real_div(g.scalar(DType::fp16, 1.0), g.scalar(DType::fp16, 3.0));
  g.output("y", ops::mul(third, g.scalar(DType::fp16, 3.0)));
  const Graph folded = optimize(g);
  CHECK(folded.node(folded.outputs()[0].node).value.at(0) == 1.0);  // 0.33325 * 3 = 0.99976, ties up in fp16
  CHECK(evaluate(g, {}).at("y").identical(folded.node(folded.outputs()[0].node).value));
}

TEST_CASE("equal nodes and constants are shared, different ones are not") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {2}});
  const Value a = ops::mul(x, g.scalar(DType::fp32, 2.0));
  const Value b = ops::mul(x, g.scalar(DType::fp32, 2.0));
  const Value c = ops::mul(x, g.scalar(DType::fp32, 3.0));
  const Value zero = ops::add(g.scalar(DType::fp32, 0.0), g.scalar(DType::fp32, -0.0));
  g.output("y", ops::add(ops::add(ops::add(a, b), c), zero));
  const Graph shared = share_common(g);
  const auto count = [&](std::string_view op) {
    return std::ranges::count_if(shared.nodes(), [&](const Node& node) { return node.is(op); });
  };
  CHECK(count("mul") == 2);
  CHECK(count("const") == 4);  // 2, 3, 0 and -0
}

TEST_CASE("weights of equal type are never shared") {
  Graph g;
  const Value a = g.weight("a", {DType::fp32, {2}});
  const Value b = g.weight("b", {DType::fp32, {2}});
  g.output("y", ops::add(a, b));
  CHECK(optimize(g).size() == 3);
}

TEST_CASE("a program without work keeps its interface") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {2}});
  g.output("same", ops::identity(x));
  g.output("again", ops::identity(x));
  CHECK(body(optimize(g)) ==
        "  %0 x: fp32 (2,) = input()\n"
        "  -> same = %0\n"
        "  -> again = %0\n");
}

TEST_CASE("every pass keeps every model's graph well formed and its interface the same") {
  const ConfigMap llama = {
      {"model_type", std::string("llama")},     {"vocab_size", std::int64_t{11}},
      {"hidden_size", std::int64_t{12}},        {"intermediate_size", std::int64_t{20}},
      {"num_hidden_layers", std::int64_t{2}},   {"num_attention_heads", std::int64_t{6}},
      {"num_key_value_heads", std::int64_t{2}}, {"max_position_embeddings", std::int64_t{16}}};
  const ConfigMap gpt2 = {{"model_type", std::string("gpt2")}, {"vocab_size", std::int64_t{11}},
                          {"n_embd", std::int64_t{12}},        {"n_layer", std::int64_t{2}},
                          {"n_head", std::int64_t{3}},         {"n_positions", std::int64_t{16}}};
  for (const ConfigMap& map : {llama, gpt2})
    for (const std::int64_t cache : {0, 16}) {
      const Graph g = forward(configure(map), {.batch = 2, .tokens = 3, .cache = cache}, DType::fp16);
      const Graph expanded = expand_composites(g, [](const Graph&, const Node&) { return true; });
      for (const Graph& start : {g, expanded})
        for (const PassDef& pass : all_passes()) {
          const Graph after = pass.run(start);
          INFO(pass.name);
          CHECK_NOTHROW(verify(after));
          REQUIRE(after.inputs().size() == start.inputs().size());
          REQUIRE(after.outputs().size() == start.outputs().size());
          for (std::size_t i = 0; i < after.outputs().size(); ++i)
            CHECK(after.outputs()[i].name == start.outputs()[i].name);
        }
      CHECK_NOTHROW(verify(optimize(expanded)));
    }
}

TEST_CASE("stages keep a value, or compute it again where that is asked for") {
  Graph g;
  const Value x = g.input("x", {DType::fp32, {2, 3}});
  const auto weight = [&](const char* name) { return g.weight(name, {DType::fp32, {3, 3}}); };
  g.output("y", ops::matmul(ops::silu(ops::matmul(x, weight("a"))), weight("b")));
  const std::string wanted = "x";
  const Differentiated whole = differentiate(g, std::span(&wanted, 1));
  const auto count = [](const Graph& graph, std::string_view op) {
    return std::ranges::count_if(graph.nodes(), [&](const Node& node) { return node.is(op); });
  };
  const Stages kept = in_stages(whole);
  const Stages repeated = in_stages(whole, [](const Graph&, const Node& node) { return node.is("silu"); });
  CHECK(kept.forward.outputs().size() == 3);  // y, what silu took, what it gave
  CHECK(repeated.forward.outputs().size() == 2);
  CHECK(count(kept.weights, "silu") == 0);
  CHECK(count(repeated.weights, "silu") == 1);
}
