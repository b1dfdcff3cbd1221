// Rewrites for the engine, each by an example printed before and after.
#include "ane/device.h"
#include "ane/legalize_passes.h"
#include "orion/ops.h"
#include "orion/passes.h"
#include "random_data.h"
#include "sim_bench.h"

using namespace orion;
using namespace orion::ane;
using namespace orion::test;

namespace {

std::string body(const Graph& graph) {
  verify(graph);
  const std::string text = to_text(graph);
  return text.substr(text.find('\n') + 1);
}

// The operations alone: "conv (1, 64, 1, 32), add (1, 64, 1, 32)".
std::string steps(const Graph& graph) {
  std::string text;
  for (const Node& node : graph.nodes())
    if (!node.op->is_source()) text += str(text.empty() ? "" : ", ", node.op->name, ' ', node.type.shape);
  return text;
}

Value plane(Graph& g, std::int64_t channels, std::int64_t columns = 32) {
  return g.input("x", {DType::fp16, {1, channels, 1, columns}});
}

Value kernel(Graph& g, std::int64_t out, std::int64_t in) {
  return g.weight("w", {DType::fp16, {out, in, 1, 1}});
}

// How far a graph's results on simulated hardware are from the reference's.
double error_on(const Profile& profile, const Graph& graph, const Data& data) {
  AneDevice device("sim:" + profile.name, sim::open_simulator(profile), profile, Update::automatic);
  const auto program = device.compile(graph, device.load(data.weights));
  for (const auto& [name, value] : data.inputs)
    std::memcpy(program->buffer(name).data(), value.data(), value.bytes());
  program->run();
  double error = 0.0;
  for (const auto& [name, wanted] : evaluate(graph, data.inputs, data.weights))
    error = std::max(error, relative_error(program->buffer(name), wanted));
  return error;
}

Profile like(std::string_view name, std::string own_name) {
  Profile profile = find_profile(name);
  profile.name = std::move(own_name);
  return profile;
}

}  // namespace

TEST_CASE("outputs of different sizes are padded to one, and cut again on the host") {
  Graph g;
  const Value x = plane(g, 384, 64);
  g.output("all", ops::relu(x));
  g.output("largest", ops::reduce_max(x, {1}, true));
  CHECK(body(g) ==
        "  %0 x: fp16 (1, 384, 1, 64) = input()\n"
        "  %1 relu: fp16 (1, 384, 1, 64) = relu(x=%0)\n"
        "  %2 reduce_max: fp16 (1, 1, 1, 64) = reduce_max(x=%0, axes=[1], keep_dims=true)\n"
        "  -> all = %1\n"
        "  -> largest = %2\n");
  LegalProgram program;
  CHECK(body(legal_ports(g, find_profile("paper-m4-macos15"), {}, program)) ==
        "  %0 x: fp16 (1, 384, 1, 64) = input()\n"
        "  %1 relu: fp16 (1, 384, 1, 64) = relu(x=%0)\n"
        "  %2 reduce_max: fp16 (1, 1, 1, 64) = reduce_max(x=%0, axes=[1], keep_dims=true)\n"
        "  %3 pad: fp16 (1, 384, 1, 64) = pad(x=%2, pad=[0, 0, 0, 383, 0, 0, 0, 0])\n"
        "  -> all = %1\n"
        "  -> largest = %3\n");
  const Tensor padded(program.outputs[1].type);
  padded.as<std::uint16_t>()[2] = 0x3c00;  // 1
  const Tensor cut(program.outputs[1].source_type);
  read_port(program.outputs[1], padded, cut);
  CHECK(cut.shape() == Shape{1, 1, 1, 64});
  CHECK(cut.at(2) == 1.0);
  LegalProgram as_it_is;
  CHECK(same_structure(legal_ports(g, find_profile("macos26"), {}, as_it_is), g));
}

TEST_CASE("a product with more weights than memory becomes a sum of smaller ones") {
  Graph g;
  g.output("y", ops::conv(plane(g, 512), kernel(g, 64, 512)));  // 64 KiB of weights, 32 of x, 4 of y
  Profile profile = like("macos26", "little-memory");
  CHECK(same_structure(split_products(g, profile), g));
  profile.sram_bytes = 95 << 10;
  CHECK(steps(g) == "conv (1, 64, 1, 32)");
  CHECK(steps(split_products(g, profile)) ==
        "slice_by_index (1, 171, 1, 32), slice_by_index (64, 171, 1, 1), conv (1, 64, 1, 32), "
        "slice_by_index (1, 171, 1, 32), slice_by_index (64, 171, 1, 1), conv (1, 64, 1, 32), "
        "add (1, 64, 1, 32), "
        "slice_by_index (1, 170, 1, 32), slice_by_index (64, 170, 1, 1), conv (1, 64, 1, 32), "
        "add (1, 64, 1, 32)");
  CHECK(sram_estimate(g).peak > profile.sram_bytes);
  const LegalProgram program = legalize_program(g, profile);
  CHECK(program.weights.size() == 6);  // three shares, and the powers of their rows
  CHECK(sram_estimate(program.graph).peak <= profile.sram_bytes);
  CHECK(error_on(profile, g, data_for(g)) < 4e-3);
  profile.weights_per_program = 2;
  CHECK(legalize_program(g, profile).weights.size() == 2);
}

