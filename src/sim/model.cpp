#include "sim/model.h"

#include "orion/error.h"
#include "sim/errors.h"
#include "sim/layout.h"
#include "sim/run.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace orion::sim {
namespace {

// Null if a surface is not one of ours.
Memory memory_of(ane::Surface* surface) {
  const auto* ours = dynamic_cast<const SimSurface*>(surface);
  return ours == nullptr ? nullptr : ours->memory();
}

std::vector<Memory> memories(std::span<ane::Surface* const> surfaces) {
  std::vector<Memory> memories;
  for (ane::Surface* surface : surfaces) memories.push_back(memory_of(surface));
  return memories;
}

// By symbol: the request may name them in any order.
std::vector<Memory> in_order(std::vector<Memory> surfaces, const std::vector<std::int64_t>& symbols) {
  std::vector<std::size_t> order(surfaces.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return symbols[i]; });
  std::vector<Memory> sorted;
  for (const std::size_t i : order) sorted.push_back(surfaces[i]);
  return sorted;
}

bool are_uniform(std::span<const Memory> surfaces) {
  return std::ranges::all_of(surfaces,
                             [&](const Memory& s) { return s->size() == surfaces.front()->size(); });
}

}  // namespace

SimModel::SimModel(const ane::Profile& profile, std::shared_ptr<Process> process,
                   std::unique_ptr<Bundle> bundle)
    : profile_(profile), process_(std::move(process)), bundle_(std::move(bundle)) {
  process_->count(&Counters::models, 1);
}

SimModel::~SimModel() {
  if (loaded_) process_->give_slot_back();
  process_->count(&Counters::models, -1);
}

bool SimModel::compiled_exists() {
  return process_->find(bundle_->identity()) != nullptr;
}

// -- compile -------------------------------------------------------------------------------------------

ane::Status SimModel::check_files(std::string_view call) const {
  const std::int64_t files = bundle_->weight_files();
  if (profile_.weight_files_per_program > 0 && files > profile_.weight_files_per_program)
    return invalid_bundle(call, str("one-weight-file: there are ", files));
  const std::string file = bundle_->tampered();
  return file.empty() ? ane::Status{} : invalid_bundle(call, str("hash mismatch: ", file, " has changed"));
}

ane::Status SimModel::build(std::string_view call, Built& program) const {
  try {
    if (ane::Status status = check_files(call); !status.ok()) return status;
    const std::shared_ptr<const Code> code = make_code(bundle_->text(), profile_);
    const Faults faults = faults_of(code->violations);
    if (faults.bundle) return invalid_bundle(call, *faults.bundle);
    if (faults.compile) return invalid_program(call, *faults.compile);
    if (faults.compiling) return no_answer(call, *faults.compiling);
    program = make_program(code, bundle_->directory());
    return {};
  } catch (const std::exception& error) {  // also what std::filesystem throws
    return invalid_program(call, error.what());
  }
}

ane::Status SimModel::compile() {
  const std::lock_guard lock(turn_);
  if (!process_->spend_compile(profile_.compile_budget))
    return invalid_program("compile", str("compile-budget: ", profile_.compile_budget, " are spent"));
  Built program;
  ane::Status status = build("compile", program);
  if (status.ok()) process_->keep(bundle_->identity(), std::move(program));
  return status;
}

ane::Status SimModel::purge() {
  process_->purge(bundle_->identity());
  return {};
}

// -- load ----------------------------------------------------------------------------------------------

// What the daemon knows by its identity it does not read again, whatever the files have become (field survey,
// finding 1). What it does not know it compiles, which no budget counts.
ane::Status SimModel::program_to_load(Built& program) const {
  program = process_->frozen(bundle_->identity());
  if (program) return {};
  program = process_->find(bundle_->identity());
  if (!program) {
    process_->count(&Counters::compiles_on_demand, 1);
    ane::Status status = build("load", program);
    if (status.ok()) process_->keep(bundle_->identity(), program);
    return status;
  }
  if (!profile_.reload_reads_files) return {};
  try {
    program = make_program(program->code, bundle_->directory());
    return {};
  } catch (const std::exception& error) {
    return load_failure("0x5", error.what());
  }
}

ane::Status SimModel::load() {
  const std::lock_guard lock(turn_);
  if (loaded_) return misuse("load", "the model is loaded");
  process_->count(&Counters::loads, 1);
  if (!process_->take_slot(profile_.loaded_programs))
    return load_failure("0x50004", str("loaded-programs: ", profile_.loaded_programs, " are loaded"));
  Built program;
  ane::Status status = program_to_load(program);
  const Faults faults = status.ok() ? faults_of(program->code->violations) : Faults{};
  if (faults.load) status = load_failure("0x5", *faults.load);
  if (!status.ok()) {
    process_->give_slot_back();
    return status;
  }
  loaded_ = std::move(program);
  faults_ = faults;
  return {};
}

// The staging directory goes too, as in the framework; not where the paper's reload is said to read it.
ane::Status SimModel::unload() {
  const std::lock_guard lock(turn_);
  if (!loaded_) return misuse("unload", "the model is not loaded");
  loaded_.reset();
  bound_ = false;
  inputs_.clear();
  outputs_.clear();
  process_->give_slot_back();
  if (!profile_.reload_reads_files) bundle_->remove();
  return {};
}

