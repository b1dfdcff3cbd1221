// Small programs that settle what is reported differently, one question each.
//
// A probe may use up the process's compile budget, or bring it down: run each in a process of its own.
#pragma once

#include "ane/engine.h"
#include "orion/ane.h"

#include <map>

namespace orion::ane {

enum class Answer : std::uint8_t {
  yes,
  no,
  mixed,    // some of it; the detail says which
  unknown,  // the engine did not let us find out; the detail says why
  not_asked,
};

std::string_view answer_name(Answer answer);

/// Whether a limit holds here, as a probe saw it.
struct Finding {
  std::string_view limit;
  bool holds = false;
};

struct ProbeResult {
  std::string chip;
  std::string build;
  std::string_view probe;
  std::string_view question;
  Answer result = Answer::unknown;
  std::string detail = {};
  double ms = 0.0;
  std::vector<Finding> limits = {};
  std::map<std::string, std::int64_t> numbers = {};  // fields of Profile that it measured (flags as 0 and 1)
};

struct Probe {
  std::string_view id;        // "P1"
  std::string_view question;  // what a yes answers
  void (*run)(Engine&, ProbeResult&);
  std::string_view not_asked = {};  // why not, where there is no `run`
};

/// P1 to P16.
std::span<const Probe> all_probes();

/// Error for an unknown id. What the engine refuses is an answer, not an error.
ProbeResult run_probe(Engine& engine, std::string_view id);

/// `strict`, with what the probes found in place of what it assumes. Error if the results are not of one
/// chip and system.
Profile measured_profile(std::span<const ProbeResult> results, std::string name);

}  // namespace orion::ane
