#include "ane/program.h"

#include "ane/device_weights.h"
#include "base/narrow.h"
#include "orion/error.h"

#include <algorithm>
#include <utility>

namespace orion::ane {
namespace {

Tensor as_input(const Tensor& weight, const TensorType& type, std::string_view name) {
  check_fits_half(weight, name, half_is_all);
  return convert(weight, type.dtype).reshaped(type.shape);
}

bool contains(std::span<const std::string> names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

}  // namespace

AneProgram::AneProgram(std::shared_ptr<Runtime> runtime, const Graph& graph,
                       std::shared_ptr<AneWeights> weights, Update update, std::string_view device)
    : runtime_(std::move(runtime)), weights_(std::move(weights)), update_(update), device_(device) {
  for (const Port& weight : weight_ports(graph)) static_cast<void>(weights_->value(weight.name, weight.type));
  inputs_ = input_ports(graph);
  outputs_ = output_ports(graph);
  const bool as_inputs = update_ == Update::input;
  if (as_inputs) require_eligible(update_verdicts(*runtime_), Update::input);
  legal_ =
      legalize_program(as_inputs ? weights_as_inputs(graph, weight_inputs_) : graph, runtime_->profile());
  verify_ane(legal_.graph, runtime_->profile());
  blueprint_ = make_blueprint(legal_.graph);
  start();
}

AneProgram::AneProgram(std::shared_ptr<Runtime> runtime, const PackedProgram& packed,
                       std::shared_ptr<AneWeights> weights, Update update, std::string_view device)
    : runtime_(std::move(runtime)), weights_(std::move(weights)), update_(update), device_(device) {
  Unpacked unpacked = unpack(packed);
  legal_ = std::move(unpacked.program);
  blueprint_ = std::move(unpacked.blueprint);
  for (const WeightUse& use : legal_.weights) static_cast<void>(weights_->value(use.source, use.source_type));
  inputs_ = source_ports(legal_.inputs);
  outputs_ = source_ports(legal_.outputs);
  start();
}

void AneProgram::start() {
  make_memory();
  load();
  weights_->attach(*this);
}

void AneProgram::load() {
  std::shared_ptr<Loaded> loaded = runtime_->load(image());
  std::vector<Port> inputs, outputs;
  for (const PortUse& use : legal_.inputs) inputs.push_back({use.name, use.type});
  for (const PortUse& use : legal_.outputs) outputs.push_back({use.name, use.type});
  surfaces_ = std::make_unique<SurfaceSet>(*runtime_, *loaded, inputs, outputs);
  for (const auto& [input, weight] : weight_inputs_) write_weight_input(weight);
  loaded_ = std::move(loaded);
}

AneProgram::~AneProgram() {
  weights_->detach(*this);
}

void AneProgram::make_memory() {
  for (const Port& input : inputs_) memory_.push_back({input, {}, {}});
  for (const Port& output : outputs_) {
    const bool is_state = std::ranges::find(inputs_, output.name, &Port::name) != inputs_.end();
    if (!is_state) memory_.push_back({output, {}, {}});
  }
}

Image AneProgram::image() const {
  return make_image(blueprint_, [&](const mil::BlobEntry& entry) {
    const WeightUse& use = *std::ranges::find(legal_.weights, entry.name, &WeightUse::name);
    return legal_weight(use, weights_->values().find(use.source)->second);
  });
}

Tensor AneProgram::buffer(std::string_view port) const {
  const Memory& found = memory(port);
  if (!found.bound.empty()) return found.bound;
  if (found.own.empty()) found.own = Tensor(found.port.type);
  return found.own;
}

void AneProgram::bind(std::string_view port, Tensor tensor) {
  const Memory& found = memory(port);
  if (!tensor.empty() && tensor.type() != found.port.type)
    fail("'", port, "' is ", found.port.type, ", the memory given is ", tensor.type());
  const_cast<Memory&>(found).bound = std::move(tensor);
}

// An evaluation that was given up may still write to its surfaces, so a program that became unusable gets
// others.
void AneProgram::run() {
  if (!loaded_->usable()) load();
  if (const std::vector<std::string> stale = stale_; !stale.empty()) {
    refresh(stale);
    stale_.clear();
  }
  for (const PortUse& use : legal_.inputs)
    if (!weight_inputs_.contains(use.source)) write_input(use, buffer(use.source));
  surfaces_->run(*loaded_);
  for (const PortUse& use : legal_.outputs) read_output(use);
}

std::shared_ptr<DeviceWeights> AneProgram::weights() const {
  return weights_;
}

void AneProgram::write_input(const PortUse& use, const Tensor& source) {
  if (const Tensor surface = surfaces_->view(use.name); !surface.empty())
    return write_port(use, source, surface);
  const Tensor& staged = staging_.try_emplace(use.name, use.type).first->second;
  write_port(use, source, staged);
  surfaces_->write(use.name, staged);
}

void AneProgram::read_output(const PortUse& use) {
  const Tensor to = buffer(use.source);
  if (const Tensor surface = surfaces_->view(use.name); !surface.empty()) return read_port(use, surface, to);
  const Tensor& staged = staging_.try_emplace(use.name, use.type).first->second;
  surfaces_->read(use.name, staged);
  read_port(use, staged, to);
}

void AneProgram::write_weight_input(const std::string& weight) {
  for (const PortUse& use : legal_.inputs) {
    const auto input = weight_inputs_.find(use.source);
    if (input != weight_inputs_.end() && input->second == weight)
      write_input(use, as_input(weights_->values().find(weight)->second, use.source_type, weight));
  }
}

std::vector<Patch> AneProgram::patches(std::span<const std::string> changed) const {
  std::vector<Patch> result;
  for (const WeightUse& use : legal_.weights) {
    if (!contains(changed, use.source)) continue;
    const auto entry = std::ranges::find(blueprint_.entries, use.name, &mil::BlobEntry::name);
    result.push_back({entry->offset, legal_weight(use, weights_->values().find(use.source)->second)});
  }
  return result;
}

void AneProgram::mark_stale(std::span<const std::string> changed) {
  stale_.insert(stale_.end(), changed.begin(), changed.end());
}

// Some may be written when another fails.
void AneProgram::write_weight_inputs(std::span<const std::string> changed) {
  try {
    for (const std::string& weight : changed) write_weight_input(weight);
  } catch (...) {
    mark_stale(changed);
    throw;
  }
}

void AneProgram::refresh(std::span<const std::string> changed) {
  if (update_ == Update::input) return write_weight_inputs(changed);
  const std::vector<Patch> differences = patches(changed);
  if (differences.empty()) return;
  const std::vector<Verdict>& verdicts = update_verdicts(*runtime_);
  if (update_ == Update::automatic) update_ = best_update(verdicts, false);
  require_eligible(verdicts, update_);
  std::shared_ptr<Loaded> replaced =
      std::exchange(loaded_, reload(*runtime_, loaded_, [this] { return image(); }, differences, update_));
  if (replaced != loaded_) runtime_->release(std::move(replaced));
}

std::string AneProgram::describe() const {
  const SramEstimate sram = sram_estimate(legal_.graph);
  return str(annotated(legal_.graph, sram), legal_.weights.size(), " weights, working set ",
             mebibytes(sram.peak), " MiB of ", mebibytes(runtime_->profile().sram_bytes), " at ",
             sram.at == absent ? "none" : legal_.graph.node(sram.at).name, ", updates by ",
             update_name(update_), '\n');
}

const AneProgram::Memory& AneProgram::memory(std::string_view port) const {
  const auto found =
      std::ranges::find(memory_, port, [](const Memory& m) { return std::string_view(m.port.name); });
  if (found == memory_.end()) fail("the program has no input or output '", port, "'");
  return *found;
}

}  // namespace orion::ane