ane::Status SimModel::layout(ane::Layout& layout) {
  const std::lock_guard lock(turn_);
  if (!loaded_) return misuse("layout", "the model is not loaded");
  if (!profile_.layout_reported)
    return {ane::Status::Kind::unavailable, "layout", "", 0, "the loaded model does not tell its layout"};
  layout = layout_of(*loaded_->code);
  return {};
}

// -- evaluate ------------------------------------------------------------------------------------------

ane::Status SimModel::bind_procedure(const ane::Procedure& procedure, std::span<ane::Surface* const> inputs,
                                     std::span<ane::Surface* const> outputs) {
  const std::lock_guard lock(turn_);
  if (!loaded_) return misuse("bind", "the model is not loaded");
  std::vector<Memory> in = memories(inputs);
  std::vector<Memory> out = memories(outputs);
  if (std::ranges::count(in, nullptr) + std::ranges::count(out, nullptr) > 0)
    return misuse("bind", "a surface is null or of another engine");
  if (procedure.inputs.size() != in.size() || procedure.outputs.size() != out.size())
    return misuse("bind", "there is not one symbol for each surface");
  inputs_ = in_order(std::move(in), procedure.inputs);
  outputs_ = in_order(std::move(out), procedure.outputs);
  procedure_ = procedure;
  bound_ = true;
  return {};
}

ane::Status SimModel::check_surfaces(std::span<const Memory> surfaces, std::span<const ane::Symbol> symbols,
                                     std::string_view uniform) const {
  if (surfaces.size() != symbols.size())
    return inference_error(str(surfaces.size(), " surfaces for ", symbols.size(), " symbols"));
  for (std::size_t i = 0; i < surfaces.size(); ++i) {
    const std::size_t bytes = surfaces[i]->size();
    if (static_cast<std::int64_t>(bytes) < profile_.minimum_surface)
      return inference_error(str("minimum-surface: surface ", i, " has ", bytes, " bytes"));
    const std::string shortage =
        str("surface ", i, " has ", bytes, " bytes, ", symbols[i].name, " needs ", bytes_needed(symbols[i]));
    if (bytes < bytes_needed(symbols[i]))
      return profile_.has("small-surface-code-42") ? small_surface(shortage) : inference_error(shortage);
    if (profile_.has("surfaces-128-m5") && bytes % 128 != 0)
      return inference_error(str("surfaces-128-m5: surface ", i, " has ", bytes, " bytes"));
  }
  if (profile_.has(uniform) && !are_uniform(surfaces))
    return inference_error(str(uniform, ": the surfaces differ in size"));
  return {};
}

// With one procedure every index of one is taken. With several, profiles that hold procedure-symbols want the
// procedure's own symbols, numbered over the whole program.
ane::Status SimModel::find_procedure(ane::Layout& layout, Built& program) const {
  layout = layout_of(*loaded_->code);
  program = loaded_;
  if (layout.others.empty()) return {};
  const auto index = static_cast<std::size_t>(procedure_.index);
  if (procedure_.index < 0 || index > layout.others.size())
    return wrong_symbol(str("there is no procedure ", procedure_.index));
  if (index > 0) {
    program = loaded_->others[index - 1];
    layout = ane::Layout(layout.others[index - 1]);
  }
  const auto same = [](std::vector<std::int64_t> given, const std::vector<std::int64_t>& wanted) {
    std::ranges::sort(given);
    return given == wanted;
  };
  const bool right =
      same(procedure_.inputs, layout.procedure.inputs) && same(procedure_.outputs, layout.procedure.outputs);
  if (profile_.has("procedure-symbols") && !right)
    return wrong_symbol(str("procedure-symbols: procedure ", index, " has others"));
  return {};
}

ane::Status SimModel::check_request(const ane::Layout& layout) const {
  if (process_->is_poisoned()) return inference_error("tile-poisons: this process has run a tile");
  if (faults_.evaluate) return inference_error(*faults_.evaluate);
  if (faults_.evaluating) return no_answer("evaluate", *faults_.evaluating);
  ane::Status status = check_surfaces(inputs_, layout.inputs, "uniform-inputs");
  return status.ok() ? check_surfaces(outputs_, layout.outputs, "uniform-outputs") : status;
}

void SimModel::run_request(const Program& program) {
  const Code& code = *program.code;
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    inputs.push_back(
        read_surface(code.layout.inputs[i], code.input_types[i], inputs_[i]->data(), code.arithmetic));
  const std::vector<Tensor> outputs = run(program, inputs);
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const bool lost = faults_.zero_outputs || (faults_.last_output_only && i + 1 < outputs_.size());
    const Tensor value = lost ? Tensor(outputs[i].type()) : outputs[i];
    write_surface(code.layout.outputs[i], code.output_types[i], value, outputs_[i]->data());
  }
}

ane::Status SimModel::evaluate() {
  const std::lock_guard lock(turn_);
  if (!loaded_) return misuse("evaluate", "the model is not loaded");
  if (!bound_) return misuse("evaluate", "no surfaces are bound");
  process_->count(&Counters::evaluations, 1);
  if (faults_.poison) process_->poison();
  ane::Layout layout;
  Built program;
  ane::Status status = find_procedure(layout, program);
  if (status.ok()) status = check_request(layout);
  if (!status.ok()) return status;
  try {
    run_request(*program);
    return {};
  } catch (const std::exception& error) {
    return inference_error(error.what());
  }
}

}  // namespace orion::sim
