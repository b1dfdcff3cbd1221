// What the simulated engine takes, and how it fails.
#include "base/file.h"
#include "base/sha256.h"
#include "orion/weight_file.h"
#include "sim_bench.h"

#include <thread>

using namespace orion;
using namespace sim_bench;
using Kind = ane::Status::Kind;

namespace {

namespace fs = std::filesystem;

const TensorType port{DType::fp16, {1, 2, 1, 4}};

Graph sum() {
  Graph g;
  const Value b = g.input("b", port);
  const Value a = g.input("a", port);
  g.output("y", ops::sub(a, b));
  return g;
}

// y = w x, channel by channel.
Graph scaled() {
  Graph g;
  g.output("y", ops::mul(g.input("x", port), g.weight("w", {DType::fp16, {1, 2, 1, 1}})));
  return g;
}

ane::Image scaled_by(double factor) {
  return image_of(scaled(), {{"w", halves({1, 2, 1, 1}, {factor, factor})}});
}

// Another identity for each number.
ane::Image numbered(int number) {
  Graph g;
  const Value x = g.input("x", port);
  g.output("y", ops::add(x, g.scalar(DType::fp16, number)));
  return image_of(g);
}

std::string text_of(std::string_view inputs, std::string_view body) {
  return str("program(1.3) { func main<ios18>(", inputs, ") { ", body, " } -> (y); }");
}

constexpr std::string_view x4 = "tensor<fp16, [1, 2, 1, 4]> x";

ane::Status compiled(Bench& bench, std::string_view text, std::span<const ane::WeightFileData> files = {}) {
  return bench.model(text, files)->compile();
}

// A request with surfaces of zeros, by default large enough for `port` with padded rows.
struct Bound {
  Bound(Bench& bench, ane::Model& model, std::size_t inputs, std::size_t bytes = 8 * 64) {
    std::vector<ane::Surface*> in;
    for (std::size_t i = 0; i < inputs; ++i)
      in.push_back(surfaces.emplace_back(bench.surface(Tensor(port), bytes)).get());
    output = bench.surface(bytes);
    ane::Surface* const out[] = {output.get()};
    REQUIRE(model.bind(in, out).ok());
  }

  void write(std::size_t input, const Tensor& value) {
    REQUIRE(surfaces[input]->lock(false).ok());
    std::memcpy(surfaces[input]->base(), value.data(), value.bytes());
    REQUIRE(surfaces[input]->unlock().ok());
  }

  std::vector<std::unique_ptr<ane::Surface>> surfaces;
  std::unique_ptr<ane::Surface> output;
};

ane::Profile packed(std::string name, std::vector<std::string> limits = {}) {
  ane::Profile profile = profile_with(std::move(name), std::move(limits));
  profile.row_alignment = 1;
  return profile;
}

const Tensor ones = halves(port.shape, {1, 1, 1, 1, 1, 1, 1, 1});
const Tensor digits = halves(port.shape, {1, 2, 3, 4, 5, 6, 7, 8});

// What a loaded `scaled` makes of ones.
double factor_of(Bench& bench, ane::Model& model) {
  Bound bound(bench, model, 1);
  bound.write(0, ones);
  const ane::Status status = model.evaluate();
  REQUIRE_MESSAGE(status.ok(), status.message());
  return Bench::content(*bound.output, port).at(0);
}

void patch_weight(const std::string& directory, double factor) {
  const Tensor w = halves({1, 2, 1, 1}, {factor, factor});
  weights::patch(fs::path(directory) / mil::weight_file, std::uint64_t{64}, {w.data(), w.bytes()});
}

bool all_zero(const sim::Counters& c) {
  return c.loaded == 0 && c.models == 0 && c.surfaces == 0 && c.directories == 0;
}

}  // namespace

