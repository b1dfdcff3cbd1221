// P1, P2, P14, P15: how weights get into a program, and how they change.
#include "ane/image.h"
#include "ane/probe_trial.h"
#include "ane/probes.h"
#include "base/file.h"
#include "orion/error.h"
#include "orion/ops.h"
#include "orion/weight_file.h"

#include <chrono>
#include <cmath>
#include <filesystem>

namespace orion::ane {
namespace {

constexpr std::int64_t channels = 64;
const TensorType x_type{DType::fp16, {1, channels, 1, 64}};
const TensorType w_type{DType::fp16, {channels, channels, 1, 1}};

Tensor scaled(const Tensor& value, double factor) {
  Tensor result = convert(value, DType::fp32);
  for (float& element : result.as<float>()) element = static_cast<float>(element * factor);
  return convert(result, value.dtype());
}

ProbeProgram convolution(const Tensor& w) {
  Graph graph;
  graph.output("z_out", ops::conv(graph.input("x_in", x_type), graph.weight("w", w_type)));
  return program_of(graph, {{"w", w}});
}

double seconds_of(const auto& act) {
  const auto start = std::chrono::steady_clock::now();
  act();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string milliseconds(double seconds) {
  return str(std::round(seconds * 1e5) / 100.0, " ms");
}

Status output_of(Engine& engine, Model& model, Tensor& z) {
  const Bound x{"x_in", noise(x_type)};
  std::vector<Bound> outputs = {{"z_out", Tensor(x_type)}};
  Status status = evaluate(engine, model, {&x, 1}, outputs);
  z = outputs[0].value;
  return status;
}

// What is staged, replaced by another program's files.
Status restage(Model& model, const ProbeProgram& program) {
  try {
    const std::filesystem::path folder = model.directory();
    const std::filesystem::path file = folder / mil::weight_file;
    std::filesystem::create_directories(file.parent_path());
    replace_file(folder / mil::model_file, program.text);
    const std::vector<std::byte>& bytes = program.files.front().bytes;
    replace_file(file, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  } catch (const std::exception& error) {
    return {.kind = Status::Kind::misused, .call = "stage", .domain = {}, .code = 0, .text = error.what()};
  }
  return {};
}

// Unload, change the files, load: the paper's update.
Status reload(Model& model, const ProbeProgram& program) {
  Status status = model.unload();
  if (status.ok()) status = restage(model, program);
  return status.ok() ? model.load() : status;
}

struct Outputs {
  Tensor before, after;  // of freshly compiled programs
};

// True if the model now computes what the new weights give; a note says what it does otherwise.
bool shows_new(Engine& engine, Model& model, const Outputs& fresh, const Status& changed,
               std::string_view way, ProbeResult& result) {
  Tensor z;
  Status status = changed;
  if (status.ok()) status = output_of(engine, model, z);
  const bool is_new = status.ok() && z.identical(fresh.after);
  const std::string_view seen = is_new                      ? "new weights"
                                : z.identical(fresh.before) ? "old weights"
                                                            : "neither";
  note(result, str(way, ": ", status.ok() ? std::string(seen) : status.message()));
  return is_new;
}

}  // namespace

void probe_reload(Engine& engine, ProbeResult& result) {
  const Tensor w = noise(w_type, 3);
  const ProbeProgram before = convolution(w);
  const ProbeProgram after = convolution(scaled(w, 3));
  Status status;
  std::unique_ptr<Model> fresh;
  const double compiled = seconds_of([&] { fresh = loaded(engine, after, status); });
  const std::unique_ptr<Model> model = status.ok() ? loaded(engine, before, status) : nullptr;
  Outputs outputs;
  if (status.ok()) status = output_of(engine, *fresh, outputs.after);
  if (status.ok()) status = output_of(engine, *model, outputs.before);
  if (!status.ok()) return note(result, status.message());
  note(result, str("compile and load: ", milliseconds(compiled)));

  Status changed;
  const double reloaded = seconds_of([&] { changed = reload(*model, after); });
  const bool works =
      shows_new(engine, *model, outputs, changed, str("reload, ", milliseconds(reloaded)), result);
  changed = model->purge();
  if (changed.ok()) changed = reload(*model, after);
  shows_new(engine, *model, outputs, changed, "reload after purge", result);
  result.limits.push_back({"reload-ignores-files", !works});
  result.numbers["reload_reads_files"] = works ? 1 : 0;
  result.result = works ? Answer::yes : Answer::no;
}

namespace {

// Convolutions one after the other, their weights spread over files.
ProbeProgram chain(int weights, int files, bool with_scalar = false) {
  const Tensor w = scaled(noise(w_type, 3), 0.25);
  const weights::Entry entry{.name = {},
                             .type = weights::BlobType::fp16,
                             .shape = {channels, channels, 1, 1},
                             .data = {w.data(), w.bytes()}};
  const int each = (weights + files - 1) / files;
  ProbeProgram program;
  std::string body;
  std::string from = "x_in";
  for (int i = 0; i < weights; ++i) {
    const std::string path = str("@model_path/weights/weight", i / each, ".bin");
    const std::int64_t offset = 64 + (i % each) * (64 + static_cast<std::int64_t>(w.bytes()));
    body += str("        tensor<fp16, [64, 64, 1, 1]> w", i, " = const()[name = string(\"w", i,
                "\"), val = tensor<fp16, [64, 64, 1, 1]>(BLOBFILE(path = string(\"", path,
                "\"), offset = uint64(", offset, ")))];\n        tensor<fp16, [1, 64, 1, 64]> h", i,
                " = conv(x = ", from, ", weight = w", i, ");\n");
    from = str("h", i);
    if (i % each == 0) program.files.push_back({path, {}});
  }
  for (std::size_t f = 0; f < program.files.size(); ++f) {
    const int first = static_cast<int>(f) * each;
    const std::vector<weights::Entry> entries(static_cast<std::size_t>(std::min(each, weights - first)),
                                              entry);
    program.files[f].bytes = weights::file_bytes(entries);
  }
  const std::string last =
      with_scalar ? str("mul(x = ", from, ", y = fp16(0x1p-1))") : str("relu(x = ", from, ")");
  program.text = str("program(1.3)\n{\n    func main<ios18>(tensor<fp16, [1, 64, 1, 64]> x_in) {\n", body,
                     "        tensor<fp16, [1, 64, 1, 64]> z_out = ", last, ";\n    } -> (z_out);\n}\n");
  return program;
}

bool is_taken(Engine& engine, ProbeResult& result, std::string_view what, const ProbeProgram& program) {
  Status status;
  const std::unique_ptr<Model> model = loaded(engine, program, status);
  if (model != nullptr) status = model->unload();
  note(result, str(what, ": ", status.ok() ? "taken" : status.message()));
  return status.ok();
}

}  // namespace

void probe_weight_counts(Engine& engine, ProbeResult& result) {
  const bool sixteen = is_taken(engine, result, "16 weights in one file", chain(16, 1));
  const bool seventeen = is_taken(engine, result, "17 weights in one file", chain(17, 1));
  const bool scalar = is_taken(engine, result, "16 weights and a scalar", chain(16, 1, true));
  const bool two_files = is_taken(engine, result, "2 files", chain(2, 2));
  const bool many_files = is_taken(engine, result, "17 files", chain(17, 17));
  if (!sixteen) return note(result, "nothing follows: even 16 are refused");
  result.limits = {{"weight-tensors", !seventeen},
                   {"scalar-takes-slot", !seventeen && !scalar},
                   {"one-weight-file", !two_files}};
  result.numbers["weights_per_program"] = seventeen ? 0 : 16;
  result.numbers["weight_files_per_program"] = !two_files ? 1 : seventeen && !many_files ? 16 : 0;
  result.result = answer_of(result.limits);
}

// Its program is the same in every process, so the second run asks about the first.
void probe_earlier_process(Engine& engine, ProbeResult& result) {
  const ProbeProgram program = convolution(noise(w_type, 14));
  const std::vector<WeightFileData> files = {{program.files[0].path, program.files[0].bytes}};
  std::unique_ptr<Model> model;
  Status status = engine.create_model(program.text, files, model);
  if (!status.ok()) return note(result, status.message());
  const bool known = model->compiled_exists();
  note(result, known ? "it is" : "it is not, or no earlier process asked");
  if (!known) status = model->compile();
  if (status.ok()) status = model->load();
  if (status.ok()) status = model->unload();
  if (!status.ok()) return note(result, status.message());
  result.result = known ? Answer::yes : Answer::no;
}

void probe_load_on_demand(Engine& engine, ProbeResult& result) {
  const Tensor w = noise(w_type, 15);
  Status status;
  const std::unique_ptr<Model> model = loaded(engine, convolution(w), status, true);
  Tensor z;
  if (status.ok()) status = output_of(engine, *model, z);
  note(result, str("one file: ", status.ok() ? "loaded" : status.message()));
  Status several;
  const std::unique_ptr<Model> of_two = loaded(engine, chain(2, 2), several, true);
  note(result, str("two files: ", several.ok() ? "loaded" : several.message()));
  const std::unique_ptr<Model> compiled = status.ok() ? loaded(engine, convolution(w), status) : nullptr;
  Tensor expected;
  if (status.ok()) status = output_of(engine, *compiled, expected);
  const bool right = status.ok() && z.identical(expected);
  if (status.ok()) note(result, right ? "same values as compiled" : "other values than compiled");
  result.limits.push_back({"load-compiles", right});
  result.result = right ? Answer::yes : Answer::no;
}

}  // namespace orion::ane
