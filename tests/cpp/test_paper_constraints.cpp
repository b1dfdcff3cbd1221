// The twenty constraints of the Orion paper, one row each: a program made without knowing of it fails on the
// paper's machine as the table of limits says, ours of the same graph runs on every machine.
#include "ane/device.h"
#include "orion/mil.h"
#include "random_data.h"
#include "sim_bench.h"

#ifdef ORION_SIMULATED_FRAMEWORK
#include "framework_library.h"
#endif

#include <filesystem>
#include <set>

using namespace orion;
using namespace orion::ane;
using namespace orion::test;
using namespace sim_bench;

namespace {

constexpr std::string_view paper_machine = "paper-m4-macos15";
constexpr std::size_t known_minimum = 49152;  // bytes of a surface

// -- the graphs ----------------------------------------------------------------------------------------

using Build = void (*)(Graph&);

Value input(Graph& g, std::string_view name, const Shape& shape = {1, 384, 1, 64}) {
  return g.input(name, {DType::fp16, shape});
}

Value kernel(Graph& g, std::int64_t out, std::int64_t in) {
  return g.weight("w", {DType::fp16, {out, in, 1, 1}});
}

void joined(Graph& g) {
  g.output("y", ops::concat({input(g, "a"), input(g, "b")}, 1));
}

void outputs_of_two_sizes(Graph& g) {
  const Value x = input(g, "x");
  g.output("narrow", ops::relu(x));
  g.output("wide", ops::conv(x, kernel(g, 768, 384)));
}

void outputs_out_of_order(Graph& g) {
  const Value x = input(g, "x");
  g.output("positive", ops::relu(x));
  g.output("negative", ops::neg(x));
}

void small(Graph& g) {
  g.output("y", ops::relu(input(g, "x", {1, 16, 1, 16})));
}

void activated(Graph& g) {
  g.output("y", ops::relu(input(g, "x")));
}

void masked_attention(Graph& g) {
  constexpr std::int64_t tokens = 32;
  const Tensor mask({DType::fp32, {1, 1, tokens, tokens}});
  for (std::int64_t i = 0; i < tokens; ++i)
    for (std::int64_t j = i + 1; j < tokens; ++j)
      mask.as<float>()[static_cast<std::size_t>(i * tokens + j)] = -1e4F;
  const auto heads = [&](std::string_view name) { return input(g, name, {1, 24, tokens, 32}); };
  const Value k = heads("k"), q = heads("q"), v = heads("v");
  g.output("y", ops::scaled_dot_product_attention(q, k, v, g.constant(convert(mask, DType::fp16))));
}

void weighted(Graph& g) {
  g.output("y", ops::conv(input(g, "x"), kernel(g, 384, 384)));
}

void gelu(Graph& g) {
  g.output("y", ops::gelu(input(g, "x"), "TANH_APPROXIMATION"));
}

void transposed_product(Graph& g) {
  const Value a = input(g, "a", {1, 24, 32, 32});
  g.output("y", ops::matmul(a, input(g, "b", {1, 24, 32, 32}), false, true));
}

void biased(Graph& g) {
  const Value x = input(g, "x");
  g.output("y", ops::conv(x, kernel(g, 384, 384), g.weight("bias", {DType::fp16, {384}})));
}

void passed_on(Graph& g) {
  const Value x = input(g, "x");
  g.output("same", x);
  g.output("y", ops::relu(x));
}

void vocabulary(Graph& g) {
  g.output("y", ops::conv(input(g, "x", {1, 16, 1, 16}), kernel(g, 32000, 16)));
}

void weighted_product(Graph& g) {
  const Value w = g.weight("w", {DType::fp16, {768, 64}});
  g.output("y", ops::matmul(input(g, "x", {1, 1, 32, 768}), w));
}

void inputs_of_two_sizes(Graph& g) {
  const Value narrow = input(g, "narrow");
  g.output("y", ops::add(narrow, ops::conv(input(g, "wide", {1, 768, 1, 64}), kernel(g, 384, 768))));
}

void inputs_out_of_order(Graph& g) {
  const Value zeta = input(g, "zeta");
  g.output("y", ops::sub(zeta, input(g, "alpha")));
}

void rows_of_32_bytes(Graph& g) {
  g.output("y", ops::neg(input(g, "x", {1, 1536, 1, 16})));
}

// -- programs made without knowing ---------------------------------------------------------------------

struct Naive {
  std::string (*written)(std::string text) = nullptr;  // another text than ours for the graph
  void (*before)(Bench&) = nullptr;                    // what the process has done already
  void (*loaded)(Model&, Data& data) = nullptr;        // what happens between loading and running
  std::size_t least_surface = known_minimum;           // bytes; 0: what the shape has
  std::size_t row_stride = 0;                          // bytes between rows written and read; 0: packed
};

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// The flag in the call instead of the name of a constant.
std::string flag_inline(std::string text) {
  constexpr std::string_view argument = "transpose_y = ";
  const std::size_t at = text.find(argument) + argument.size();
  return text.replace(at, text.find_first_of(",)", at) - at, "bool(true)");
}

// Where the weight's bytes begin, not where their description does.
std::string offset_of_bytes(std::string text) {
  return replaced(std::move(text), "offset = uint64(64)", "offset = uint64(128)");
}

std::string returns_input(std::string text) {
  return replaced(std::move(text), "-> (same, y)", "-> (x, y)");
}

Graph numbered(int number) {
  Graph g;
  g.output("y", ops::add(input(g, "x"), g.scalar(DType::fp16, number)));
  return g;
}

void spend_budget(Bench& bench) {
  for (int i = 0; i < bench.profile.compile_budget; ++i)
    REQUIRE(bench.model(image_of(numbered(i)))->compile().ok());
}

// New weights in the file that the program was compiled from, and expected of its results.
void change_weight_file(Model& model, Data& data) {
  Random random(9);
  Tensor& w = data.weights.at("w");
  w = random_tensor(w.type(), random);
  weights::patch(std::filesystem::path(model.directory()) / mil::weight_file, std::uint64_t{64},
                 {w.data(), w.bytes()});
}

struct Rows {
  std::size_t count, bytes, stride;
};

Rows rows_of(const TensorType& type, const Naive& naive) {
  const auto width = static_cast<std::size_t>(type.shape.back()) * dtype_size(type.dtype);
  return {type.bytes() / width, width, naive.row_stride == 0 ? width : naive.row_stride};
}

template <class Copy>
void with_rows(Surface& surface, const TensorType& type, const Naive& naive, const Copy& copy) {
  REQUIRE(surface.lock(false).ok());
  const Rows rows = rows_of(type, naive);
  for (std::size_t i = 0; i < rows.count; ++i)
    copy(i * rows.bytes, static_cast<std::byte*>(surface.base()) + i * rows.stride, rows.bytes);
  REQUIRE(surface.unlock().ok());
}

// Surfaces in the order in which the text names them.
struct NaiveSurfaces {
  std::vector<std::unique_ptr<Surface>> owned;
  std::vector<Surface*> inputs, outputs;

