// Which update strategies have an effect on this chip and system.
#include "ane/legal_program.h"
#include "ane/surface_set.h"
#include "ane/weight_update.h"
#include "orion/error.h"
#include "orion/ops.h"

#include <chrono>
#include <random>

namespace orion::ane {
namespace {

// Sizes that every reported rule takes: a surface of 48 KiB, 64 columns.
constexpr std::int64_t channels = 384;
constexpr std::int64_t columns = 64;
const TensorType x_type{DType::fp16, {1, channels, 1, columns}};
const TensorType w_type{DType::fp16, {channels, channels, 1, 1}};

const Port x_port{"x", x_type};
const Port y_port{"y", x_type};

Tensor pattern(const TensorType& type, double scale, std::uint32_t seed = 1) {
  Tensor values(TensorType{DType::fp32, type.shape});
  std::uint32_t state = seed;
  for (float& value : values.as<float>()) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(scale * (static_cast<double>(state >> 8U) / 16777216.0 - 0.5));
  }
  return convert(values, type.dtype);
}

Blueprint convolution() {
  Graph graph("update_test");
  const Value x = graph.input("x", x_type);
  graph.output("y", ops::conv(x, graph.weight("w", w_type)));
  return make_blueprint(graph);
}

Image with_weight(const Blueprint& blueprint, const Tensor& w) {
  return make_image(blueprint, [&](const mil::BlobEntry&) { return w; });
}

Tensor output_of(Runtime& runtime, Loaded& loaded) {
  SurfaceSet surfaces(runtime, loaded, {&x_port, 1}, {&y_port, 1});
  surfaces.write("x", pattern(x_type, 1.0));
  surfaces.run(loaded);
  Tensor y(x_type);
  surfaces.read("y", y);
  return y;
}

struct Case {
  Blueprint blueprint = convolution();
  Tensor before = pattern(w_type, 0.05);
  Tensor after = pattern(w_type, 0.15, std::random_device{}());
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// An update as it went.
struct Trial {
  Verdict verdict;
  Tensor stale;    // outputs before it
  Tensor updated;  // and after; empty if it failed
};

// Old program, update, output.
void try_reload(Runtime& runtime, const Case& test, Trial& trial) {
  const Update update = trial.verdict.update;
  const Image before = with_weight(test.blueprint, test.before);
  const std::shared_ptr<Loaded> old =
      update == Update::delta ? runtime.load_apart(before) : runtime.compile(before);
  trial.stale = output_of(runtime, *old);
  const Patch patch{test.blueprint.entries.front().offset, test.after};
  const auto image = [&] { return with_weight(test.blueprint, test.after); };
  const auto start = std::chrono::steady_clock::now();
  const std::shared_ptr<Loaded> updated = reload(runtime, old, image, {&patch, 1}, update);
  trial.verdict.seconds = seconds_since(start);
  trial.updated = output_of(runtime, *updated);
}

// The new outputs must be what a fresh compile of the new weights gives, and not what the old ones gave.
Verdict compared(const Trial& trial, const Tensor& expected) {
  Verdict verdict = trial.verdict;
  if (trial.updated.empty()) return verdict;
  const bool is_stale = trial.updated.identical(trial.stale);
  verdict.eligible = trial.updated.identical(expected) && !is_stale;
  if (verdict.eligible)
    verdict.reason.clear();  // of a first attempt
  else
    verdict.reason = is_stale ? "accepted, but the engine goes on with the old weights"
                              : "outputs are neither those of the old weights nor of the new";
  return verdict;
}

std::vector<Port> ports_of(const std::vector<PortUse>& uses) {
  std::vector<Port> ports;
  for (const PortUse& use : uses) ports.push_back({use.name, use.type});
  return ports;
}

// w x with both as inputs.
Graph product_of_inputs() {
  Graph graph("update_test");
  const Value w = graph.input("w", {DType::fp16, {channels, channels}});
  const Value x = graph.input("x", {DType::fp16, {channels, columns}});
  graph.output("y", ops::matmul(w, x));
  return graph;
}

Tensor product_with(SurfaceSet& surfaces, Loaded& loaded, const LegalProgram& legal, const Tensor& weight) {
  const Tensor x = pattern({DType::fp16, {channels, columns}}, 1.0);
  for (const PortUse& use : legal.inputs) {
    const Tensor port(use.type);
    write_port(use, use.source == "w" ? weight.reshaped({channels, channels}) : x, port);
    surfaces.write(use.name, port);
  }
  surfaces.run(loaded);
  const Tensor y(x.type());
  for (const PortUse& use : legal.outputs) {
    const Tensor port(use.type);
    surfaces.read(use.name, port);
    read_port(use, port, y);
  }
  return y;
}

// Weights as an input of a product: writing the surface is the whole update.
void try_input(Runtime& runtime, const Case& test, Trial& trial, Tensor& expected) {
  const LegalProgram legal = legalize_program(product_of_inputs(), runtime.profile());
  const std::shared_ptr<Loaded> loaded = runtime.compile({mil::emit(legal.graph), {}});
  SurfaceSet used(runtime, *loaded, ports_of(legal.inputs), ports_of(legal.outputs));
  trial.stale = product_with(used, *loaded, legal, test.before);
  const auto start = std::chrono::steady_clock::now();
  const Tensor updated = product_with(used, *loaded, legal, test.after);
  trial.verdict.seconds = seconds_since(start);
  SurfaceSet fresh(runtime, *loaded, ports_of(legal.inputs), ports_of(legal.outputs));
  expected = product_with(fresh, *loaded, legal, test.after);
  trial.updated = updated;
}

// What went wrong once may have been an accident, which must not decide for good.
template <class Try>
Trial tried(Update update, const Try& attempt) {
  Trial trial{.verdict = {.update = update, .eligible = false, .seconds = 0.0, .reason = {}},
              .stale = {},
              .updated = {}};
  for (int i = 0; i < 2 && trial.updated.empty(); ++i) {
    try {
      attempt(trial);
    } catch (const Error& error) {
      trial.verdict.reason = error.what();
    }
  }
  return trial;
}

Trial reloaded(Runtime& runtime, const Case& test, Update update) {
  return tried(update, [&](Trial& trial) { try_reload(runtime, test, trial); });
}

Verdict judged_input(Runtime& runtime, const Case& test) {
  Tensor expected;
  const Trial trial =
      tried(Update::input, [&](Trial& attempt) { try_input(runtime, test, attempt, expected); });
  return compared(trial, expected);
}

}  // namespace

// A new identity is loaded before anything has compiled the new weights, which no process has had before: so
// it is this load that makes a program of them, not what a compile has left.
std::vector<Verdict> test_updates(Runtime& runtime) {
  const Case test;
  const Trial unseen = reloaded(runtime, test, Update::new_identity);
  const Tensor expected = output_of(runtime, *runtime.compile(with_weight(test.blueprint, test.after)));
  std::vector<Verdict> verdicts;
  for (const Update update : tested_updates) {
    if (update == Update::input)
      verdicts.push_back(judged_input(runtime, test));
    else if (update == Update::new_identity)
      verdicts.push_back(compared(unseen, expected));
    else
      verdicts.push_back(compared(reloaded(runtime, test, update), expected));
  }
  const Verdict& recompiled = verdicts.back();
  if (recompiled.eligible) return verdicts;
  throw DeviceError(
      str("update: the self-test failed: even ", update_name(recompiled.update), ": ", recompiled.reason));
}

}  // namespace orion::ane
