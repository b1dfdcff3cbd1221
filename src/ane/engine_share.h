// What this process has of one engine: compiles spent, programs loaded. The budget and the room are the
// process's, so the runtimes of all device names of an engine have one share.
#pragma once

#include "ane/loaded.h"

#include <list>
#include <memory>
#include <string>

namespace orion::ane {

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

/// Loaded programs by identity. Idle ones are held by nobody but the cache.
class ProgramCache {
 public:
  /// Null if there is none that is usable.
  std::shared_ptr<Loaded> find(const std::string& identity);
  void keep(std::string identity, std::shared_ptr<Loaded> loaded);
  /// Drops idle programs, those used longest ago first, until there are fewer than `most`.
  void make_room(std::int64_t most);
  /// Drops every idle program; whether there was one.
  bool drop_idle();
  /// Lets go of a program that was replaced: it is dropped if it is idle now.
  void release(std::shared_ptr<Loaded> replaced);

 private:
  struct Entry {
    std::string identity;
    std::shared_ptr<Loaded> loaded;
  };

  std::list<Entry> entries_;  // most recently used first
};

struct EngineShare {
  std::recursive_mutex mutex;  // held from looking for a program until it is kept, so that none is made twice
  Usage usage;
  ProgramCache cache;

  /// As a new process would begin: nothing idle, no compile spent.
  void restart();
};

/// The share in this engine, made at first use. Frameworks at two paths have one if they tell of one chip and
/// system: they lead to the same hardware.
std::shared_ptr<EngineShare> share_of(const EngineInfo& engine);

}  // namespace orion::ane