  Surface* make(Bench& bench, const TensorType& type, const Naive& naive) {
    const Rows rows = rows_of(type, naive);
    owned.push_back(bench.surface(std::max(rows.count * rows.stride, naive.least_surface)));
    return owned.back().get();
  }
};

NaiveSurfaces naive_surfaces(Bench& bench, const Graph& graph, const Data& data, const Naive& naive) {
  NaiveSurfaces surfaces;
  for (const NodeId id : graph.inputs()) {
    const Tensor& value = data.inputs.at(graph.node(id).name);
    surfaces.inputs.push_back(surfaces.make(bench, value.type(), naive));
    with_rows(*surfaces.inputs.back(), value.type(), naive,
              [&](std::size_t at, std::byte* row, std::size_t bytes) {
                std::memcpy(row, value.data() + at, bytes);
              });
  }
  for (const Output& output : graph.outputs())
    surfaces.outputs.push_back(surfaces.make(bench, graph.node(output.node).type, naive));
  return surfaces;
}

struct Outcome {
  Status status;
  double error = 0.0;  // the largest relative one of its outputs, if it ran
};

double error_of(const NaiveSurfaces& surfaces, const Graph& graph, const Data& data, const Naive& naive) {
  const TensorMap wanted = evaluate(graph, data.inputs, data.weights);
  double error = 0.0;
  for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
    const Tensor got(wanted.at(graph.outputs()[i].name).type());
    with_rows(*surfaces.outputs[i], got.type(), naive,
              [&](std::size_t at, const std::byte* row, std::size_t bytes) {
                std::memcpy(got.data() + at, row, bytes);
              });
    error = std::max(error, relative_error(got, wanted.at(graph.outputs()[i].name)));
  }
  return error;
}

