// The list of all limits, and what follows from it alone.
#include "ane/limits.h"

#include "base/near.h"
#include "orion/error.h"

#include <algorithm>

namespace orion::ane {
namespace {

std::vector<Limit> collect() {
  std::vector<Limit> limits;
  for (const LimitFamily& family : limit_families())
    limits.insert(limits.end(), family.limits.begin(), family.limits.end());
  return limits;
}

}  // namespace

std::span<const LimitFamily> limit_families() {
  static const LimitFamily families[] = {
      {"operators", "What the compiler takes of MIL text, and what it makes of it.", operator_limits()},
      {"layout", "Inputs, outputs and the surfaces that hold them.", layout_limits()},
      {"resources", "Sizes, counts and memory.", resource_limits()},
      {"numerics", "What the engine computes where fp32 would compute something else.", numeric_limits()},
      {"runtime", "Compiling, loading, evaluating and changing programs.", runtime_limits()},
  };
  return families;
}

std::span<const Limit> all_limits() {
  static const std::vector<Limit> limits = collect();
  return limits;
}

const Limit& limit(std::string_view id) {
  const auto found = std::ranges::find(all_limits(), id, &Limit::id);
  if (found != all_limits().end()) return *found;
  std::vector<std::string_view> ids;
  for (const Limit& row : all_limits()) ids.push_back(row.id);
  fail("unknown limit '", id, "' (nearest: ", nearest(id, ids), ")");
}

std::string_view effect_name(Effect effect) {
  switch (effect) {
    case Effect::compile_error:
      return "compile error";
    case Effect::load_error:
      return "load error";
    case Effect::evaluate_error:
      return "evaluation error";
    case Effect::wrong_data:
      return "wrong data";
    case Effect::hang_or_crash:
      return "hang or crash";
    case Effect::slow:
      break;
  }
  return "slow";
}

std::string_view confidence_name(Confidence confidence) {
  switch (confidence) {
    case Confidence::doubtful:
      return "doubtful";
    case Confidence::plausible:
      return "plausible";
    case Confidence::strong:
      break;
  }
  return "strong";
}

}  // namespace orion::ane
