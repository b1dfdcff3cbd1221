#include "ane/weight_update.h"

#include "orion/error.h"

#include <algorithm>
#include <array>

namespace orion::ane {
namespace {

struct Name {
  Update update;
  std::string_view name;
};

constexpr std::array names = {Name{Update::automatic, "auto"}, Name{Update::delta, "delta"},
                              Name{Update::new_identity, "new_identity"}, Name{Update::input, "input"},
                              Name{Update::recompile, "recompile"}};

std::filesystem::path staged_weights(Loaded& loaded) {
  return std::filesystem::path(loaded.model().directory()) / mil::weight_file;
}

std::vector<weights::Change> changes_of(std::span<const Patch> patches) {
  std::vector<weights::Change> changes;
  for (const Patch& patch : patches)
    changes.push_back({patch.offset, {patch.value.data(), patch.value.bytes()}});
  return changes;
}

[[noreturn]] void fail_delta(Loaded& loaded, const std::string& why) {
  loaded.give_up();
  throw DeviceError(
      str("delta update: ", why, "; the program is loaded anew, with its old weights, when it runs next"));
}

// Loads again after a failed patch, so that the program is what it was.
[[noreturn]] void give_back(Loaded& loaded, const std::string& why) {
  const Status again = loaded.model().load();
  if (!again.ok()) fail_delta(loaded, str(why, ", and then ", again.message()));
  throw DeviceError(str("delta update: ", why, "; the program still has its old weights"));
}

// What was not unloaded is still loaded, unless nobody can tell.
[[noreturn]] void fail_unload(Loaded& loaded, const Status& status) {
  if (status.kind == Status::Kind::timed_out) fail_delta(loaded, status.message());
  throw DeviceError(str("delta update: ", status.message(), "; the program still has its old weights"));
}

void patch_in_place(Loaded& loaded, std::span<const Patch> patches) {
  loaded.unbind();
  if (const Status status = loaded.model().unload(); !status.ok()) fail_unload(loaded, status);
  if (std::error_code none; !std::filesystem::exists(staged_weights(loaded), none))
    give_back(loaded,
              "the engine removed the program's files when it was unloaded, nothing is left to patch");
  try {
    // Nothing staged is read by another process, let alone after a power loss.
    weights::patch(staged_weights(loaded), changes_of(patches), false);
  } catch (const std::exception& error) {  // files: also what std::filesystem throws
    give_back(loaded, error.what());
  }
  if (const Status status = loaded.model().load(); !status.ok()) fail_delta(loaded, status.message());
}

}  // namespace

std::string_view update_name(Update update) {
  return std::ranges::find(names, update, &Name::update)->name;
}

Update update_from_name(std::string_view name) {
  const auto found = std::ranges::find(names, name, &Name::name);
  if (found != names.end()) return found->update;
  std::string known;
  for (const Name& entry : names) known += str(known.empty() ? "" : ", ", entry.name);
  fail("unknown update strategy '", name, "': ", known, " are known");
}

std::shared_ptr<Loaded> reload(Runtime& runtime, const std::shared_ptr<Loaded>& loaded,
                               const std::function<Image()>& image, std::span<const Patch> patches,
                               Update update) {
  switch (update) {
    case Update::new_identity:
      return runtime.load_on_demand(image());
    case Update::recompile:
      return runtime.compile(image());
    case Update::delta:
      if (loaded->ownership() != Ownership::apart || !loaded->usable()) return runtime.load_apart(image());
      patch_in_place(*loaded, patches);
      return loaded;
    case Update::automatic:
    case Update::input:
      break;
  }
  fail("update: ", update_name(update), " does not load a program again");
}

Update best_update(const std::vector<Verdict>& verdicts, bool with_inputs) {
  // However fast, compiling again is the last resort: a process has a budget of compiles, not of the rest.
  const auto rank = [](const Verdict& v) { return std::pair(v.update == Update::recompile, v.seconds); };
  const Verdict* best = nullptr;
  for (const Verdict& verdict : verdicts) {
    if (!verdict.eligible || (verdict.update == Update::input && !with_inputs)) continue;
    if (best == nullptr || rank(verdict) < rank(*best)) best = &verdict;
  }
  if (best != nullptr) return best->update;
  std::string reasons;
  for (const Verdict& verdict : verdicts)
    reasons += str("; ", update_name(verdict.update), ": ", verdict.reason);
  throw DeviceError("update: no strategy passes the self-test here" + reasons);
}

void require_eligible(const std::vector<Verdict>& verdicts, Update update) {
  const auto verdict = std::ranges::find(verdicts, update, &Verdict::update);
  if (verdict != verdicts.end() && !verdict->eligible)
    throw DeviceError(str("update: ", update_name(update), " does not work here: ", verdict->reason));
}

}  // namespace orion::ane