TEST_CASE("sim: a program from text to result, and nothing left behind") {
  const std::string name = "sim-whole";
  {
    Bench bench(profile_with(name, {}));
    const auto model = bench.loaded(scaled_by(3.0));
    CHECK(factor_of(bench, *model) == 3.0);
    const sim::Counters busy = sim::counters(name);
    CHECK(busy.compiles == 1);
    CHECK(busy.loads == 1);
    CHECK(busy.evaluations == 1);
    CHECK(busy.loaded == 1);
    CHECK(busy.models == 1);
    CHECK(busy.directories == 1);
    CHECK(busy.compiles_on_demand == 0);
  }
  CHECK(all_zero(sim::counters(name)));
}

TEST_CASE("sim: every built-in profile runs a legal program") {
  Graph g;
  const TensorType type{DType::fp16, {1, 768, 1, 32}};
  g.output("y", ops::relu(g.input("x", type)));
  const Tensor x(type);
  x.as<std::uint16_t>()[100] = 0x4000;  // 2
  for (const ane::Profile& profile : ane::all_profiles()) {
    CAPTURE(profile.name);
    Bench bench(profile);
    CHECK(bench.run(g, {x}).identical(x));
  }
}

TEST_CASE("sim: identity is text, weights and options") {
  Bench bench(profile_with("sim-identity", {}));
  const ane::Image image = scaled_by(1.0);
  const auto one = bench.model(image);
  const auto same = bench.model(image);
  const auto other_weights = bench.model(scaled_by(2.0));
  CHECK(one->identifier() == same->identifier());
  CHECK(one->directory() == same->directory());
  CHECK(one->identifier() != other_weights->identifier());
  CHECK(one->identifier().size() == 194);
  CHECK(one->identifier().starts_with(sha256_hex(image.text) + "_"));
  CHECK(one->identifier().ends_with("_" + sha256_hex("")));
}

TEST_CASE("sim: the staging directory holds text and weights, and goes with the last model") {
  const std::string name = "sim-staging";
  Bench bench(profile_with(name, {}));
  const ane::Image image = scaled_by(1.0);
  auto one = bench.model(image);
  auto two = bench.model(image);
  const fs::path directory = one->directory();
  CHECK(read_file(directory / "model.mil") == image.text);
  CHECK(read_file(directory / "net.plist") == image.text);
  CHECK(read_file(directory / mil::weight_file).size() == image.weights.size());
  CHECK(sim::counters(name).directories == 1);
  one.reset();
  CHECK(fs::exists(directory));
  two.reset();
  CHECK_FALSE(fs::exists(directory));
}

TEST_CASE("sim: a weight file outside the directory is refused") {
  Bench bench(profile_with("sim-outside", {}));
  const ane::WeightFileData file{"@model_path/../weight.bin", {}};
  std::unique_ptr<ane::Model> model;
  const ane::Status status = bench.engine->create_model("", {&file, 1}, model);
  CHECK(status.kind == Kind::refused);
  CHECK(status.text.find("@model_path/../weight.bin") != std::string::npos);
}

TEST_CASE("sim: what is not MIL does not compile") {
  Bench bench(profile_with("sim-syntax", {}));
  const ane::Status status = compiled(bench, "program(1.3) { func main<ios18>() { } -> (y); }");
  CHECK(status.kind == Kind::refused);
  CHECK(status.call == "compile");
  CHECK(status.domain == "com.apple.appleneuralengine.compiler");
  CHECK(status.code == 1);
  CHECK(status.text.find("InvalidMILProgram") != std::string::npos);
}

TEST_CASE("sim: a limit that the compiler checks") {
  Bench bench(profile_with("sim-concat", {"concat-rejected"}));
  Graph g;
  const Value x = g.input("x", port);
  g.output("y", ops::concat({x, x}, 1));
  const ane::Status status = bench.model(image_of(g))->compile();
  CHECK(status.code == 1);
  CHECK(status.text.find("concat-rejected") != std::string::npos);
}

