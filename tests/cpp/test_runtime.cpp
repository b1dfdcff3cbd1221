// Runtimes of one engine: what they have in common, and what leaves their cache.
#include "orion/error.h"
#include "update_sample.h"

using namespace orion;
using namespace orion::test;
using ane::Update;

namespace {

// Hardware of its own.
ane::Profile hardware(std::string name) {
  ane::Profile profile = ane::find_profile("macos26");
  profile.name = std::move(name);
  return profile;
}

ane::AneDevice device_on(const ane::Profile& profile, Update update = Update::automatic) {
  return {str("sim:", profile.name, ",update=", ane::update_name(update)), sim::open_simulator(profile),
          profile, update};
}

std::unique_ptr<Program> program_on(ane::AneDevice& device, int version) {
  return device.compile(sample_chain(1), device.load(sample_weights(1, version)));
}

}  // namespace

TEST_CASE("runtime: the names of an engine spend one compile budget") {
  ane::Profile profile = hardware("runtime-budget");
  profile.compile_budget = 2;
  ane::AneDevice one = device_on(profile);
  ane::AneDevice other = device_on(profile, Update::recompile);
  const auto first = program_on(one, 0);
  CHECK(other.limits().compiles_left == 1);
  const auto second = program_on(other, 1);
  for (ane::AneDevice* device : {&one, &other}) {
    CHECK(device->runtime().usage().compiles == 2);
    CHECK(device->limits().compiles_left == 0);
    CHECK_THROWS_WITH_AS(program_on(*device, 2), doctest::Contains("has used its 2 compiles"), DeviceError);
  }
  CHECK(sim::counters(profile.name).compiles == 2);
}

TEST_CASE("runtime: compiles stay spent when their device is gone, and another engine has its own") {
  const ane::Profile profile = hardware("runtime-spent");
  ane::AneDevice elsewhere = device_on(hardware("runtime-elsewhere"));
  {
    ane::AneDevice gone = device_on(profile);
    static_cast<void>(program_on(gone, 0));
  }
  CHECK(sim::counters(profile.name).loaded == 0);
  CHECK(device_on(profile).runtime().usage().compiles == 1);
  CHECK(elsewhere.runtime().usage().compiles == 0);
  sim::restart(profile.name);
  CHECK(device_on(profile).runtime().usage().compiles == 0);
}

TEST_CASE("runtime: a program that one name has loaded serves the others") {
  const ane::Profile profile = hardware("runtime-serves");
  ane::AneDevice one = device_on(profile);
  ane::AneDevice other = device_on(profile, Update::recompile);
  const auto first = program_on(one, 0);
  const auto second = program_on(other, 0);
  CHECK(sim::counters(profile.name).loads == 1);
  CHECK(other.runtime().usage().cache_hits == 1);
  CHECK(sample_output(*first).identical(sample_output(*second)));
}

TEST_CASE("runtime: idle programs of all names make room for the one that is loaded") {
  ane::Profile profile = hardware("runtime-idle");
  profile.loaded_programs = 18;  // of which two are kept for the cache
  ane::AneDevice one = device_on(profile);
  ane::AneDevice other = device_on(profile);
  for (int version = 0; version < 4; ++version) {
    static_cast<void>(program_on(version % 2 == 0 ? one : other, version));
    CHECK(sim::counters(profile.name).loaded <= 2);
  }
}

TEST_CASE("runtime: an engine full of programs that no cache counts takes one more in place of an idle one") {
  ane::Profile profile = hardware("runtime-full");
  profile.loaded_programs = 18;
  ane::AneDevice one = device_on(profile);
  ane::AneDevice other = device_on(profile);
  static_cast<void>(program_on(one, 0));  // idle
  const std::unique_ptr<ane::Engine> engine = sim::open_simulator(profile);
  std::vector<std::unique_ptr<ane::Model>> models(17);
  for (std::unique_ptr<ane::Model>& model : models) {
    require_ok(make_model(*engine, sample_image(static_cast<float>(&model - models.data())), model));
    require_ok(model->load());
  }
  REQUIRE(sim::counters(profile.name).loaded == 18);
  const std::unique_ptr<Program> taken = program_on(other, 1);
  CHECK(sim::counters(profile.name).loaded == 18);
  static_cast<void>(sample_output(*taken));
  const std::int64_t loads = sim::counters(profile.name).loads;
  CHECK_THROWS_WITH_AS(program_on(one, 2), doctest::Contains("0x50004"), DeviceError);
  CHECK(sim::counters(profile.name).loads == loads + 1);  // nothing was idle: not tried again
}

TEST_CASE("runtime: a replaced program leaves the engine with its last user") {
  for (const Update update : {Update::new_identity, Update::recompile, Update::delta}) {
    CAPTURE(std::string(ane::update_name(update)));
    ane::Profile profile = ane::find_profile("paper-m4-macos15");  // takes them all
    profile.name = str("runtime-replaced-", ane::update_name(update));
    ane::AneDevice device = device_on(profile, update);
    const auto first = program_on(device, 0);
    const auto equal = program_on(device, 0);
    const auto loaded = [&] { return sim::counters(profile.name).loaded; };
    REQUIRE(loaded() == 1);
    const Tensor before = sample_output(*equal);
    first->weights()->update(sample_weights(1, 1));
    CHECK(loaded() == 2);
    CHECK(sample_output(*equal).identical(before));
    equal->weights()->update(sample_weights(1, 2));
    CHECK(loaded() == 2);
    first->weights()->update(sample_weights(1, 3));
    CHECK(loaded() == 2);
    CHECK(sample_output(*first).identical(fresh_output(1, sample_weights(1, 3), profile)));
  }
}
