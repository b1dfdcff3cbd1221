// An engine, and what the process must remember about it: programs loaded, compiles spent.
#pragma once

#include "ane/engine.h"
#include "ane/image.h"
#include "orion/ane.h"

#include <atomic>
#include <list>
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

/// What has been asked of the engine by this process.
struct Usage {
  std::int64_t compiles = 0;  // attempts: a refused one counts against the budget too
  std::int64_t loads = 0;
  std::int64_t cache_hits = 0;  // programs that were loaded already
  std::int64_t known = 0;       // programs that an earlier process had compiled
  std::int64_t purges = 0;
  double compile_seconds = 0.0;
  double load_seconds = 0.0;
};

class Runtime {
 public:
  Runtime(std::unique_ptr<Engine> engine, Profile profile);

  Engine& engine() { return *engine_; }
  const Profile& profile() const { return profile_; }
  const EngineInfo& info() const { return info_; }
  Usage usage() const;
  /// Programs that are kept loaded at once.
  std::int64_t most_loaded() const;

  /// The program loaded: shared if this process has it, without compiling if an earlier process had
  /// compiled it, else compiled. What an earlier process left behind and cannot be loaded any more is
  /// purged and compiled once. DeviceError with the framework's words.
  std::shared_ptr<Loaded> load(const Image& image);
  /// Loads without asking for a compile: the daemon compiles what it does not know. Passing.
  std::shared_ptr<Loaded> load_on_demand(const Image& image);
  /// The same, apart.
  std::shared_ptr<Loaded> load_apart(Image image);
  /// Compiles anew. Passing.
  std::shared_ptr<Loaded> compile(const Image& image);

  /// Drops programs that only the cache holds.
  void clear();
  /// As a new process would begin: nothing cached, no compile spent.
  void restart();

 private:
  struct Cached {
    std::string identity;
    std::shared_ptr<Loaded> loaded;
  };

  std::unique_ptr<Model> make_model(const Image& image);
  void spend_compile(Model& model);
  Status timed_load(Model& model);
  Status purge_and_load(Model& model, const Status& refusal);
  std::shared_ptr<Loaded> finish(std::unique_ptr<Model> model, Ownership ownership);
  std::shared_ptr<Loaded> cached(const std::string& identity);
  void make_room();

  std::unique_ptr<Engine> engine_;
  Profile profile_;
  EngineInfo info_;
  mutable std::recursive_mutex mutex_;
  Usage usage_;
  std::list<Cached> cache_;  // most recently used first
};

/// Throws DeviceError unless `status` is ok.
void require(const Status& status);

}  // namespace orion::ane