std::string naive_text(const Graph& graph, const Naive& naive) {
  const std::string text = mil::emit(graph);
  return naive.written == nullptr ? text : naive.written(text);
}

Outcome run_naive(Bench& bench, const Graph& graph, const Naive& naive) {
  Data data = data_for(graph);
  Image image = image_of(graph, data.weights);
  image.text = naive_text(graph, naive);
  if (naive.before != nullptr) naive.before(bench);
  const std::unique_ptr<Model> model = bench.model(image);
  for (const auto call : {&Model::compile, &Model::load})
    if (Status status = (*model.*call)(); !status.ok()) return {status};
  if (naive.loaded != nullptr) naive.loaded(*model, data);
  const NaiveSurfaces surfaces = naive_surfaces(bench, graph, data, naive);
  REQUIRE(model->bind(surfaces.inputs, surfaces.outputs).ok());
  if (Status status = model->evaluate(); !status.ok()) return {status};
  return {{}, error_of(surfaces, graph, data, naive)};
}

// -- the rows ------------------------------------------------------------------------------------------

struct Row {
  int paper;
  std::string_view limit;
  Build build;
  Naive naive = {};
  // Where the constraint is not one of programs: what goes wrong on a machine, and how we do it there.
  void (*fails)(const Profile& machine) = nullptr;
  void (*works)(const Profile& machine) = nullptr;
};

AneDevice device_of(const Profile& machine, Update update = Update::automatic) {
  return {"sim:" + machine.name, sim::open_simulator(machine), machine, update};
}

void write_inputs(Program& program, const Data& data) {
  for (const auto& [name, value] : data.inputs)
    std::memcpy(program.buffer(name).data(), value.data(), value.bytes());
}

void check_results(Program& program, const Graph& graph, const Data& data) {
  write_inputs(program, data);
  program.run();
  for (const auto& [name, wanted] : evaluate(graph, data.inputs, data.weights)) {
    CAPTURE(name);
    CHECK(relative_error(program.buffer(name), wanted) < 4e-3);
  }
}

Graph built(Build build) {
  Graph graph;
  build(graph);
  return graph;
}

void check_ours(Build build, const Profile& machine) {
  const Graph graph = built(build);
  const Data data = data_for(graph);
  AneDevice device = device_of(machine);
  check_results(*device.compile(graph, device.load(data.weights)), graph, data);
}

// 5: what is compiled is kept; a spent budget is said in words, before the compiler fails without any.
void keep_programs(const Profile& machine) {
  AneDevice device = device_of(machine);
  const auto none = device.load({});
  std::vector<std::unique_ptr<Program>> programs;
  for (int i = 0; i < machine.compile_budget; ++i) programs.push_back(device.compile(numbered(i), none));
  CHECK_THROWS_WITH_AS(device.compile(numbered(-1), none),
                       doctest::Contains("this process has used its 119 compiles"), DeviceError);
  const Graph graph = numbered(7);
  check_results(*device.compile(graph, none), graph, data_for(graph));
  CHECK(sim::counters(machine.name).compiles == machine.compile_budget);
}

