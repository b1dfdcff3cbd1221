// The list of probes, and the profile that they measure.
#include "ane/probe.h"

#include "ane/probes.h"
#include "ane/profile_fields.h"
#include "orion/error.h"

#include <algorithm>
#include <chrono>

namespace orion::ane {
namespace {

void set(Profile& profile, const std::string& name, std::int64_t value) {
  for (const NumberField& field : number_fields)
    if (field.name == name) profile.*field.member = value;
  for (const FlagField& field : flag_fields)
    if (field.name == name) profile.*field.member = value != 0;
}

void set(Profile& profile, const Finding& finding) {
  std::erase(profile.limits, finding.limit);
  if (finding.holds) profile.limits.emplace_back(finding.limit);
}

}  // namespace

std::string_view answer_name(Answer answer) {
  constexpr std::string_view names[] = {"yes", "no", "mixed", "unknown", "not asked"};
  return names[static_cast<std::size_t>(answer)];
}

std::span<const Probe> all_probes() {
  static constexpr Probe probes[] = {
      {"P1", "Does loading again take changed weight files?", probe_reload},
      {"P2", "Do the numbers of weight tensors and weight files matter?", probe_weight_counts},
      {"P3", "Do rows, widths and types of surfaces matter as reported?", probe_rows},
      {"P4", "Are surfaces bound in alphabetical order of their names?", probe_order},
      {"P5", "Must all inputs, and all outputs, have one size?", probe_sizes},
      {"P6", "Are the operations reported as rejected or wrong so?", probe_operations},
      {"P7", "Does a program with 32 inputs fail?", probe_many_inputs},
      {"P8", "Can a program's text state strides (tensor_buffer)?", probe_buffers},
      {"P9", "Are compilations and loaded programs of a process limited?", probe_process_limits},
      {"P10", "Are int8 constants and int8 inputs rejected?", probe_int8},
      {"P11", "Does arithmetic differ from IEEE fp16 with wide sums?", probe_numerics},
      {"P12", "Does a text of two functions make two procedures?", probe_procedures},
      {"P13", "Can two threads evaluate at the same time?", probe_threads},
      {"P14", "Is what an earlier process compiled still known?", probe_earlier_process},
      {"P15", "Does loading compile what was never compiled?", probe_load_on_demand},
      {"P16", "Does a request with shared events need a completion handler?", nullptr,
       "a handler is a block, which the dialect of framework.mm that builds without Apple's runtime leaves "
       "out"},
  };
  return probes;
}

ProbeResult run_probe(Engine& engine, std::string_view id) {
  const auto probe = std::ranges::find(all_probes(), id, &Probe::id);
  if (probe == all_probes().end()) fail("unknown probe '", id, "': P1 to P16 are known");
  const EngineInfo info = engine.info();
  ProbeResult result{
      .chip = info.chip, .build = info.os_build, .probe = probe->id, .question = probe->question};
  if (probe->run == nullptr) {
    result.result = Answer::not_asked;
    note(result, probe->not_asked);
    return result;
  }
  const auto start = std::chrono::steady_clock::now();
  probe->run(engine, result);
  result.ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return result;
}

Profile measured_profile(std::span<const ProbeResult> results, std::string name) {
  if (results.empty()) fail("profile '", name, "': no results to make it of");
  const ProbeResult& first = results.front();
  Profile profile = find_profile("strict");
  profile.name = std::move(name);
  profile.doc =
      str("Measured on ", first.chip, ", ", first.build, ". What was not measured is as in strict.");
  for (const ProbeResult& result : results) {
    if (result.chip != first.chip || result.build != first.build)
      fail("profile '", profile.name, "': results of ", first.chip, ", ", first.build, " and of ",
           result.chip, ", ", result.build, " do not mix");
    for (const Finding& finding : result.limits) set(profile, finding);
    for (const auto& [field, value] : result.numbers) set(profile, field, value);
  }
  return profile;
}

void find(ProbeResult& result, std::string_view limit, bool holds, std::string_view line) {
  result.limits.push_back({limit, holds});
  note(result, line);
}

void note(ProbeResult& result, std::string_view line) {
  if (!result.detail.empty()) result.detail += "; ";
  result.detail += line;
}

Answer answer_of(const std::vector<Finding>& limits) {
  const auto holding = std::ranges::count(limits, true, &Finding::holds);
  if (limits.empty()) return Answer::unknown;
  if (holding == 0) return Answer::no;
  return holding == std::ssize(limits) ? Answer::yes : Answer::mixed;
}

}  // namespace orion::ane