TEST_CASE("the text of a program says what is held while each operation runs") {
  Graph g;
  const Value x = plane(g, 512, 1024);
  const Value a = ops::exp(x);
  g.output("y", ops::reduce_max(ops::add(a, ops::tanh(x)), {1}, true));
  CHECK(annotated(g, sram_estimate(g)) ==
        "graph main\n"
        "  %0 x: fp16 (1, 512, 1, 1024) = input()\n"
        "  %1 exp: fp16 (1, 512, 1, 1024) = exp(x=%0)  # 2.00 MiB\n"
        "  %2 tanh: fp16 (1, 512, 1, 1024) = tanh(x=%0)  # 3.00 MiB\n"
        "  %3 add: fp16 (1, 512, 1, 1024) = add(x=%1, y=%2)  # 3.00 MiB\n"
        "  %4 reduce_max: fp16 (1, 1, 1, 1024) = reduce_max(x=%3, axes=[1], keep_dims=true)  # 1.00 MiB\n"
        "  -> y = %4\n");
}

TEST_CASE("rows of small weights are scaled up where small products vanish") {
  Graph g;
  const Value x = plane(g, 384, 64);
  g.output("y", ops::conv(x, kernel(g, 128, 384)));
  std::vector<WeightUse> uses;
  const Graph folded = fold_weight_views(g, uses);
  CHECK(same_structure(scale_rows(folded, find_profile("paper-m4-macos15"), uses), folded));
  CHECK(body(scale_rows(folded, find_profile("macos26"), uses)) ==
        "  %0 x: fp16 (1, 384, 1, 64) = input()\n"
        "  %1 w: fp16 (128, 384, 1, 1) = weight()\n"
        "  %2 w#rows: fp16 (1, 128, 1, 1) = weight()\n"
        "  %3 conv: fp16 (1, 128, 1, 64) = conv(x=%0, weight=%1, strides=[1, 1], pad=[0, 0, 0, 0], "
        "dilations=[1, 1])\n"
        "  %4 mul: fp16 (1, 128, 1, 64) = mul(x=%3, y=%2)\n"
        "  -> y = %4\n");
  const Data data = [&] {
    Data small = data_for(g, 0.1);
    Random random(1);
    small.weights.at("w") = random_tensor(small.weights.at("w").type(), random, 6e-4);
    return small;
  }();
  CHECK(sim_bench::values_of(
            sim_bench::Bench(like("macos26", "rows-as-given")).run(g, {data.inputs.at("x")}, data.weights)) ==
        std::vector<double>(128 * 64, 0.0));
  CHECK(error_on(like("macos26", "rows-divided"), g, data) < 4e-3);
}

TEST_CASE("a row's power of two brings its largest weight to between an eighth and a quarter") {
  const Tensor w({DType::fp32, {5, 2, 1, 1}});
  const double values[] = {0.125, 0.01, -0.0625, 0.01, 0.0, 0.0, 6.0, 1.0, 0x1p-20, 0.0};
  std::ranges::transform(values, w.as<float>().begin(), [](double v) { return static_cast<float>(v); });
  const Tensor powers = with_rows(w, WeightUse::Rows::powers);
  CHECK(powers.shape() == Shape{1, 5, 1, 1});
  CHECK(sim_bench::values_of(powers) == std::vector{1.0, 0.5, 1.0, 1.0, 0x1p-14});
  const Tensor divided = with_rows(w, WeightUse::Rows::divided);
  CHECK(divided.at(2) == -0.125);
  CHECK(divided.at(6) == 6.0);
  CHECK(divided.at(8) == 0x1p-6);
  CHECK(with_rows(w, WeightUse::Rows::as_given).identical(w));
}

TEST_CASE("a weight that is more than a kernel keeps its rows") {
  Graph g;
  const Value x = plane(g, 64, 64), w = kernel(g, 64, 64);
  g.output("y", ops::conv(x, w));
  g.output("z", ops::matmul(x, ops::reshape(w, {1, 1, 64, 64})));
  std::vector<WeightUse> uses;
  CHECK(scale_rows(g, find_profile("macos26"), uses).size() == g.size());
}

TEST_CASE("means sum by a product that small squares survive") {
  Graph g;
  const Value x = g.input("x", {DType::fp16, {1, 768, 1, 32}});
  g.output("y", ops::rms_norm(x, {1}, {}, 0.0));
  Data data = data_for(g);
  for (std::int64_t i = 0; i < 32; ++i)  // beside it the others' squares are below 2^-14
    data.inputs.at("x").as<std::uint16_t>()[static_cast<std::size_t>(i)] = 0x5a40;  // 200
  CHECK(error_on(like("macos26", "small-squares"), g, data) < 2e-3);
}