// 7
void update_weights(const Profile& machine) {
  const Graph graph = built(weighted);
  Data data = data_for(graph);
  AneDevice device = device_of(machine);
  const auto program = device.compile(graph, device.load(data.weights));
  Random random(9);
  data.weights.at("w") = random_tensor(data.weights.at("w").type(), random);
  program->weights()->update(data.weights);
  check_results(*program, graph, data);
}

// 15: as many weight sets as need two processes when each is compiled
constexpr int weight_sets = 130;

void compile_every_weight_set(const Profile& machine) {
  Bench bench(machine);
  const auto first = bench.model(image_of(numbered(0)));
  int restarts = 0;
  for (int i = 0; i < weight_sets; ++i) {
    const auto model = bench.model(image_of(numbered(i)));
    if (model->compile().ok()) continue;
    CHECK(first->compiled_exists());
    sim::restart(machine.name);
    ++restarts;
    CHECK_FALSE(first->compiled_exists());  // with the process goes what it had compiled
    REQUIRE(model->compile().ok());
  }
  CHECK(restarts == 1);
}

void update_every_weight_set(const Profile& machine) {
  const Graph graph = built(
      [](Graph& g) { g.output("y", ops::mul(input(g, "x"), g.weight("w", {DType::fp16, {1, 384, 1, 1}}))); });
  Data data = data_for(graph);
  AneDevice device = device_of(machine);
  const auto program = device.compile(graph, device.load(data.weights));
  for (int i = 0; i < weight_sets; ++i) {
    Random random(static_cast<std::uint64_t>(i));
    data.weights.at("w") = random_tensor(data.weights.at("w").type(), random);
    program->weights()->update(data.weights);
  }
  check_results(*program, graph, data);
  CHECK(sim::counters(machine.name).compiles < machine.compile_budget / 4);
}

#ifdef ORION_SIMULATED_FRAMEWORK
// 9 and 11: what is raised ends a process that does not catch it.
void text_as_string(const Profile&) {
  CHECK(std::string_view(framework_library().text_as_string()).starts_with("NSInvalidArgumentException: "));
}

void no_weights(const Profile&) {
  CHECK(framework_library().no_weights() ==
        std::string("NSInvalidArgumentException: a dictionary of weights and no plist, please"));
}

// A program without weights, through framework.mm.
void through_framework(const Profile& machine) {
  const Environment hardware("ORION_SIM_PROFILE", std::string(paper_machine));
  const Graph graph = built(activated);
  const Profile& profile = find_profile(paper_machine);
  AneDevice device("ane", open_over_simulator(machine.name), profile, Update::automatic);
  check_results(*device.compile(graph, device.load({})), graph, data_for(graph));
}
#else
void text_as_string(const Profile&) {
  MESSAGE("constraint 9 needs the simulated framework, which this build has not");
}
void no_weights(const Profile&) {
  MESSAGE("constraint 11 needs the simulated framework, which this build has not");
}
constexpr auto through_framework = nullptr;
#endif

const Row rows[] = {
    {1, "concat-rejected", joined},
    {2, "uniform-outputs", outputs_of_two_sizes},
    {3, "outputs-alphabetical", outputs_out_of_order},
    {4, "minimum-surface", small, {.least_surface = 0}},
    {5, "compile-budget", activated, {.before = spend_budget}, nullptr, keep_programs},
    {6, "sdpa-mask-ignored", masked_attention},
    {7, "weights-baked", weighted, {.loaded = change_weight_file}, nullptr, update_weights},
    {8, "blob-offset", weighted, {.written = offset_of_bytes}},
    {9, "text-is-data", activated, {}, text_as_string, through_framework},
    {10, "gelu-rejected", gelu},
    {11, "weights-dictionary", activated, {}, no_weights, through_framework},
    {12, "matmul-flags-named", transposed_product, {.written = flag_inline}},
    {13, "conv-bias-rejected", biased},
    {14, "outputs-live", passed_on, {.written = returns_input}},
    {15, "restart-costs", activated, {}, compile_every_weight_set, update_every_weight_set},
    {16, "conv-32k-channels", vocabulary},
    {17, "matmul-slower-than-conv", weighted_product},
    {18, "uniform-inputs", inputs_of_two_sizes},
    {19, "inputs-alphabetical", inputs_out_of_order},
    {20, "surfaces-packed", rows_of_32_bytes, {.row_stride = 64}},
};

