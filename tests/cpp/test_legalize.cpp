// Legal forms of small graphs: no limit crossed, the same numbers within fp16, and a way back for the host.
#include "ane/legal_program.h"
#include "error_message.h"
#include "orion/mil.h"
#include "orion/ops.h"
#include "random_data.h"

#include <doctest/doctest.h>

#include <functional>
#include <string>

using namespace orion;
using namespace orion::ane;
using namespace orion::test;

namespace {

using Build = std::function<void(Graph&)>;

TensorMap run_legal(const LegalProgram& program, const Graph& original, const Data& data) {
  TensorMap ports;
  for (const PortUse& use : program.inputs) {
    ports.emplace(use.name, Tensor(use.type));
    write_port(use, data.inputs.at(use.source), ports.at(use.name));
  }
  const TensorMap results = evaluate(program.graph, ports, legal_weights(program, data.weights));
  TensorMap outputs;
  for (const Output& output : original.outputs())
    outputs.emplace(output.name, Tensor(original.node(output.node).type));
  for (const PortUse& use : program.outputs) read_port(use, results.at(use.name), outputs.at(use.source));
  return outputs;
}

Graph built(const Build& build) {
  Graph graph;
  build(graph);
  return graph;
}

void check_legal(const Build& build, double scale = 1.0, double tolerance = 4e-3) {
  const Graph graph = built(build);
  const Data data = data_for(graph, scale);
  const TensorMap wanted = evaluate(graph, data.inputs, data.weights);
  for (const Profile& profile : all_profiles()) {
    CAPTURE(profile.name);
    const LegalProgram program = legalize_program(graph, profile);
    for (const Profile& other : all_profiles()) {
      if (profile.name != "strict" && other.name != profile.name) continue;
      for (const Violation& violation : violations(program.graph, other))
        FAIL_CHECK(other.name, ": ", violation.limit->id, ": ", violation.where);
      for (const Violation& violation : violations(mil::emit(program.graph), other))
        FAIL_CHECK(other.name, ": ", violation.limit->id, ": ", violation.where);
    }
    for (const auto& [name, got] : run_legal(program, graph, data)) {
      CAPTURE(name);
      CHECK(relative_error(got, wanted.at(name)) < tolerance);
    }
  }
}

std::string message_of(const Build& build, std::string_view profile = "strict") {
  return test::message_of([&] { legalize_program(built(build), find_profile(profile)); });
}

Value plane(Graph& g, std::int64_t channels = 24, std::int64_t columns = 32, std::string_view name = "x") {
  return g.input(name, {DType::fp32, {1, channels, 1, columns}});
}

}  // namespace

TEST_CASE("activations") {
  check_legal([](Graph& g) { g.output("y", ops::gelu(plane(g))); });
  check_legal([](Graph& g) { g.output("y", ops::gelu(plane(g), "TANH_APPROXIMATION")); }, 60.0);
  check_legal([](Graph& g) { g.output("y", ops::gelu(plane(g), "SIGMOID_APPROXIMATION")); });
  check_legal([](Graph& g) { g.output("y", ops::silu(plane(g))); }, 8.0);
  check_legal([](Graph& g) { g.output("y", ops::sigmoid(plane(g))); }, 8.0);
}

TEST_CASE("norms of small, usual and large rows") {
  const Build layer = [](Graph& g) {
    const Value gamma = g.weight("gamma", {DType::fp32, {24}});
    g.output("y", ops::layer_norm(plane(g), {1}, gamma, g.weight("beta", {DType::fp32, {24}})));
  };
  const Build rms = [](Graph& g) {
    g.output("y", ops::rms_norm(plane(g), {1}, g.weight("gamma", {DType::fp32, {24}})));
  };
  const Build last_axis = [](Graph& g) {
    const Value x = g.input("x", {DType::fp32, {6, 40}});
    g.output("y", ops::layer_norm(x, {-1}));
  };
  for (const double scale : {1e-3, 1.0, 2000.0}) {
    check_legal(layer, scale);
    check_legal(rms, scale);
    check_legal(last_axis, scale);
  }
  check_legal(rms, 0.0);
  check_legal([](Graph& g) { g.output("y", ops::reduce_mean(plane(g), {1}, true)); }, 2000.0);
  check_legal([](Graph& g) { g.output("y", ops::reduce_mean(plane(g), {0, 3})); }, 2000.0);
}