TEST_CASE("sim: surfaces are taken in alphabetical order, whatever the text's") {
  Bench bench(packed("sim-order"));
  const auto model = bench.loaded(image_of(sum()));  // declares b, then a
  Bound bound(bench, *model, 2);
  bound.write(0, digits);
  bound.write(1, ones);
  REQUIRE(model->evaluate().ok());
  CHECK(values_of(Bench::content(*bound.output, port)) == std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7});
}

TEST_CASE("sim: a loaded model tells its layout") {
  Bench bench(profile_with("sim-layout", {}));
  const auto model = bench.loaded(image_of(sum()));
  ane::Layout layout;
  REQUIRE(model->layout(layout).ok());
  REQUIRE(layout.inputs.size() == 2);
  CHECK(layout.inputs[0].name == "a");
  CHECK(layout.inputs[1].name == "b");
  const ane::Symbol& y = layout.outputs.at(0);
  CHECK(y.name == "y@output");
  CHECK(y.type == "Float16");
  CHECK(y.channels == 2);
  CHECK(y.width == 4);
  CHECK(y.row_stride == 64);
  CHECK(y.plane_stride == 64);
  CHECK(y.batch_stride == 128);
}

TEST_CASE("sim: a profile that does not tell the layout") {
  ane::Profile profile = profile_with("sim-silent", {});
  profile.layout_reported = false;
  Bench bench(profile);
  const auto model = bench.loaded(image_of(sum()));
  ane::Layout layout;
  CHECK(model->layout(layout).kind == Kind::unavailable);
}

TEST_CASE("sim: rows are padded or packed, and the other form is read wrong") {
  Graph g;
  g.output("y", ops::neg(g.input("x", port)));
  for (const bool is_packed : {true, false}) {
    const std::string name = is_packed ? "sim-rows-packed" : "sim-rows-padded";
    Bench bench(is_packed ? packed(name) : profile_with(name, {}));
    const auto model = bench.loaded(image_of(g));
    Bound bound(bench, *model, 1);
    bound.write(0, digits);  // packed
    REQUIRE(model->evaluate().ok());
    const Tensor rows = Bench::content(*bound.output, {DType::fp16, {2, 32}});
    CHECK(rows.at(0) == -1.0);
    CHECK(rows.at(4) == (is_packed ? -5.0 : 0.0));
    CHECK(rows.at(32) == 0.0);  // the second row, padded, is made of what lies 64 bytes further
  }
}

TEST_CASE("sim: a surface that is too small") {
  for (const bool since_27 : {false, true}) {
    const std::vector<std::string> limits =
        since_27 ? std::vector<std::string>{"small-surface-code-42"} : std::vector<std::string>{};
    Bench bench(profile_with(since_27 ? "sim-small-42" : "sim-small", limits));
    const auto model = bench.loaded(scaled_by(1.0));
    const Bound bound(bench, *model, 1, 100);
    const ane::Status status = model->evaluate();
    CHECK(status.kind == Kind::refused);
    CHECK(status.domain == "com.apple.appleneuralengine");
    CHECK(status.code == (since_27 ? 42 : 8));
    CHECK((status.text.find("status=0x1d") != std::string::npos) != since_27);
  }
}

TEST_CASE("sim: surfaces below the profile's minimum, and of different sizes") {
  ane::Profile profile = packed("sim-minimum", {"uniform-inputs"});
  profile.minimum_surface = 512;
  Bench bench(profile);
  const auto model = bench.loaded(image_of(sum()));
  {
    const Bound below(bench, *model, 2, 511);
    CHECK(model->evaluate().code == 8);
  }
  const auto small = bench.surface(512);
  const auto large = bench.surface(1024);
  ane::Surface* const same[] = {small.get(), small.get()};
  ane::Surface* const different[] = {small.get(), large.get()};
  ane::Surface* const out[] = {large.get()};
  REQUIRE(model->bind(same, out).ok());
  CHECK(model->evaluate().ok());
  REQUIRE(model->bind(different, out).ok());
  CHECK(model->evaluate().text.find("uniform-inputs") != std::string::npos);
}

