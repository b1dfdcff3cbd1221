// The hardware and systems that are known, as sets of limits.
#include "orion/ane.h"
#include "orion/error.h"

#include <algorithm>
#include <deque>
#include <mutex>

namespace orion::ane {
namespace {

using Ids = std::span<const std::string_view>;

std::vector<std::string> join(std::initializer_list<Ids> sets) {
  std::vector<std::string> all;
  for (const Ids set : sets) all.insert(all.end(), set.begin(), set.end());
  return all;
}

// Reported wherever somebody looked, or properties of the format and of fp16.
constexpr std::string_view everywhere[] = {
    "concat-arguments-named", "sdpa-mask-ignored", "outputs-live", "conv-32k-input-channels",
    "matmul-slower-than-conv", "rsqrt-rejected", "rank-five",
    // layout
    "outputs-alphabetical", "inputs-alphabetical", "minimum-width", "surface-form", "request-holds-surfaces",
    // resources
    "compile-budget", "weight-tensors", "largest-axis", "loaded-programs", "queue-depth", "sram-working-set",
    "compile-time-grows",
    // numerics
    "products-rounded", "matmul-overflow", "gradients-underflow", "square-overflow",
    // runtime
    "weights-baked", "blob-offset", "text-is-data", "weights-dictionary", "restart-costs", "load-compiles",
    "cache-by-identity", "stale-cache", "daemon-may-hang", "static-shapes", "unsigned-refused",
    "descriptor-keeps-weights"};

constexpr std::string_view paper[] = {"concat-rejected",    "gelu-rejected",     "matmul-flags-named",
                                      "conv-bias-rejected", "conv-32k-channels", "uniform-outputs",
                                      "minimum-surface",    "uniform-inputs",    "surfaces-packed"};

constexpr std::string_view since_macos26[] = {
    "reduce-mean-rejected", "softmax-long-axis", "conv-weight-constant", "tile-poisons",
    "mul-batch-broadcast", "log-epsilon", "layer-norm-epsilon-type", "multiply-by-zero", "sigmoid-table",
    "ops-without-engine", "quantize-scale-constant",
    // layout
    "rows-padded", "fp32-ports", "port-types", "start-offset-ignored", "map-surfaces-fails",
    "strides-in-text",
    // resources
    "scalar-takes-slot", "conv-kernel-width", "contraction-length", "program-weights-2gb", "address-space",
    "procedures-share-memory", "model-width-cliff",
    // numerics
    "denormals-flushed", "reduce-sum-narrow", "nan-not-propagated", "ties-away", "int8-saves-bandwidth",
    "deep-residuals", "int8-split-diverges",
    // runtime
    "reload-ignores-files", "weights-buffer-entitled", "procedure-symbols", "performance-stats",
    "chaining-entitled", "real-time-no-gain", "events-need-handler", "compile-beside-evaluate", "two-dies",
    "qos-no-effect", "fork-crashes"};

constexpr std::string_view since_macos27[] = {
    "one-weight-file", "small-surface-code-42", "attributes-throw", "int8-ports",
    "engine-occupied", "background-restricted", "conv-layers",      "idle-power-down"};

Profile paper_m4_macos15() {
  Profile profile{.name = "paper-m4-macos15",
                  .doc =
                      "The machine of the Orion paper: M4 Max, macOS 15, as the paper describes it. A reload "
                      "reads the weight files again.",
                  .limits = join({everywhere, paper})};
  profile.minimum_surface = 49152;
  profile.row_alignment = 1;
  profile.minimum_width = 16;
  profile.weights_per_program = 16;
  profile.largest_axis = 65536;
  profile.reload_reads_files = true;
  profile.layout_reported = false;
  return profile;
}

Profile macos26() {
  Profile profile{
      .name = "macos26",
      .doc =
          "M3 and later with macOS 26, as many projects report it. A reload silently keeps the old "
          "weights.",
      .limits = join({everywhere, since_macos26})};
  profile.minimum_width = 32;
  profile.weights_per_program = 16;
  profile.largest_axis = 65536;
  return profile;
}

Profile macos27() {
  Profile profile = macos26();
  profile.name = "macos27";
  profile.doc =
      "M3 and later with macOS 27: one weight file, files hashed. What macOS 26 was reported to limit and "
      "nobody saw lifted holds on.";
  profile.limits = join({everywhere, since_macos26, since_macos27});
  profile.weight_files_per_program = 1;
  return profile;
}

Profile strict() {
  Profile profile{
      .name = "strict",
      .doc =
          "The union of the other profiles, with the axes of M1 and M2: what passes here passes on "
          "each of them.",
      .limits = join({everywhere, paper, since_macos26, since_macos27})};
  profile.minimum_surface = 49152;
  profile.minimum_width = 32;
  profile.weights_per_program = 16;
  profile.weight_files_per_program = 1;
  profile.largest_axis = 16384;
  return profile;
}

// Profiles that were measured. Never moved: programs refer to them.
struct Added {
  std::mutex turn;
  std::deque<Profile> profiles;
};

Added& added() {
  static Added profiles;
  return profiles;
}

const Profile* find(std::string_view name) {
  for (const Profile& profile : all_profiles())
    if (profile.name == name) return &profile;
  for (const Profile& profile : added().profiles)
    if (profile.name == name) return &profile;
  return nullptr;
}

}  // namespace

bool Profile::has(std::string_view id) const {
  return std::ranges::find(limits, id) != limits.end();
}

std::span<const Profile> all_profiles() {
  static const std::vector<Profile> profiles = {paper_m4_macos15(), macos26(), macos27(), strict()};
  return profiles;
}

const Profile& find_profile(std::string_view name) {
  const std::lock_guard lock(added().turn);
  if (const Profile* profile = find(name)) return *profile;
  std::string known;
  for (const Profile& profile : all_profiles()) known += str(known.empty() ? "" : ", ", profile.name);
  for (const Profile& profile : added().profiles) known += str(", ", profile.name);
  fail("unknown profile '", name, "': ", known, " are known");
}

const Profile& add_profile(Profile profile) {
  for (const std::string& id : profile.limits) limit(id);
  if (profile.name.empty()) fail("a profile without a name");
  const std::lock_guard lock(added().turn);
  const Profile* known = find(profile.name);
  if (known == nullptr) return added().profiles.emplace_back(std::move(profile));
  if (*known != profile)
    fail("profile '", profile.name, "' exists and differs: give the measured one another name");
  return *known;
}

}  // namespace orion::ane