TEST_CASE("products with weights become convolutions") {
  check_legal([](Graph& g) {
    const Value x = g.input("x", {DType::fp32, {10, 24}});
    g.output("y", ops::add(ops::matmul(x, g.weight("w", {DType::fp32, {24, 12}})),
                           g.weight("b", {DType::fp32, {12}})));
    g.output("z", ops::matmul(x, g.weight("v", {DType::fp32, {7, 24}}), false, true));
  });
  check_legal([](Graph& g) {
    const Value x = g.input("x", {DType::fp32, {2, 3, 10, 24}});
    g.output("y", ops::matmul(x, g.weight("w", {DType::fp32, {24, 12}})));
    g.output("z", ops::matmul(x, g.weight("v", {DType::fp32, {5, 10}}), true, true));
    g.output("u", ops::matmul(g.weight("l", {DType::fp32, {5, 10}}), x));
  });
  check_legal([](Graph& g) {
    const Value kernel = g.weight("w", {DType::fp32, {8, 24, 1, 1}});
    g.output("y", ops::conv(plane(g), kernel, g.weight("b", {DType::fp32, {8}})));
  });
}

TEST_CASE("kernels that are known at run time only are multiplied") {
  check_legal([](Graph& g) {
    const Value kernel = g.input("w", {DType::fp32, {8, 24}});
    g.output("y", ops::conv(plane(g), ops::reshape(kernel, {8, 24, 1, 1})));
  });
}

TEST_CASE("wide and long products are made in parts") {
  const Build vocabulary = [](Graph& g) {
    const Value x = g.input("x", {DType::fp32, {2, 8}});
    const Value y = ops::matmul(x, g.weight("w", {DType::fp32, {40000, 8}}), false, true);
    g.output("logits",
             ops::mul(ops::add(y, g.weight("b", {DType::fp32, {40000}})), g.scalar(DType::fp32, 0.5)));
  };
  check_legal(vocabulary);
  const LegalProgram program = legalize_program(built(vocabulary), find_profile("strict"));
  REQUIRE(program.outputs.size() == 3);
  CHECK(program.outputs[1].name == "logits_1");
  CHECK(program.outputs[1].source == "logits");
  CHECK(program.outputs[1].begin == 13334);
  check_legal([](Graph& g) {
    const Value x = plane(g, 9000);
    g.output("y", ops::conv(x, ops::reshape(g.weight("w", {DType::fp32, {4, 9000}}), {4, 9000, 1, 1})));
  });
  CHECK(message_of([](Graph& g) {
          const Value x = g.input("x", {DType::fp32, {2, 8}});
          const Value y = ops::matmul(x, g.weight("w", {DType::fp32, {40000, 8}}), false, true);
          g.output("y", ops::softmax(y));
        }).starts_with("conv-32k-channels: softmax 'softmax' needs all channels"));
}

TEST_CASE("attention hides keys by numbers") {
  check_legal(
      [](Graph& g) {
        const auto heads = [&](std::string_view name, std::int64_t count) {
          return g.input(name, {DType::fp32, {1, count, 16, 8}});
        };
        const Value y =
            ops::scaled_dot_product_attention(heads("q", 6), heads("k", 2), heads("v", 2), {}, {}, true);
        g.output("y", y);
      },
      2.0);
  check_legal([](Graph& g) {
    const Tensor visible({DType::boolean, {5, 7}});
    for (std::size_t i = 0; i < 35; ++i) visible.as<std::uint8_t>()[i] = i % 3 == 0 || i % 7 == 0;
    const Value q = g.input("q", {DType::fp32, {2, 5, 8}});
    const Value k = g.input("k", {DType::fp32, {2, 7, 8}});
    g.output("y", ops::scaled_dot_product_attention(q, k, k, g.constant(visible)));
  });
}

TEST_CASE("rotary positions and concatenations") {
  for (const bool interleaved : {false, true})
    check_legal([=](Graph& g) {
      const Value x = g.input("x", {DType::fp32, {1, 4, 16, 8}});
      const Value cos = g.input("cos", {DType::fp32, {1, 1, 16, 4}});
      const Value sin = g.input("sin", {DType::fp32, {1, 1, 16, 4}});
      g.output("y", ops::rope(x, cos, sin, interleaved));
    });
  check_legal([](Graph& g) {
    const Value x = plane(g);
    g.output("y", ops::concat({x, ops::relu(x), ops::neg(x)}, 1));
  });
}

