#include "cpu/program.h"

#include "base/memory.h"
#include "orion/error.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <numeric>

namespace orion::cpu {
namespace {

// Scratch comes first: what most steps use stays at the same place, and in the caches.
std::size_t arena_begin(const Plan& plan) {
  return aligned_bytes(plan.scratch_bytes);
}

// ORION_PROFILE=1: every program says on standard error how long its steps took, when it ends.
bool is_profiled() {
  const char* text = std::getenv("ORION_PROFILE");
  return text != nullptr && *text != '\0' && std::string_view(text) != "0";
}

}  // namespace

CpuProgram::CpuProgram(std::unique_ptr<Plan> plan, ThreadPool& pool, std::shared_ptr<WorkMemory> memory)
    : plan_(std::move(plan)),
      pool_(pool),
      need_(std::move(memory), arena_begin(*plan_) + plan_->arena_bytes),
      addresses_(plan_->places.size()) {
  for (const Port& port : plan_->inputs) ports_.push_back({port, {}, {}});
  for (const Port& port : plan_->outputs) {
    const auto state = std::ranges::find(ports_, port.name, [](const Bound& b) { return b.port.name; });
    output_ports_.push_back(static_cast<std::size_t>(state - ports_.begin()));
    if (state == ports_.end()) ports_.push_back({port, {}, {}});
  }
  if (is_profiled()) seconds_.resize(plan_->steps.size(), 0.0);
}

CpuProgram::~CpuProgram() {
  if (runs_ > 0) std::cerr << describe();
}

Tensor CpuProgram::buffer(std::string_view port) const {
  const Bound& found = bound(port);
  if (!found.memory.empty()) return found.memory;
  if (found.own.empty()) found.own = Tensor(found.port.type);
  return found.own;
}

void CpuProgram::bind(std::string_view port, Tensor memory) {
  Bound& found = bound(port);
  if (!memory.empty() && memory.type() != found.port.type)
    fail("'", port, "' is ", found.port.type, ", the memory given is ", memory.type());
  found.memory = std::move(memory);
  resolved_ = nullptr;
}

void CpuProgram::run() {
  const WorkMemory::Loan memory(need_);
  if (resolved_ != memory.data()) resolve(memory.data());
  const Run context{addresses_.data(), pool_, {memory.data(), plan_->scratch_bytes}};
  if (!seconds_.empty()) return run_timed(context);
  for (const Step& step : plan_->steps) step.run(context);
}

void CpuProgram::run_timed(const Run& context) {
  ++runs_;
  for (std::size_t i = 0; i < seconds_.size(); ++i) {
    const auto start = std::chrono::steady_clock::now();
    plan_->steps[i].run(context);
    seconds_[i] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
}

void CpuProgram::resolve(std::byte* memory) {
  std::byte* arena = memory + arena_begin(*plan_);
  for (std::size_t i = 0; i < addresses_.size(); ++i) {
    const Place& place = plan_->places[i];
    const auto port = static_cast<std::size_t>(place.port);
    switch (place.kind) {
      case Place::Kind::arena:
        addresses_[i] = arena + place.offset;
        break;
      case Place::Kind::fixed:
        addresses_[i] = const_cast<void*>(place.fixed);
        break;
      case Place::Kind::input:
        addresses_[i] = buffer(ports_[port].port.name).data();
        break;
      case Place::Kind::output:
        addresses_[i] = buffer(ports_[output_ports_[port]].port.name).data();
        break;
    }
  }
  resolved_ = memory;
}

std::string CpuProgram::describe() const {
  std::ostringstream out;
  constexpr double mebi = 1024.0 * 1024.0;
  out << std::fixed << std::setprecision(2);
  for (std::size_t i = 0; i < plan_->steps.size(); ++i) {
    if (runs_ > 0) out << std::setw(10) << seconds_[i] * 1e3 << " ms  ";
    out << plan_->steps[i].label << '\n';
  }
  if (runs_ > 0)
    out << std::setw(10) << std::reduce(seconds_.begin(), seconds_.end()) * 1e3 << " ms in " << runs_
        << " runs; ";
  out << plan_->steps.size() << " steps on " << pool_.size() << " threads, arena "
      << static_cast<double>(plan_->arena_bytes) / mebi << " MiB, scratch "
      << static_cast<double>(plan_->scratch_bytes) / mebi << " MiB, weights "
      << static_cast<double>(plan_->weights->bytes()) / mebi << " MiB\n";
  return out.str();
}

CpuProgram::Bound& CpuProgram::bound(std::string_view port) {
  const auto found =
      std::ranges::find(ports_, port, [](const Bound& b) { return std::string_view(b.port.name); });
  if (found == ports_.end()) fail("the program has no input or output '", port, "'");
  return *found;
}

const CpuProgram::Bound& CpuProgram::bound(std::string_view port) const {
  return const_cast<CpuProgram*>(this)->bound(port);
}

}  // namespace orion::cpu
