// An engine to load programs on, within this process's share of it.
#pragma once

#include "ane/engine_share.h"
#include "ane/image.h"
#include "orion/ane.h"

namespace orion::ane {

class Runtime {
 public:
  Runtime(std::unique_ptr<Engine> engine, Profile profile);
  /// Drops what nobody uses of the share.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Engine& engine() { return *engine_; }
  const Profile& profile() const { return profile_; }
  const EngineInfo& info() const { return info_; }
  /// By all runtimes of the engine.
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

  /// Lets go of a program whose weights were replaced. It leaves the cache with its last user: what is loaded
  /// next has other weights.
  void release(std::shared_ptr<Loaded> replaced);

 private:
  std::unique_ptr<Model> make_model(const Image& image);
  void spend_compile(Model& model);
  Status timed_load(Model& model);
  Status purge_and_load(Model& model, const Status& refusal);
  std::shared_ptr<Loaded> finish(std::unique_ptr<Model> model, Ownership ownership);

  std::unique_ptr<Engine> engine_;
  Profile profile_;
  EngineInfo info_;
  std::shared_ptr<EngineShare> share_;
};

/// Throws DeviceError unless `status` is ok.
void require(const Status& status);

}  // namespace orion::ane