TEST_CASE("long and odd softmax") {
  check_legal([](Graph& g) { g.output("y", ops::softmax(plane(g, 3, 50))); }, 5.0);
  check_legal([](Graph& g) { g.output("y", ops::softmax(plane(g, 2, 3000))); }, 5.0);
}

TEST_CASE("sums are products with ones, and products over a batch are folded") {
  check_legal([](Graph& g) { g.output("y", ops::reduce_sum(plane(g), {3}, true)); }, 100.0);
  check_legal(
      [](Graph& g) { g.output("y", ops::reduce_sum(g.input("x", {DType::fp32, {2, 3, 20, 48}}), {-1})); });
  const Build scaled = [](Graph& g) {
    const Value x = g.input("x", {DType::fp32, {2, 3, 16, 32}});
    g.output("y", ops::mul(x, g.weight("gamma", {DType::fp32, {1, 1, 1, 32}})));
    g.output("z", ops::mul(g.input("row", {DType::fp32, {1, 1, 16, 32}}), x));
  };
  check_legal(scaled);
  const LegalProgram program = legalize_program(built(scaled), find_profile("paper-m4-macos15"));
  for (const PortUse& output : program.outputs) CHECK(output.type.shape == Shape{1, 6, 16, 32});
}

TEST_CASE("limits that only a measured profile has") {
  Profile profile = find_profile("strict");
  profile.name = "measured";
  for (const char* id : {"pow-rejected-m1", "sqrt-wrong-m1", "softmax-power-of-two", "identity-rejected"})
    profile.limits.emplace_back(id);
  const Graph graph = built([](Graph& g) {
    const Value x = plane(g, 24, 50);
    g.output("a", ops::rms_norm(x, {1}));
    g.output("b", ops::sqrt(ops::square(x)));
    g.output("c", ops::softmax(x));
    g.output("d", ops::pow(x, g.scalar(DType::fp32, 2.0)));
    g.output("e", g.add("identity", {ops::relu(x)}));
  });
  const Data data = data_for(graph);
  const LegalProgram program = legalize_program(graph, profile);
  CHECK(violations(program.graph, profile).empty());
  const TensorMap wanted = evaluate(graph, data.inputs, data.weights);
  for (const auto& [name, got] : run_legal(program, graph, data))
    CHECK(relative_error(got, wanted.at(name)) < 4e-3);
  const Graph cube = built([](Graph& g) { g.output("y", ops::pow(plane(g), g.scalar(DType::fp32, 3.0))); });
  CHECK_THROWS_WITH(
      legalize_program(cube, profile),
      "pow-rejected-m1: node 'pow' raises to a power that may be a whole number; write it as products");
}

TEST_CASE("broadcasts cost nothing where the next operation stretches") {
  const Build build = [](Graph& g) {
    const Value x = plane(g);
    const Value row = ops::reduce_max(x, {1}, true);
    const Value wide = ops::broadcast_to(row, {1, 24, 1, 32});
    g.output("y", ops::sub(x, wide));
    g.output("z", ops::mul(wide, wide));
  };
  check_legal(build);
  const LegalProgram program = legalize_program(built(build), find_profile("strict"));
  std::int64_t large = 0;
  for (const Node& node : program.graph.nodes())
    large += node.is("const") && node.type.shape.size() > 1 ? 1 : 0;
  CHECK(large == 1);  // for z alone
}

TEST_CASE("results that are no operations, and states") {
  check_legal([](Graph& g) {
    const Value x = plane(g);
    g.output("y", x);
    g.output("z", x);
    g.output("c", g.constant(Tensor({DType::fp32, {3, 40}})));
  });
  check_legal([](Graph& g) {
    const Value x = plane(g);
    g.output("x", ops::add(x, plane(g, 24, 32, "w")));
  });
}

TEST_CASE("ports are four axes wide enough, of one size, in order") {
  const Build build = [](Graph& g) {
    const Value narrow = g.input("narrow", {DType::fp32, {5, 3}});
    const Value wide = g.input("a_wide", {DType::fp32, {1, 4, 1, 64}});
    g.output("z", ops::relu(narrow));
    g.output("b", ops::relu(wide));
  };
  check_legal(build);
  const LegalProgram program = legalize_program(built(build), find_profile("paper-m4-macos15"));
  REQUIRE(program.inputs.size() == 2);
  CHECK(program.inputs[0].name == "a_wide");
  CHECK(program.inputs[0].type == TensorType{DType::fp16, {1, 4, 1, 64}});
  CHECK(program.inputs[1].type == TensorType{DType::fp16, {1, 16, 1, 16}});
  CHECK(program.inputs[1].shape == Shape{1, 5, 1, 3});
  CHECK(program.outputs[0].name == "b");
  const LegalProgram macos26 = legalize_program(built(build), find_profile("macos26"));
  CHECK(macos26.inputs[0].type.shape == Shape{1, 4, 1, 64});
  CHECK(macos26.inputs[1].type.shape == Shape{1, 5, 1, 32});
}

