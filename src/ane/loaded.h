// A program that is loaded on the engine.
#pragma once

#include "ane/engine.h"

#include <atomic>
#include <mutex>

namespace orion::ane {

/// Whom a loaded model belongs to.
enum class Ownership : std::uint8_t {
  shared,   // found by its identity, also by later processes
  passing,  // nobody else's: the weights are replaced soon, and what was compiled of them is purged then
  apart,    // passing, and of an identity that no other program has: its staged files may be changed
};

/// A model loaded on the engine; unloaded when the last program that uses it is gone.
class Loaded {
 public:
  Loaded(std::unique_ptr<Model> model, Layout layout, Ownership ownership);
  ~Loaded();
  Loaded(const Loaded&) = delete;
  Loaded& operator=(const Loaded&) = delete;

  Model& model() { return *model_; }
  const Layout& layout() const { return layout_; }
  Ownership ownership() const { return ownership_; }
  /// False after an evaluation that did not return, or a failed update: another is to be loaded.
  bool usable() const { return usable_; }
  void give_up() { usable_ = false; }
  /// Binds the surfaces if another user (a number of its own, not 0) has bound others since, then evaluates.
  /// A refusal may pass: it is tried twice.
  Status evaluate(std::uint64_t user, std::span<Surface* const> inputs, std::span<Surface* const> outputs);
  /// Forgets the bound surfaces: the model was loaded again.
  void unbind() { bound_to_ = 0; }

 private:
  std::unique_ptr<Model> model_;
  Layout layout_;
  Ownership ownership_;
  std::atomic<bool> usable_ = true;
  std::mutex turn_;
  std::uint64_t bound_to_ = 0;
};

}  // namespace orion::ane
