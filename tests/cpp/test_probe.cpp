// Probes against simulated hardware: they must find what its profile says.
#include "ane/probe.h"
#include "orion/error.h"
#include "sim/simulator.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace orion::ane {
namespace {

// P9 stages some hundred programs: once is enough.
bool is_asked(const Profile& profile, std::string_view probe) {
  return probe != "P9" || profile.name == "macos26";
}

// Each on hardware that has done nothing yet.
std::vector<ProbeResult> probe_all(const Profile& profile) {
  std::vector<ProbeResult> results;
  for (const Probe& probe : all_probes()) {
    if (!is_asked(profile, probe.id)) continue;
    sim::restart(profile.name);
    results.push_back(run_probe(*sim::open_simulator(profile), probe.id));
  }
  sim::restart(profile.name);
  return results;
}

// What the simulator cannot show: it reads no int8 constants, whatever the profile; and rows are either
// packed or padded, so that strict, which holds both, is padded.
bool is_shown(const Profile& profile, std::string_view limit) {
  if (limit == "compressed-constants-rejected") return false;
  return limit != "surfaces-packed" || !profile.has("rows-padded");
}

// Every limit that names a probe, except those whose answer is no yes or no on the limit, and the number of
// loaded programs, which the compile budget hides.
void check_every_probe_finds_its_limits(std::span<const ProbeResult> results) {
  constexpr std::string_view explained[] = {"strides-in-text", "cache-by-identity", "loaded-programs",
                                            "events-need-handler"};
  std::vector<std::string_view> found(std::begin(explained), std::end(explained));
  for (const ProbeResult& result : results)
    for (const Finding& finding : result.limits) found.push_back(finding.limit);
  for (const Limit& row : all_limits()) {
    CAPTURE(row.id);
    CHECK((std::ranges::find(found, row.id) != found.end()) == !row.probe.empty());
  }
}

}  // namespace

TEST_CASE("probes find a profile's limits and numbers in the simulator, and leave nothing behind") {
  for (const Profile& profile : all_profiles()) {
    CAPTURE(profile.name);
    sim::restart(profile.name);
    const sim::Counters before = sim::counters(profile.name);
    const std::vector<ProbeResult> results = probe_all(profile);
    const sim::Counters after = sim::counters(profile.name);
    CHECK(after.loaded == before.loaded);
    CHECK(after.models == before.models);
    CHECK(after.surfaces == before.surfaces);
    CHECK(after.directories == before.directories);
    for (const ProbeResult& result : results) {
      CAPTURE(result.probe);
      CAPTURE(result.detail);
      CHECK_FALSE(result.detail.empty());
      for (const Finding& finding : result.limits) {
        CAPTURE(finding.limit);
        CHECK(limit(finding.limit).probe == result.probe);
        if (is_shown(profile, finding.limit)) CHECK(finding.holds == profile.has(finding.limit));
      }
    }
    const Profile measured = measured_profile(results, "measured");
    CHECK(measured.minimum_surface == profile.minimum_surface);
    CHECK(measured.row_alignment == profile.row_alignment);
    CHECK(measured.minimum_width == profile.minimum_width);
    CHECK(measured.weights_per_program == profile.weights_per_program);
    CHECK(measured.weight_files_per_program == profile.weight_files_per_program);
    CHECK(measured.compile_budget == profile.compile_budget);
    CHECK(measured.reload_reads_files == profile.reload_reads_files);
    CHECK(measured.layout_reported == profile.layout_reported);
    if (profile.name == "macos26") check_every_probe_finds_its_limits(results);
  }
}

TEST_CASE("a probe that cannot be asked says why") {
  const ProbeResult result = run_probe(*sim::open_simulator(find_profile("macos26")), "P16");
  CHECK(result.result == Answer::not_asked);
  CHECK(result.detail.find("a handler is a block") != std::string::npos);
  CHECK(result.limits.empty());
}

TEST_CASE("an earlier run's program is known") {
  const Profile& profile = find_profile("macos26");
  sim::restart(profile.name);
  const std::unique_ptr<Engine> engine = sim::open_simulator(profile);
  CHECK(run_probe(*engine, "P14").result == Answer::no);
  CHECK(run_probe(*engine, "P14").result == Answer::yes);
  sim::restart(profile.name);
}

TEST_CASE("a measured profile is of one machine, and keeps to strict where nothing was measured") {
  ProbeResult width{.chip = "h16g", .build = "25A1", .probe = "P3", .question = "?"};
  width.limits = {{"minimum-width", false}};
  width.numbers = {{"minimum_width", 1}};
  const Profile measured = measured_profile({&width, 1}, "here");
  CHECK(measured.name == "here");
  CHECK(measured.minimum_width == 1);
  CHECK_FALSE(measured.has("minimum-width"));
  CHECK(measured.limits.size() + 1 == find_profile("strict").limits.size());
  std::vector<ProbeResult> mixed = {width, width};
  mixed[1].build = "25A2";
  CHECK_THROWS_WITH_AS(measured_profile(mixed, "here"),
                       "profile 'here': results of h16g, 25A1 and of h16g, 25A2 do not mix", Error);
  CHECK_THROWS_AS(measured_profile({}, "here"), Error);
  CHECK_THROWS_AS(run_probe(*sim::open_simulator(find_profile("macos26")), "P17"), Error);
}

}  // namespace orion::ane
