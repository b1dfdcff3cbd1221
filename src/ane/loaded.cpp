#include "ane/loaded.h"

#include <chrono>
#include <thread>
#include <utility>

namespace orion::ane {
namespace {

// Processes in the background are refused now and then (limit background-restricted).
constexpr std::chrono::milliseconds time_to_pass(3);

}  // namespace

Loaded::Loaded(std::unique_ptr<Model> model, Layout layout, Ownership ownership)
    : model_(std::move(model)), layout_(std::move(layout)), ownership_(ownership) {}

Loaded::~Loaded() {
  // A refusal here has nobody left to act on it; the engine frees the program with the process.
  static_cast<void>(model_->unload());
  if (ownership_ != Ownership::shared) static_cast<void>(model_->purge());
}

Status Loaded::evaluate(std::uint64_t user, std::span<Surface* const> inputs,
                        std::span<Surface* const> outputs) {
  const std::lock_guard lock(turn_);
  if (!usable_) return {Status::Kind::misused, "evaluate", "", 0, "the model must be loaded anew"};
  Status status;
  if (std::exchange(bound_to_, 0) != user) status = model_->bind(inputs, outputs);
  if (status.ok()) status = model_->evaluate();
  if (status.kind == Status::Kind::refused && status.call == "evaluate") {
    std::this_thread::sleep_for(time_to_pass);
    status = model_->evaluate();
  }
  if (status.kind == Status::Kind::timed_out) usable_ = false;
  if (status.ok()) bound_to_ = user;
  return status;
}

}  // namespace orion::ane
