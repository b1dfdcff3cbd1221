// Getting new weights into a program that is loaded.
//
// The paper patches the staged weight file and loads again ("delta"). On several systems that is accepted
// and has no effect, because the daemon serves what it compiled first (field survey, finding 1). So no
// strategy is trusted: a self-test changes a weight and compares outputs, per chip and system.
#pragma once

#include "ane/runtime.h"

#include <array>

namespace orion::ane {

enum class Update : std::uint8_t {
  automatic,     // the fastest that passes the self-test and spends no compile
  delta,         // unload, patch the staged weight file in place, load
  new_identity,  // the same text with new weights is another model: load it, the daemon compiles on demand
  input,         // weights are run-time inputs of the program: nothing is ever loaded again
  recompile,     // compile and load
};

std::string_view update_name(Update update);
/// Inverse; "auto" is automatic. Error listing the strategies for any other name.
Update update_from_name(std::string_view name);

/// One weight's new bytes and where the weight file has them.
struct Patch {
  std::uint64_t offset = 0;  // of the chunk's metadata
  Tensor value;
};

/// Puts new weights into a loaded program by one of the strategies that load again. `image` makes
/// the program with all new weights, `patches` are what differs. Returns the program to use from now on,
/// which may be another: delta patches only what nobody else reads (Ownership::apart), so the first delta
/// update of a program loads one apart. DeviceError if that fails; `loaded` is then as it was, or not usable,
/// and the message says which.
std::shared_ptr<Loaded> reload(Runtime& runtime, const std::shared_ptr<Loaded>& loaded,
                               const std::function<Image()>& image, std::span<const Patch> patches,
                               Update update);

/// What the self-test found of one strategy.
struct Verdict {
  Update update = Update::automatic;
  bool eligible = false;  // outputs with new weights equal those of a fresh compile, bit for bit
  double seconds = 0.0;   // of one update
  std::string reason;     // why not
};

/// Recompiling is last: all others are measured against it.
inline constexpr std::array tested_updates = {Update::delta, Update::new_identity, Update::input,
                                              Update::recompile};

/// Tries every strategy on a small program that gets weights never seen before. Costs a few compiles.
/// DeviceError if not even compiling anew has an effect.
std::vector<Verdict> test_updates(Runtime& runtime);

/// The verdicts for this engine's chip and system: tested at first use, then remembered by the process and on
/// disk in the cache directory.
const std::vector<Verdict>& update_verdicts(Runtime& runtime);

/// The eligible strategy that was fastest, among those that need no inputs unless `with_inputs`; `recompile`
/// only if it is the only one. DeviceError if none is eligible.
Update best_update(const std::vector<Verdict>& verdicts, bool with_inputs);
/// DeviceError saying why if `update` is not eligible.
void require_eligible(const std::vector<Verdict>& verdicts, Update update);

}  // namespace orion::ane