TEST_CASE("sim: a wrong number of surfaces") {
  Bench bench(packed("sim-number"));
  const auto model = bench.loaded(image_of(sum()));
  const Bound bound(bench, *model, 1);
  CHECK(model->evaluate().code == 8);
}

TEST_CASE("sim: a limit that shows when the program runs") {
  ane::Profile profile = packed("sim-width", {"minimum-width"});
  profile.minimum_width = 16;
  Bench bench(profile);
  const auto model = bench.loaded(scaled_by(1.0));
  const Bound bound(bench, *model, 1);
  const ane::Status status = model->evaluate();
  CHECK(status.text.find("status=0x1d") != std::string::npos);
  CHECK(status.text.find("minimum-width") != std::string::npos);
}

TEST_CASE("sim: fp32 ports give zeros where the profile says so") {
  Graph g;
  const TensorType wide{DType::fp32, {1, 1, 1, 2}};
  g.output("y", ops::neg(g.input("x", wide)));
  const Tensor x(wide);
  x.as<float>()[1] = 2.0F;
  CHECK(values_of(Bench(packed("sim-fp32-zero", {"fp32-ports"})).run(g, {x})) == std::vector{0.0, 0.0});
  CHECK(values_of(Bench(packed("sim-fp32")).run(g, {x})) == std::vector{0.0, -2.0});
}

TEST_CASE("sim: tile poisons the process until it starts anew") {
  const std::string name = "sim-tile";
  Bench bench(packed(name, {"tile-poisons"}));
  const auto healthy = bench.loaded(scaled_by(1.0));
  CHECK(factor_of(bench, *healthy) == 1.0);
  const std::string text =
      text_of(x4, "tensor<fp16, [1, 2, 1, 4]> y = tile(x = x, reps = tensor<int32, [4]>([1, 1, 1, 1]));");
  const auto tile = bench.loaded({text, {}});
  const Bound bound(bench, *tile, 1);
  CHECK(tile->evaluate().code == 8);
  const Bound again(bench, *healthy, 1);
  CHECK(healthy->evaluate().code == 8);
  sim::restart(name);
  CHECK(factor_of(bench, *healthy) == 1.0);
}

TEST_CASE("sim: an int8 input lies in bytes, and goes into dequantize only") {
  Bench bench(packed("sim-int8"));
  const auto text = [](std::string_view statement) {
    return str("program(1.3)\n{\n func main<ios18>(tensor<int8, [1, 2, 1, 4]> w) {\n", statement,
               "\n } -> (z);\n}\n");
  };
  const std::string half = "tensor<fp16, [1, 2, 1, 4]> z = ";
  const auto model = bench.loaded({text(half + "dequantize(input = w, scale = fp16(0.5));"), {}});
  ane::Layout layout;
  REQUIRE(model->layout(layout).ok());
  CHECK(layout.inputs[0].type == "Int8");
  CHECK(layout.inputs[0].row_stride == 4);
  CHECK(layout.outputs[0].row_stride == 8);
  for (const char* refused : {"relu(x = w)", "dequantize(input = w, scale = fp16(1), zero_point = int8(1))",
                              "dequantize(scale = fp16(1), input = w)", "mul(x = fp16(1), y = w)"}) {
    CAPTURE(std::string(refused));
    const ane::Status status = compiled(bench, text(half + refused + ";"), {});
    CHECK(status.text.find("the int8 input 'w' in dequantize(input, scale) only") != std::string::npos);
  }
}

TEST_CASE("sim: a program that hangs does not answer") {
  Graph g;
  g.output("y", ops::relu(g.input("x", {DType::fp16, {1, 1, 1, 16385}})));
  Bench bench(packed("sim-hang", {"flat-axis-hangs-m1"}));
  const auto model = bench.loaded(image_of(g));
  const Bound bound(bench, *model, 1, 16385 * 2);
  CHECK(model->evaluate().kind == Kind::timed_out);
}