TEST_CASE("weights say where they come from") {
  const Graph graph = built([](Graph& g) {
    const Value x = g.input("x", {DType::fp32, {10, 24}});
    const Value w = g.weight("w", {DType::fp32, {24, 12}});
    g.output("y", ops::matmul(x, ops::slice_by_index(w, {0, 0}, {24, 4})));
    g.output("z", ops::matmul(x, ops::slice_by_index(w, {0, 4}, {24, 12})));
    g.output("v", ops::matmul(x, g.weight("v", {DType::fp32, {12, 24}}), false, true));
  });
  const LegalProgram program = legalize_program(graph, find_profile("paper-m4-macos15"));
  REQUIRE(program.weights.size() == 3);
  CHECK(program.weights[0].name == "w#0");
  CHECK(program.weights[1].name == "w#1");
  CHECK(program.weights[1].type == TensorType{DType::fp16, {8, 24, 1, 1}});
  CHECK(program.weights[2].name == "v");
  const Data data = data_for(graph);
  const Tensor w1 = legal_weight(program.weights[1], data.weights.at("w"));
  CHECK(w1.at(3 * 24 + 5) == doctest::Approx(data.weights.at("w").at(5 * 12 + 4 + 3)).epsilon(1e-3));
  TensorMap wrong = data.weights;
  wrong.insert_or_assign("v", Tensor({DType::fp32, {24, 12}}));
  CHECK_THROWS_WITH(legal_weights(program, wrong),
                    "weight 'v' is fp32 (24, 12), a float of (12, 24) is needed");
  wrong.insert_or_assign("v", Tensor({DType::fp32, {12, 24}}));
  wrong.at("v").as<float>()[2] = 7e4F;
  CHECK_THROWS_WITH(
      legal_weights(program, wrong),
      "weight 'v': element 2 is 70000, beyond fp16's range; that is all the engine has; run the program on "
      "the cpu");
  wrong.erase("v");
  CHECK_THROWS_WITH(legal_weights(program, wrong), "no weight 'v', which the program needs");
}

TEST_CASE("what no rewrite makes legal is refused by its limit") {
  const auto begins = [](const std::string& message, std::string_view start) {
    CHECK_MESSAGE(message.starts_with(start), message);
  };
  begins(message_of([](Graph& g) {
           Value x = plane(g);
           for (int i = 0; i < 17; ++i) x = ops::mul(x, g.weight(str("w", i), {DType::fp32, {1, 24, 1, 1}}));
           g.output("y", x);
         }),
         "weight-tensors (strict): ");
  begins(message_of([](Graph& g) { g.output("y", ops::relu(plane(g, 20000))); }), "largest-axis (strict): ");
  begins(message_of([](Graph& g) {
           const Value ids = g.input("ids", {DType::int32, {1, 4, 1, 32}});
           g.output("y", ops::add(ids, ids));
         }),
         "port-types (strict): 'ids' is int32 (1, 4, 1, 32)");
}

TEST_CASE("the working set counts what is held, and order matters") {
  const Graph graph = built([](Graph& g) {
    const Value x = g.input("x", {DType::fp16, {1, 64, 1, 64}});  // 8 KiB
    std::vector<Value> large;
    for (int i = 0; i < 4; ++i) large.push_back(ops::mul(x, g.scalar(DType::fp16, i + 1)));
    Value sum;
    for (const Value value : large) {
      const Value small = ops::reduce_max(ops::exp(value), {1, 3}, true);
      sum = sum ? ops::add(sum, small) : small;
    }
    g.output("y", sum);
  });
  const SramEstimate estimate = sram_estimate(graph);
  CHECK(estimate.peak == 5 * 8192 + 2);  // x, four products, and the last product's scalar
  CHECK(graph.node(estimate.at).is("mul"));
  Profile small = find_profile("macos26");
  small.name = "small";
  small.sram_bytes = 4 * 8192;
  CHECK(sram_estimate(legalize(graph, small)).peak < 4 * 8192);
}
