// The Neural Engine without the Neural Engine: takes what the hardware takes (MIL text, packed weight
// file, surfaces), computes as it is reported to compute, and fails as it is reported to fail.
#pragma once

#include "ane/engine.h"
#include "orion/ane.h"

#include <filesystem>

namespace orion::sim {

/// A simulated engine of a profile's hardware. Compile budget, loaded programs and the cache of
/// compiled models are the process's, as with the daemon: all engines of one profile share them.
/// Programs are read from `<staging>/<identity>`, where the client has staged them as it does for the
/// framework; `staging` empty: they are staged in a directory of this process under the temporary one.
std::unique_ptr<ane::Engine> open_simulator(const ane::Profile& profile,
                                            const std::filesystem::path& staging = {});

/// What a profile's hardware has been asked to do in this process, and what is still alive.
struct Counters {
  std::int64_t compiles = 0;            // attempts
  std::int64_t compiles_on_demand = 0;  // by load, outside the budget
  std::int64_t loads = 0;
  std::int64_t evaluations = 0;
  std::int64_t loaded = 0;  // programs loaded now
  std::int64_t models = 0;  // objects alive now
  std::int64_t surfaces = 0;
  std::int64_t directories = 0;  // staging directories on disk
  std::int64_t compiled = 0;     // programs known by their identity
};
Counters counters(std::string_view profile);
/// A fault to test for: what is loaded from now on computes with the weights that its text has now, whatever
/// files it comes with, and says nothing.
void freeze_weights(std::string_view profile, bool frozen);
/// Forgets compile budget and compiled models, as a new process after a reboot would, and drops what runtimes
/// of the engine hold loaded for nobody.
void restart(std::string_view profile);

}  // namespace orion::sim
