// P9, P12, P13: what one process can do.
#include "ane/probe_trial.h"
#include "ane/probes.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <array>
#include <thread>

namespace orion::ane {
namespace {

const TensorType plane{DType::fp16, {1, 64, 1, 64}};

// A program of its own for each number.
Graph scaling(int number) {
  Graph graph;
  const Value x = graph.input("x_in", plane);
  graph.output("z_out", ops::mul(x, graph.scalar(DType::fp16, 1.0 + number * 0x1p-10)));
  return graph;
}

struct Compiled {
  std::vector<std::unique_ptr<Model>> models;
  Status stopped;  // by the first that failed
};

Compiled compile_many(Engine& engine, int count) {
  Compiled result;
  for (int i = 0; i < count && result.stopped.ok(); ++i) {
    std::unique_ptr<Model> model;
    result.stopped = engine.create_model(program_of(scaling(i)).text, {}, model);
    if (result.stopped.ok()) result.stopped = model->compile();
    if (result.stopped.ok()) result.models.push_back(std::move(model));
  }
  return result;
}

int load_many(std::span<const std::unique_ptr<Model>> models, Status& stopped) {
  int loaded_now = 0;
  for (const std::unique_ptr<Model>& model : models) {
    stopped = model->load();
    if (!stopped.ok()) break;
    ++loaded_now;
  }
  return loaded_now;
}

}  // namespace

// Models compiled before the budget ended are loaded, so a budget below the number of loaded programs hides
// that.
void probe_process_limits(Engine& engine, ProbeResult& result) {
  constexpr int most_compiled = 200;
  constexpr int most_loaded = 130;
  const Compiled compiled = compile_many(engine, most_compiled);
  const auto count = static_cast<int>(compiled.models.size());
  find(result, "compile-budget", count < most_compiled,
       str(count, " compiled", compiled.stopped.ok() ? "" : str(", then ", compiled.stopped.message())));
  if (count < most_compiled) result.numbers["compile_budget"] = count;

  Status stopped;
  const std::span<const std::unique_ptr<Model>> models(compiled.models);
  const int held = load_many(models.first(static_cast<std::size_t>(std::min(count, most_loaded))), stopped);
  note(result, str(held, " loaded", stopped.ok() ? "" : str(", then ", stopped.message())));
  if (!stopped.ok()) {
    result.limits.push_back({"loaded-programs", true});
    result.numbers["loaded_programs"] = held;
  } else if (held == most_loaded) {
    result.limits.push_back({"loaded-programs", false});
  }
  for (int i = 0; i < held; ++i)
    if (const Status status = models[static_cast<std::size_t>(i)]->unload(); !status.ok())
      return note(result, status.message());
  result.result = answer_of(result.limits);
}

namespace {

std::string two_functions() {
  const auto function = [](std::string_view name, std::string_view op) {
    return str("    func ", name, "<ios18>(tensor<fp16, [1, 64, 1, 64]> in_", name,
               ") {\n        tensor<fp16, [1, 64, 1, 64]> out_", name, " = ", op, "(x = in_", name,
               ");\n    } -> (out_", name, ");\n");
  };
  return str("program(1.3)\n{\n", function("main", "relu"), function("second", "tanh"), "}\n");
}

std::string listed(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const std::int64_t number : numbers) text += str(text.empty() ? "" : ", ", number);
  return text.empty() ? "none" : text;
}

// The second function by this request; whether it computed tanh.
bool computes_second(Engine& engine, Model& model, const Procedure& procedure, ProbeResult& result,
                     std::string_view what) {
  const Bound input{"in_second", noise(plane)};
  std::vector<Bound> outputs = {{"out_second", Tensor(plane)}};
  const Status status = evaluate(engine, model, {&input, 1}, outputs, {}, &procedure);
  Graph graph;
  graph.output("z_out", ops::tanh(graph.input("x_in", plane)));
  const bool right =
      status.ok() && close(outputs[0].value, evaluate(graph, {{"x_in", input.value}}).at("z_out"));
  note(result, str(what, ": inputs ", listed(procedure.inputs), ", outputs ", listed(procedure.outputs), ": ",
                   !status.ok() ? status.message()
                   : right      ? "right"
                                : "wrong values"));
  return right;
}

}  // namespace

// Where the layout is not told, the second function is asked for by what is reported: symbols are numbered
// on.
void probe_procedures(Engine& engine, ProbeResult& result) {
  Status status;
  const std::unique_ptr<Model> model = loaded(engine, {two_functions()}, status);
  if (model == nullptr) {
    result.result = Answer::no;
    return note(result, status.message());
  }
  Layout layout;
  status = model->layout(layout);
  if (status.ok())
    note(result, str("procedures reported: ", layout.others.size() + 1));
  else
    note(result, status.message());
  const Procedure second =
      layout.others.empty() ? Procedure{1, {1}, {1}} : Procedure(layout.others.front().procedure);
  const bool works = computes_second(engine, *model, second, result, "its own symbols");
  const bool is_lax =
      computes_second(engine, *model, {second.index, {0}, {0}}, result, "the first's symbols");
  if (works) result.limits.push_back({"procedure-symbols", !is_lax});
  result.result = works ? Answer::yes : Answer::no;
}

namespace {

constexpr int rounds = 20;

// Whether every round gave the right values.
void evaluate_rounds(Engine& engine, Model& model, int number, Status& status, bool& right) {
  const Bound input{"x_in", noise(plane, static_cast<std::uint32_t>(number) + 1)};
  const Tensor expected = evaluate(scaling(number), {{"x_in", input.value}}).at("z_out");
  for (int round = 0; round < rounds && status.ok(); ++round) {
    std::vector<Bound> outputs = {{"z_out", Tensor(plane)}};
    status = evaluate(engine, model, {&input, 1}, outputs);
    right = right && status.ok() && close(outputs[0].value, expected);
  }
}

}  // namespace

void probe_threads(Engine& engine, ProbeResult& result) {
  std::array<Status, 2> status;
  std::array<bool, 2> right = {true, true};
  std::array<std::unique_ptr<Model>, 2> models;
  for (std::size_t i = 0; i < models.size(); ++i) {
    models[i] = loaded(engine, program_of(scaling(static_cast<int>(i))), status[i]);
    if (models[i] == nullptr) return note(result, status[i].message());
  }
  std::thread other([&] { evaluate_rounds(engine, *models[1], 1, status[1], right[1]); });
  evaluate_rounds(engine, *models[0], 0, status[0], right[0]);
  other.join();
  for (const Status& one : status)
    if (!one.ok()) note(result, one.message());
  note(result,
       right[0] && right[1] ? str(rounds, " evaluations of two programs each, all right") : "wrong values");
  result.result = right[0] && right[1] ? Answer::yes : Answer::no;
}

}  // namespace orion::ane
