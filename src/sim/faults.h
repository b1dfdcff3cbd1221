// What becomes of a program that crosses limits of the profile.
#pragma once

#include "orion/ane.h"

#include <optional>

namespace orion::sim {

/// The first violation of each effect, as a reason; none if there is no such violation.
struct Faults {
  std::optional<std::string> bundle;      // the compiler refuses the files
  std::optional<std::string> compile;     // it refuses the program
  std::optional<std::string> compiling;   // it hangs
  std::optional<std::string> load;        // the daemon refuses the program
  std::optional<std::string> evaluate;    // status 0x1d
  std::optional<std::string> evaluating;  // the evaluation hangs
  std::optional<std::string> poison;      // status 0x1d, now and for every later evaluation of the process
  bool zero_outputs = false;              // it runs, and its outputs are zero
  bool last_output_only = false;          // all but the last are
};

Faults faults_of(const std::vector<ane::Violation>& violations);

}  // namespace orion::sim
