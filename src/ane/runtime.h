// An engine, and what the process must remember about it: programs loaded, compiles spent.
#pragma once

#include "ane/engine.h"
#include "ane/image.h"
#include "orion/ane.h"

#include <list>
#include <mutex>

namespace orion::ane {

/// A model loaded on the engine; unloaded when the last program that uses it is gone.
class Loaded {
 public:
  Loaded(std::unique_ptr<Model> model, Layout layout);
  ~Loaded();
  Loaded(const Loaded&) = delete;
  Loaded& operator=(const Loaded&) = delete;

  Model& model() { return *model_; }
  const Layout& layout() const { return layout_; }
  /// Binds the surfaces if another user (a number of its own, not 0) has bound others since, then evaluates.
  Status evaluate(std::uint64_t user, std::span<Surface* const> inputs, std::span<Surface* const> outputs);
  /// Forgets the bound surfaces: the model was loaded again.
  void unbind() { bound_to_ = 0; }

 private:
  std::unique_ptr<Model> model_;
  Layout layout_;
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
  /// Loads without asking for a compile, shared with nobody: the daemon compiles what it does not know.
  std::shared_ptr<Loaded> load_on_demand(const Image& image);
  /// Compiles anew, shared with nobody.
  std::shared_ptr<Loaded> compile(const Image& image);

  /// Drops programs that only the cache holds.
  void clear();
  /// Takes a program out of the cache: it is about to change.
  void disown(const Loaded& loaded);

 private:
  struct Cached {
    std::string identity;
    std::shared_ptr<Loaded> loaded;
  };

  std::unique_ptr<Model> make_model(const Image& image);
  void spend_compile(Model& model);
  Status timed_load(Model& model);
  std::shared_ptr<Loaded> finish(std::unique_ptr<Model> model);
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