// A machine of its own, which has compiled nothing yet.
Profile machine_for(const Row& row, std::string_view use, const Profile& like) {
  Profile machine = like;
  machine.name = str(like.name, '-', row.limit, '-', use);
  return machine;
}

std::set<std::string_view> limits_crossed(std::string_view text, const Profile& profile) {
  std::set<std::string_view> ids;
  for (const Violation& violation : violations(text, profile)) ids.insert(violation.limit->id);
  return ids;
}

// As the table of limits says that it shows.
void check_failure(const Row& row, const Outcome& outcome, const std::set<std::string_view>& crossed) {
  const std::string marked = str('[', row.limit, ':');
  const std::string& text = outcome.status.text;
  switch (limit(row.limit).effect) {
    case Effect::compile_error:
      CHECK(outcome.status.call == "compile");
      CHECK_MESSAGE(text.find("ANECCompile() FAILED") != std::string::npos, text);
      CHECK_MESSAGE(text.find(marked) != std::string::npos, text);
      return;
    case Effect::evaluate_error:
      CHECK(outcome.status.call == "evaluate");
      CHECK_MESSAGE(text.find("status=0x1d") != std::string::npos, text);
      CHECK_MESSAGE(text.find(marked) != std::string::npos, text);
      return;
    case Effect::wrong_data:
      REQUIRE_MESSAGE(outcome.status.ok(), outcome.status.message());
      CHECK(outcome.error > 0.1);
      return;
    case Effect::slow:
      REQUIRE_MESSAGE(outcome.status.ok(), outcome.status.message());
      CHECK(outcome.error < 4e-3);
      CHECK(crossed.contains(row.limit));
      return;
    case Effect::load_error:
    case Effect::hang_or_crash:
      FAIL("no program shows this effect");
  }
}

}  // namespace

TEST_CASE("paper: each of the twenty has one row, and holds on the paper's machine") {
  int number = 0;
  for (const Row& row : rows) {
    CAPTURE(row.limit);
    CHECK(row.paper == ++number);
    CHECK(limit(row.limit).paper == row.paper);
    CHECK(find_profile(paper_machine).has(row.limit));
    CHECK(find_profile("strict").has(row.limit));
  }
  CHECK(number == 20);
  CHECK(std::ranges::count_if(all_limits(), [](const Limit& row) { return row.paper != 0; }) == 20);
}

TEST_CASE("paper: a program that does not know fails as described, and for no other reason") {
  for (const Row& row : rows) {
    CAPTURE(row.limit);
    const Profile machine = machine_for(row, "naive", find_profile(paper_machine));
    if (row.fails != nullptr) {
      row.fails(machine);
      continue;
    }
    const Graph graph = built(row.build);
    const std::set<std::string_view> crossed = limits_crossed(naive_text(graph, row.naive), machine);
    CHECK((crossed.empty() || crossed == std::set{row.limit}));
    Bench bench(machine);
    check_failure(row, run_naive(bench, graph, row.naive), crossed);
  }
}

TEST_CASE("paper: our program of the same graph runs on every machine") {
  for (const Row& row : rows) {
    for (const Profile& profile : all_profiles()) {
      CAPTURE(row.limit);
      CAPTURE(profile.name);
      check_ours(row.build, machine_for(row, "ours", profile));
    }
  }
}

TEST_CASE("paper: what is no constraint of programs has a way of its own") {
  for (const Row& row : rows) {
    CAPTURE(row.limit);
    if (row.works != nullptr) row.works(machine_for(row, "way", find_profile(paper_machine)));
  }
}
