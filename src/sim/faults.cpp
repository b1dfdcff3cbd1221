#include "sim/faults.h"

#include "orion/error.h"

#include <algorithm>
#include <array>

namespace orion::sim {
namespace {

using Ids = std::initializer_list<std::string_view>;

bool is_one_of(std::string_view id, Ids ids) {
  return std::ranges::find(ids, id) != ids.end();
}

// The sizes of surfaces decide, not what the text shows.
bool is_of_surfaces(std::string_view id) {
  return is_one_of(id, {"uniform-inputs", "uniform-outputs", "minimum-surface", "surfaces-128-m5"});
}

// Wrong results of which nothing is reported but that they are wrong, or zero.
bool is_zero(std::string_view id) {
  return is_one_of(id, {"fp32-ports", "sqrt-wrong-m1", "names-reserved-m1"});
}

void set(std::optional<std::string>& reason, const ane::Violation& violation) {
  if (!reason) reason = str(violation.limit->id, ": ", violation.where);
}

std::optional<std::string>& compile_fault(Faults& faults, std::string_view id) {
  return id == "one-weight-file" ? faults.bundle : faults.compile;
}

std::optional<std::string>& hang_fault(Faults& faults, std::string_view id) {
  if (id == "tile-poisons") return faults.poison;
  return id == "conv-layers" ? faults.compiling : faults.evaluating;
}

void add(Faults& faults, const ane::Violation& violation) {
  const std::string_view id = violation.limit->id;
  switch (violation.limit->effect) {
    case ane::Effect::compile_error:
      return set(compile_fault(faults, id), violation);
    case ane::Effect::load_error:
      return set(faults.load, violation);
    case ane::Effect::evaluate_error:
      if (!is_of_surfaces(id)) set(faults.evaluate, violation);
      return;
    case ane::Effect::hang_or_crash:
      return set(hang_fault(faults, id), violation);
    case ane::Effect::wrong_data:
      faults.zero_outputs |= is_zero(id);
      faults.last_output_only |= id == "last-output-only";
      return;
    case ane::Effect::slow:
      return;
  }
}

}  // namespace

Faults faults_of(const std::vector<ane::Violation>& violations) {
  Faults faults;
  for (const ane::Violation& violation : violations) add(faults, violation);
  return faults;
}

}  // namespace orion::sim
