// What is known of the Neural Engine: its limits, as data, and the profiles that combine them.
#pragma once

#include "orion/graph.h"

#include <span>

namespace orion::ane {

/// How the hardware shows that a limit was crossed.
enum class Effect : std::uint8_t {
  compile_error,   // the compiler refuses the program
  load_error,      // the daemon refuses to load it
  evaluate_error,  // status 0x1d when it runs
  wrong_data,      // it runs and is wrong
  hang_or_crash,   // the process or the daemon suffers
  slow,            // it runs, worse than it should
};

enum class Confidence : std::uint8_t { doubtful, plausible, strong };

/// One reported constraint of the hardware or its software.
struct Limit {
  std::string_view id;        // stable, lower case with dashes: "concat-rejected"
  int paper = 0;              // its number in the Orion paper's catalogue (1..20), 0 if not there
  std::string_view rule;      // what must hold
  std::string_view symptom;   // what happens otherwise
  std::string_view action;    // what we do about it
  std::string_view where;     // chips and systems it was seen on
  std::string_view evidence;  // who saw it
  Effect effect = Effect::compile_error;
  Confidence confidence = Confidence::plausible;
  std::string_view probe = {};  // of `orion probe`, that settles it; may be empty
};

/// As people read them: "compile error", "strong".
std::string_view effect_name(Effect effect);
std::string_view confidence_name(Confidence confidence);

/// Limits of one kind.
struct LimitFamily {
  std::string_view name;  // "layout"
  std::string_view doc;
  std::span<const Limit> limits;
};

std::span<const LimitFamily> limit_families();
/// Every limit, in documentation order.
std::span<const Limit> all_limits();
/// Error listing near misses for an unknown id.
const Limit& limit(std::string_view id);

/// A hardware and system as far as programs must care: which limits hold, and the numbers in them.
struct Profile {
  std::string name;  // "paper-m4-macos15"
  std::string doc;
  std::vector<std::string> limits;  // ids that hold

  std::int64_t minimum_surface = 0;           // bytes
  std::int64_t row_alignment = 64;            // bytes; 1: rows are packed
  std::int64_t minimum_width = 1;             // columns (last axis) of inputs and outputs
  std::int64_t weights_per_program = 0;       // tensors in weight files; 0: no limit
  std::int64_t weight_files_per_program = 0;  // 0: no limit
  std::int64_t compile_budget = 119;          // per process
  std::int64_t loaded_programs = 128;         // per process
  std::int64_t largest_axis = 16384;
  std::int64_t sram_bytes = 32 << 20;
  bool reload_reads_files = false;  // whether unload, patch, load changes a program's weights
  bool layout_reported = true;      // whether a loaded model tells symbol order and strides

  bool has(std::string_view id) const;
  bool operator==(const Profile&) const = default;
};

/// The built-in profiles; "strict" is the union of the others.
std::span<const Profile> all_profiles();
/// A built-in profile or one that was added; Error listing the names for an unknown one.
const Profile& find_profile(std::string_view name);
/// Makes a measured profile known by its name for the rest of the process. Error if it is called as another
/// one that differs, or names an unknown limit.
const Profile& add_profile(Profile profile);

/// Where a program crosses a limit.
struct Violation {
  const Limit* limit = nullptr;
  std::string where;  // the node or tensor, and the numbers
};

/// Every limit of `profile` that the program crosses, as far as its graph (as MIL would hold it) shows.
std::vector<Violation> violations(const Graph& graph, const Profile& profile);
/// The same for MIL text, which shows more: how parameters are written, which files are named.
std::vector<Violation> violations(std::string_view mil_text, const Profile& profile);
/// Error naming the first violation: its limit, where, and what to do. What only makes a program slow passes.
void verify_ane(const Graph& graph, const Profile& profile);
void verify_ane(std::string_view mil_text, const Profile& profile);

/// The graph in ops and shapes that `profile` takes, computing the same within fp16: composites
/// expanded, products with weights as 1x1 convolutions, fp16 inside, no crossed limit. Inputs and outputs
/// keep their names; Error if a limit cannot be met by rewriting, naming it.
Graph legalize(const Graph& graph, const Profile& profile);

}  // namespace orion::ane
