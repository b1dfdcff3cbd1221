// P3, P4, P5, P7, P8: how values lie on surfaces, and in which order surfaces are bound.
#include "ane/probe_trial.h"
#include "ane/probes.h"
#include "orion/error.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <algorithm>

namespace orion::ane {
namespace {

constexpr std::int64_t channels = 64;

TensorType plane(std::int64_t width, DType dtype = DType::fp16) {
  return {dtype, {1, channels, 1, width}};
}

struct Doubling {
  Status status;
  bool right = false;
};

// y = x + x, on surfaces laid out as said.
Doubling doubling(Engine& engine, const TensorType& type, const Surfacing& surfacing) {
  Graph graph;
  const Value x = graph.input("x_in", type);
  graph.output("z_out", ops::add(x, x));
  const TensorMap inputs = {{"x_in", noise(type)}};
  std::vector<Bound> outputs = {{"z_out", Tensor(type)}};
  Doubling result{.status = run(engine, program_of(graph), sorted(inputs), outputs, surfacing)};
  result.right = result.status.ok() && close(outputs[0].value, evaluate(graph, inputs).at("z_out"));
  return result;
}

constexpr Surfacing padded{.row_alignment = 64};
constexpr Surfacing packed{.row_alignment = 1};

std::string shown(const Doubling& seen) {
  return !seen.status.ok() ? seen.status.message() : seen.right ? "right" : "wrong values";
}

// Widths whose fp16 rows are no multiple of 64 bytes tell packed from padded; 48 is wide enough for every
// report of a least width.
void probe_padding(Engine& engine, ProbeResult& result) {
  const Doubling as_padded = doubling(engine, plane(48), padded);
  const Doubling as_packed = doubling(engine, plane(48), packed);
  note(result, str("48 columns, rows padded: ", shown(as_padded), ", packed: ", shown(as_packed)));
  if (as_padded.right == as_packed.right) return;
  result.limits.push_back({"rows-padded", as_padded.right});
  result.limits.push_back({"surfaces-packed", as_packed.right});
  result.numbers["row_alignment"] = as_padded.right ? 64 : 1;
}

void probe_width(Engine& engine, ProbeResult& result) {
  std::int64_t least = 0;
  for (const std::int64_t width : {64, 32, 16, 8, 1}) {
    const bool right =
        doubling(engine, plane(width), padded).right || doubling(engine, plane(width), packed).right;
    if (!right) break;
    least = width;
  }
  if (least == 0) return note(result, "64 columns fail");
  find(result, "minimum-width", least > 1, str("least width that works: ", least));
  result.numbers["minimum_width"] = least;
}

void probe_least_surface(Engine& engine, ProbeResult& result) {
  const Doubling exact = doubling(engine, plane(64), {.row_alignment = 64, .least_bytes = 0});
  const Doubling large = doubling(engine, plane(64), padded);
  if (!large.right) return note(result, str("64 columns: ", shown(large)));
  find(result, "minimum-surface", !exact.right, str("surfaces of 8,192 bytes: ", shown(exact)));
  result.numbers["minimum_surface"] = exact.right ? 0 : 49152;
}

void probe_fp32(Engine& engine, ProbeResult& result) {
  const Doubling seen = doubling(engine, plane(64, DType::fp32), padded);
  find(result, "fp32-ports", !seen.right, str("fp32: ", shown(seen)));
}

}  // namespace

void probe_rows(Engine& engine, ProbeResult& result) {
  probe_padding(engine, result);
  probe_width(engine, result);
  probe_least_surface(engine, result);
  probe_fp32(engine, result);
  result.result = answer_of(result.limits);
}

namespace {

// Three inputs and three outputs whose order in the text is not alphabetical, neither by locale.
Graph shuffled() {
  Graph graph;
  const Value b = graph.input("in_b", plane(64));
  const Value c = graph.input("in_K", plane(64));
  const Value a = graph.input("in_a10", plane(64));
  const Value two = graph.scalar(DType::fp16, 2.0);
  graph.output("out_q", ops::sub(ops::mul(b, two), c));
  graph.output("out_k", ops::add(ops::mul(a, two), c));
  graph.output("out_B", ops::relu(a));
  return graph;
}

std::vector<Bound> ordered(const TensorMap& values, std::span<const std::string> names) {
  std::vector<Bound> bound;
  for (const std::string& name : names) bound.push_back({name, values.at(name)});
  return bound;
}

bool agree(std::span<const Bound> outputs, const TensorMap& expected) {
  return std::ranges::all_of(outputs, [&](const Bound& b) { return close(b.value, expected.at(b.name)); });
}

TensorMap empty_like(const TensorMap& values) {
  TensorMap result;
  for (const auto& [name, value] : values) result.emplace(name, Tensor(value.type()));
  return result;
}

std::vector<std::string> names_of(const TensorMap& values) {
  std::vector<std::string> names;
  for (const auto& [name, value] : values) names.push_back(name);
  return names;
}

std::vector<std::string> names_of(std::span<const Symbol> symbols) {
  std::vector<std::string> names;
  for (const Symbol& symbol : symbols) names.push_back(symbol.name);
  return names;
}

std::string joined(std::span<const std::string> names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

void probe_order(Engine& engine, ProbeResult& result) {
  const Graph graph = shuffled();
  TensorMap inputs;
  std::uint32_t seed = 1;
  for (const NodeId id : graph.inputs())
    inputs.emplace(graph.node(id).name, noise(graph.node(id).type, seed++));
  const TensorMap expected = evaluate(graph, inputs);
  Status status;
  const std::unique_ptr<Model> model = loaded(engine, program_of(graph), status);
  if (model == nullptr) return note(result, status.message());

  Layout layout;
  const Status reported = model->layout(layout);
  note(result, reported.ok() ? str("reported: ", joined(names_of(layout.inputs)), " -> ",
                                   joined(names_of(layout.outputs)))
                             : str("no layout: ", reported.message()));
  result.numbers["layout_reported"] = reported.ok() ? 1 : 0;

  const std::vector<std::string> in_names = names_of(inputs);
  std::vector<std::string> out_names = names_of(expected);
  bool descending = false;
  for (const bool last_first : {false, true}) {
    if (last_first) std::ranges::reverse(out_names);
    std::vector<Bound> outputs = ordered(empty_like(expected), out_names);
    status = evaluate(engine, *model, ordered(inputs, in_names), outputs);
    if (!status.ok()) return note(result, status.message());
    if (!agree(outputs, expected)) continue;
    descending = last_first;
    result.limits = {
        {"inputs-alphabetical", true}, {"outputs-alphabetical", !last_first}, {"last-output-only", false}};
  }
  if (result.limits.empty())
    note(result, "inputs in alphabetical order give wrong values");
  else
    note(result, descending ? "inputs ascending, outputs descending" : "both alphabetical");
  result.result = result.limits.empty() ? Answer::no : descending ? Answer::mixed : Answer::yes;
}

namespace {

// Surfaces of exactly the size needed.
bool runs(Engine& engine, ProbeResult& result, std::string_view what, const Graph& graph) {
  TensorMap inputs;
  for (const NodeId id : graph.inputs()) inputs.emplace(graph.node(id).name, noise(graph.node(id).type));
  const TensorMap expected = evaluate(graph, inputs);
  std::vector<Bound> outputs = sorted(empty_like(expected));
  const Status status =
      run(engine, program_of(graph), sorted(inputs), outputs, {.row_alignment = 64, .least_bytes = 0});
  const bool right = status.ok() && agree(outputs, expected);
  note(result, str(what, ": ", !status.ok() ? status.message() : right ? "right" : "wrong values"));
  return right;
}

// Planes of 512 and 1,024 channels: above every least size, and different.
constexpr std::int64_t few = 512;

TensorType wide(std::int64_t count) {
  return {DType::fp16, {1, count, 1, 64}};
}

Graph mixed_inputs() {
  Graph graph;
  const Value small = graph.input("in_a", wide(few));
  const Value large = graph.input("in_b", wide(2 * few));
  graph.output("z_out", ops::add(ops::slice_by_index(large, {0, few, 0, 0}, {1, 2 * few, 1, 64}), small));
  return graph;
}

Graph mixed_outputs() {
  Graph graph;
  const Value x = graph.input("x_in", wide(2 * few));
  graph.output("out_a", ops::relu(ops::slice_by_index(x, {0, few, 0, 0}, {1, 2 * few, 1, 64})));
  graph.output("out_b", ops::tanh(x));
  return graph;
}

}  // namespace

void probe_sizes(Engine& engine, ProbeResult& result) {
  result.limits = {{"uniform-inputs", !runs(engine, result, "inputs of two sizes", mixed_inputs())},
                   {"uniform-outputs", !runs(engine, result, "outputs of two sizes", mixed_outputs())}};
  result.result = answer_of(result.limits);
}

void probe_many_inputs(Engine& engine, ProbeResult& result) {
  Graph graph;
  Value sum;
  for (int i = 0; i < 32; ++i) {
    const Value x = graph.input(str("in_", i), wide(few));
    sum = sum ? ops::add(sum, x) : x;
  }
  graph.output("z_out", sum);
  result.limits = {{"single-input", !runs(engine, result, "32 inputs", graph)}};
  result.result = answer_of(result.limits);
}

void probe_buffers(Engine& engine, ProbeResult& result) {
  constexpr std::string_view buffer =
      "tensor_buffer<fp16, shape=[1, 64, 1, 48], strides=[4096, 64, 64, 1], interleave_factors=[1, 1, 1, 1]>";
  const std::string text =
      str("program(1.3)\n{\n    func main<ios18>(", buffer, " x_buffer) {\n",
          "        tensor<fp16, [1, 64, 1, 48]> x = tensor_buffer_to_tensor<ios17>(input = x_buffer);\n",
          "        tensor<fp16, [1, 64, 1, 48]> z = relu(x = x);\n        ", buffer,
          " z_buffer = tensor_to_tensor_buffer<ios17>(input = z);\n    } -> (z_buffer);\n}\n");
  Status status;
  const std::unique_ptr<Model> model = loaded(engine, {text}, status);
  if (model != nullptr) status = model->unload();
  note(result, status.ok() ? "compiled and loaded" : status.message());
  result.result = status.ok() ? Answer::yes : Answer::no;
}

}  // namespace orion::ane