TEST_CASE("sim: a wrong blob offset is read, and is garbage") {
  Bench bench(packed("sim-offset"));
  ane::Image image = scaled_by(2.0);
  const std::size_t at = image.text.find("uint64(64)");
  REQUIRE(at != std::string::npos);
  image.text.replace(at, 10, "uint64(128)");
  const auto model = bench.loaded(image);
  CHECK(factor_of(bench, *model) != 2.0);
}

TEST_CASE("sim: a missing weight file does not compile") {
  Bench bench(packed("sim-missing"));
  const ane::Status status = compiled(bench, scaled_by(1.0).text);
  CHECK(status.code == 1);
  CHECK(status.text.find("weight.bin") != std::string::npos);
}

TEST_CASE("sim: macOS 27 takes one weight file, as it was handed over") {
  ane::Profile profile = packed("sim-one-file", {"one-weight-file"});
  profile.weight_files_per_program = 1;
  Bench bench(profile);
  const ane::Image image = scaled_by(1.0);
  const ane::WeightFileData files[] = {{std::string(ane::weight_path), image.weights},
                                       {"@model_path/weights/more.bin", image.weights}};
  const ane::Status two = compiled(bench, image.text, files);
  CHECK(two.code == 10);
  CHECK(two.text.find("verifyBundleAtPath: invalid model") != std::string::npos);
  const auto model = bench.model(image);
  patch_weight(model->directory(), 2.0);
  CHECK(model->compile().text.find("hash mismatch") != std::string::npos);
  CHECK(model->load().code == 10);  // which would compile on demand
}

TEST_CASE("sim: a known identity loads what was compiled, whatever the files say") {
  const std::string name = "sim-cached";
  Bench bench(packed(name));
  const auto model = bench.loaded(scaled_by(2.0));
  REQUIRE(model->unload().ok());
  CHECK_FALSE(fs::exists(model->directory()));
  const auto sibling = bench.model(scaled_by(2.0));  // stages the directory anew
  patch_weight(model->directory(), 3.0);
  REQUIRE(model->load().ok());
  CHECK(factor_of(bench, *model) == 2.0);
  REQUIRE(model->unload().ok());
  REQUIRE(model->purge().ok());
  CHECK_FALSE(model->compiled_exists());
  CHECK(model->load().kind == Kind::refused);  // the directory went with unload
  patch_weight(bench.model(scaled_by(2.0))->directory(), 3.0);
  CHECK(sim::counters(name).compiles == 1);
}

TEST_CASE("sim: a reload that reads the files") {
  ane::Profile profile = packed("sim-reload");
  profile.reload_reads_files = true;
  Bench bench(profile);
  const auto model = bench.loaded(scaled_by(2.0));
  for (int i = 0; i < 5; ++i) {
    REQUIRE(model->unload().ok());
    patch_weight(model->directory(), i);
    REQUIRE(model->load().ok());
    CHECK(factor_of(bench, *model) == i);
  }
}

TEST_CASE("sim: loading what was never compiled compiles it, beside the budget") {
  const std::string name = "sim-on-demand";
  ane::Profile profile = packed(name);
  profile.compile_budget = 1;
  Bench bench(profile);
  for (int i = 0; i < 3; ++i) {
    const auto model = bench.model(scaled_by(i));
    CHECK_FALSE(model->compiled_exists());
    REQUIRE(model->load().ok());
    CHECK(model->compiled_exists());
    CHECK(factor_of(bench, *model) == i);
  }
  CHECK(sim::counters(name).compiles == 0);
  CHECK(sim::counters(name).compiles_on_demand == 3);
}

