// Weight updates one after the other: right values, and nothing left behind.
#include "update_sample.h"

#ifdef ORION_SIMULATED_FRAMEWORK
#include "framework_library.h"
#endif

using namespace orion;
using namespace orion::test;
using ane::Update;

namespace {

constexpr const char* hardware = "paper-m4-macos15";  // reads patched files again

// The same without a compile budget.
const ane::Profile& unlimited() {
  static const ane::Profile& profile = [&]() -> const ane::Profile& {
    ane::Profile changed = ane::find_profile(hardware);
    changed.name = "paper-without-budget";
    changed.compile_budget = 1000000;
    return ane::add_profile(changed);
  }();
  return profile;
}

struct Setup {
  std::string title;
  std::string profile;  // whose counters tell
  std::unique_ptr<ane::Engine> (*open)(const std::string& profile);
  sim::Counters (*counters)(const std::string& profile);
};

std::vector<Setup> setups() {
  std::vector<Setup> all = {{"sim", unlimited().name,
                             [](const std::string&) { return sim::open_simulator(unlimited()); },
                             [](const std::string& profile) { return sim::counters(profile); }}};
#ifdef ORION_SIMULATED_FRAMEWORK
  all.push_back({"ane", hardware, open_over_simulator, library_counters});
#endif
  return all;
}

long live_objects() {
#ifdef ORION_SIMULATED_FRAMEWORK
  return framework_library().live_objects();
#else
  return 0;
#endif
}

// Everything that must not grow.
std::map<std::string, std::int64_t> inventory(const Setup& setup) {
  const sim::Counters counters = setup.counters(setup.profile);
  return {{"models", counters.models},           {"loaded", counters.loaded},
          {"surfaces", counters.surfaces},       {"directories", counters.directories},
          {"known programs", counters.compiled}, {"compiles", counters.compiles},
          {"objects", live_objects()},           {"files", static_cast<std::int64_t>(open_files())}};
}

void update_a_hundred_times(const Setup& setup, int layers, Update update) {
  ane::AneDevice device(setup.title, setup.open(setup.profile), unlimited(), update);
  TensorMap weights = sample_weights(layers, 0);
  const auto program = device.compile(sample_chain(layers), device.load(weights));
  // The first update may bring what later ones use again.
  program->weights()->update(weights);
  sample_output(*program);
  std::map<std::string, std::int64_t> before = inventory(setup);
  for (int version = 1; version <= 100; ++version) {
    const int layer = version % layers;
    const TensorMap change = {{sample_weight_name(layer), sample_weight(layer, version)}};
    weights[sample_weight_name(layer)] = change.begin()->second;
    program->weights()->update(change);
    const Tensor actual = sample_output(*program);
    REQUIRE(actual.identical(fresh_output(layers, weights, unlimited())));
  }
  // References are of the same simulator as `sim`: their compiles count, and stay known.
  for (const auto& [name, count] : inventory(setup)) {
    CAPTURE(name);
    const bool references = setup.title == "sim" && (name == "compiles" || name == "known programs");
    CHECK(count == before[name] + (references ? 100 : 0));
  }
}

}  // namespace

TEST_CASE("updates: a hundred equal fresh compiles exactly, and leave nothing behind") {
  const TemporaryDirectory cache;
  const Environment place("ORION_CACHE_DIR", cache.path());
  const Environment simulated("ORION_SIM_PROFILE", hardware);
  for (const Setup& setup : setups()) {
    for (const int layers : {1, 6, 16}) {
      CAPTURE(setup.title);
      CAPTURE(layers);
      update_a_hundred_times(setup, layers, Update::delta);
    }
    sim::restart(unlimited().name);
  }
}

TEST_CASE("updates: programs of one identity do not see each other's patches") {
  const ane::Profile& profile = unlimited();
  ane::AneDevice device("sim", sim::open_simulator(profile), profile, Update::delta);
  const auto make = [&] { return device.compile(sample_chain(2), device.load(sample_weights(2, 0))); };
  const Tensor original = fresh_output(2, sample_weights(2, 0), profile);
  TensorMap changed = sample_weights(2, 0);
  const auto first = make();
  for (int layer = 0; layer < 2; ++layer) {
    changed[sample_weight_name(layer)] = sample_weight(layer, 7 + layer);
    first->weights()->update({{sample_weight_name(layer), sample_weight(layer, 7 + layer)}});
    const auto sibling = make();  // stages the original weights again
    CHECK(sample_output(*sibling).identical(original));
    CHECK(sample_output(*first).identical(fresh_output(2, changed, profile)));
  }
  changed[sample_weight_name(0)] = sample_weight(0, 9);
  first->weights()->update({{sample_weight_name(0), sample_weight(0, 9)}});
  CHECK(sample_output(*first).identical(fresh_output(2, changed, profile)));
}