TEST_CASE("sim: the compile budget counts attempts, and engines of one profile share it") {
  const std::string name = "sim-budget";
  ane::Profile profile = packed(name);
  profile.compile_budget = 3;
  Bench first(profile);
  Bench second(profile);
  CHECK(first.model(numbered(0))->compile().ok());
  CHECK_FALSE(compiled(second, "nonsense").ok());
  CHECK(second.model(numbered(1))->compile().ok());
  const ane::Status spent = first.model(numbered(2))->compile();
  CHECK(spent.text.find("compile-budget") != std::string::npos);
  CHECK(first.model(numbered(1))->compiled_exists());
  sim::restart(name);
  CHECK_FALSE(first.model(numbered(1))->compiled_exists());
  CHECK(first.model(numbered(2))->compile().ok());
}

TEST_CASE("sim: a process holds so many loaded programs") {
  const std::string name = "sim-loaded";
  Bench first(packed(name));
  Bench second(packed(name));
  std::vector<std::unique_ptr<ane::Model>> models;
  for (int i = 0; i < 128; ++i) {
    models.push_back((i % 2 == 0 ? first : second).model(numbered(i)));
    REQUIRE(models.back()->load().ok());
  }
  const auto model = first.model(numbered(128));
  const ane::Status status = model->load();
  CHECK(status.code == 6);
  CHECK(status.text.find("0x50004") != std::string::npos);
  REQUIRE(models.front()->unload().ok());
  CHECK(model->load().ok());
  models.clear();
  CHECK(sim::counters(name).loaded == 1);
}

TEST_CASE("sim: calls out of order") {
  Bench bench(packed("sim-misuse"));
  const auto model = bench.model(scaled_by(1.0));
  ane::Layout layout;
  CHECK(model->unload().kind == Kind::misused);
  CHECK(model->layout(layout).kind == Kind::misused);
  CHECK(model->bind({}, {}).kind == Kind::misused);
  CHECK(model->evaluate().kind == Kind::misused);
  REQUIRE(model->load().ok());
  CHECK(model->load().kind == Kind::misused);
  CHECK(model->evaluate().kind == Kind::misused);  // nothing is bound
  ane::Surface* const none[] = {nullptr};
  CHECK(model->bind(none, {}).kind == Kind::misused);
  const auto surface = bench.surface(8);
  CHECK(surface->base() == nullptr);
  CHECK(surface->unlock().kind == Kind::misused);
}

TEST_CASE("sim: a request keeps its surfaces' memory") {
  Bench bench(packed("sim-request"));
  const auto model = bench.loaded(scaled_by(1.0));
  {
    const Bound gone(bench, *model, 1);
  }
  CHECK(model->evaluate().ok());
  CHECK(sim::counters("sim-request").surfaces == 0);
}

TEST_CASE("sim: many threads") {
  const std::string name = "sim-threads";
  Bench bench(packed(name));
  std::vector<double> factors(4);
  {
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < factors.size(); ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 20; ++i) {
          std::unique_ptr<ane::Engine> engine = sim::open_simulator(bench.profile);
          const ane::Image image = scaled_by(static_cast<double>(t));
          const ane::WeightFileData file{std::string(ane::weight_path), image.weights};
          std::unique_ptr<ane::Model> model;
          std::unique_ptr<ane::Surface> x, y;
          if (!engine->create_model(image.text, {&file, 1}, model).ok() || !model->load().ok()) return;
          if (!engine->create_surface(16, x).ok() || !engine->create_surface(16, y).ok()) return;
          ane::Surface* const in[] = {x.get()};
          ane::Surface* const out[] = {y.get()};
          if (!x->lock(false).ok()) return;
          std::memcpy(x->base(), ones.data(), ones.bytes());
          if (!x->unlock().ok() || !model->bind(in, out).ok() || !model->evaluate().ok()) return;
          if (!y->lock(true).ok()) return;
          factors[t] += Tensor::view(port, y->base()).at(3);
        }
      });
    for (std::thread& thread : threads) thread.join();
  }
  CHECK(factors == std::vector{0.0, 20.0, 40.0, 60.0});
  CHECK(all_zero(sim::counters(name)));
}
