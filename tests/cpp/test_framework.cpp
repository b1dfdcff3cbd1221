// The framework's runtime when the framework misbehaves.
#ifdef ORION_SIMULATED_FRAMEWORK
#include "ane/probe.h"
#include "framework_library.h"

#include <unistd.h>
#include <algorithm>

using namespace orion;
using namespace orion::test;
using ane::Status;

namespace fs = std::filesystem;

namespace {

constexpr const char* profile = "macos26";

// One program's whole life, ended by the first call that fails.
Status live(ane::Engine& engine, std::optional<float>& result) {
  SampleSurfaces surfaces;
  std::unique_ptr<ane::Model> model;
  ane::Layout layout;
  Status status = surfaces.create(engine);
  if (status.ok()) status = make_model(engine, sample_image(2), model);
  if (status.ok()) status = model->purge();
  if (status.ok() && !model->compiled_exists()) status = model->compile();
  if (status.ok()) status = model->load();
  if (status.ok()) status = model->layout(layout);
  if (status.ok()) status = surfaces.bind(*model);
  if (status.ok()) status = fill(*surfaces.alpha, 1);
  if (status.ok()) status = fill(*surfaces.zeta, 3);
  if (status.ok()) status = model->evaluate();
  if (status.ok()) status = read(*surfaces.difference, result);
  if (status.ok()) status = model->unload();
  return status;
}

// How a life with the fault ends, after which nothing may be left and the next life must be a good one.
Status life_with(const std::string& call, const std::string& kind, int nth) {
  const std::size_t files = open_files();
  const auto engine = open_over_simulator(profile);
  std::optional<float> result;
  REQUIRE(framework_library().plan_fault(call.c_str(), kind.c_str(), nth));
  const Status status = live(*engine, result);
  framework_library().forget_faults();
  release_hanging();
  check_nothing_left(profile);
  CHECK(open_files() == files);
  require_ok(live(*engine, result));
  CHECK(result == 5);
  return status;
}

// A framework's call, its number in one life, and what our error calls it.
struct Case {
  std::string call;
  int nth;
  std::string named;
};

const Case cases[] = {
    {"surface", 1, "surface"},   {"surface", 3, "surface"}, {"wrap", 2, "surface"},
    {"descriptor", 1, "model"},  {"model", 1, "model"},     {"identifier", 1, "model"},
    {"compile", 1, "compile"},   {"load", 1, "load"},       {"request", 1, "bind"},
    {"lock", 1, "lock"},         {"lock", 3, "lock"},       {"unlock", 2, "unlock"},
    {"evaluate", 1, "evaluate"}, {"unload", 1, "unload"},
};

struct Prepared {
  Environment hardware{"ORION_SIM_PROFILE", profile};
  std::unique_ptr<ane::Engine> engine = open_over_simulator(profile);  // opens the library and its files
};

}  // namespace

TEST_CASE("framework: every call may fail, return nothing or raise") {
  const Prepared prepared;
  for (const Case& fault : cases) {
    for (const std::string kind : {"fail", "nil", "raise"}) {
      CAPTURE(fault.call);
      CAPTURE(kind);
      const Status status = life_with(fault.call, kind, fault.nth);
      CHECK(status.kind == (kind == "raise" ? Status::Kind::raised : Status::Kind::refused));
      CHECK(status.call == fault.named);
      CHECK(status.message().starts_with(fault.named));
    }
  }
}

TEST_CASE("framework: an error has the framework's words") {
  const Prepared prepared;
  CHECK(life_with("load", "fail", 1).message() == "load: orion.planned 7: a planned failure");
  CHECK(life_with("load", "nil", 1).message() == "load: no error 0: not loaded");
  CHECK(life_with("load", "raise", 1).message() ==
        "load: the framework raised OrionPlanned: a planned exception");
}

TEST_CASE("framework: every call that leaves the process may hang") {
  const Prepared prepared;
  const Environment limit("ORION_ANE_TIMEOUT", "0.4");
  for (const Case& fault : cases) {
    if (fault.named.ends_with("lock")) continue;  // a lock is no call to a daemon
    CAPTURE(fault.call);
    const Status status = life_with(fault.call, "hang", fault.nth);
    CHECK(status.kind == Status::Kind::timed_out);
    CHECK(status.call == fault.named);
  }
}

TEST_CASE("framework: questions that are not answered have an answer that is safe") {
  const Prepared prepared;
  for (const std::string kind : {"fail", "nil", "raise"}) {
    CHECK(life_with("exists", kind, 1).ok());      // compiled once more
    CHECK(life_with("attributes", kind, 1).ok());  // the inner model is asked
  }
  CHECK(life_with("purge", "raise", 1).call == "purge");
}

TEST_CASE("framework: a model whose call hangs is not used again, and outlives the call") {
  const Prepared prepared;
  const Environment limit("ORION_ANE_TIMEOUT", "0.4");
  const auto engine = open_over_simulator(profile);
  std::unique_ptr<ane::Model> model;
  require_ok(make_model(*engine, sample_image(2), model));
  require_ok(model->compile());
  REQUIRE(framework_library().plan_fault("load", "hang", 1));
  CHECK(model->load().kind == Status::Kind::timed_out);
  CHECK(framework_library().hanging() == 1);
  const Status next = model->evaluate();
  CHECK(next.kind == Status::Kind::timed_out);
  CHECK(next.message().find("load has not returned") != std::string::npos);
  const std::string directory = model->directory();
  model.reset();
  CHECK(framework_library().live_objects() > 0);
  CHECK(fs::exists(directory));
  release_hanging();
  check_nothing_left(profile);
  CHECK_FALSE(fs::exists(directory));
}

TEST_CASE("framework: a failed unload is repeated when the model goes") {
  const Prepared prepared;
  const auto engine = open_over_simulator(profile);
  std::unique_ptr<ane::Model> model;
  require_ok(make_model(*engine, sample_image(2), model));
  require_ok(model->load());
  REQUIRE(framework_library().plan_fault("unload", "fail", 1));
  CHECK(model->unload().kind == Status::Kind::refused);
  CHECK(library_counters(profile).loaded == 1);
  model.reset();
  CHECK(library_counters(profile).loaded == 0);
}

TEST_CASE("framework: a request names its procedure and that procedure's symbols") {
  const Prepared prepared;
  const ane::ProbeResult asked = ane::run_probe(*open_over_simulator(profile), "P12");
  CAPTURE(asked.detail);
  CHECK(asked.result == ane::Answer::yes);
  CHECK(asked.limits.size() == 1);
  CHECK(asked.limits[0].holds == ane::find_profile(profile).has("procedure-symbols"));
  CHECK(asked.detail.find("its own symbols: inputs 1, outputs 1: right") != std::string::npos);
}

TEST_CASE("framework: surfaces are touched only while they are locked") {
  const Environment strict("ORION_SIM_STRICT", "1");
  const Prepared prepared;
  const auto engine = open_over_simulator(profile);
  std::optional<float> result;
  require_ok(live(*engine, result));
  CHECK(result == 5);

  std::unique_ptr<ane::Surface> surface;
  require_ok(engine->create_surface(surface_bytes, surface));
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  require_ok(surface->lock(true));
  void* base = surface->base();
  CHECK(::write(pipe[1], base, 1) == 1);
  CHECK(::read(pipe[0], base, 1) == -1);  // locked for reading only
  require_ok(surface->unlock());
  CHECK(surface->base() == nullptr);
  CHECK(::write(pipe[1], base, 1) == -1);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_CASE("framework: what is loaded does not keep a copy of its weights") {
  const Prepared prepared;
  const auto engine = open_over_simulator(profile);
  std::unique_ptr<ane::Model> model;
  require_ok(make_model(*engine, sample_image(2), model));
  require_ok(model->compile());
  const long before = framework_library().live_objects();
  require_ok(model->load());
  CHECK(framework_library().live_objects() == before - 1);
}

TEST_CASE("framework: surfaces of another engine, no surfaces, and a time limit that is none") {
  const Prepared prepared;
  const auto engine = open_over_simulator(profile);
  const auto other = sim::open_simulator(ane::find_profile(profile));
  std::unique_ptr<ane::Model> model;
  require_ok(make_model(*engine, sample_image(2), model));
  require_ok(model->load());
  CHECK(model->evaluate().kind == Status::Kind::misused);
  SampleSurfaces foreign;
  require_ok(foreign.create(*other));
  CHECK(foreign.bind(*model).kind == Status::Kind::misused);

  for (const char* text : {"", "0", "-1", "soon", "3s", "inf", "nan"}) {
    CAPTURE(text);
    const Environment limit("ORION_ANE_TIMEOUT", text);
    std::unique_ptr<ane::Engine> none;
    CHECK(ane::open_framework(ORION_SIMULATED_FRAMEWORK, none).kind == Status::Kind::misused);
    CHECK(none == nullptr);
  }
}

TEST_CASE("framework: where it is looked for, and what it says of itself") {
  const Prepared prepared;
  std::unique_ptr<ane::Engine> engine;
  CHECK(ane::open_framework("/nowhere/framework", engine).message().find("/nowhere/framework") !=
        std::string::npos);
  const Environment path("ORION_ANE_FRAMEWORK", ORION_SIMULATED_FRAMEWORK);
  require_ok(ane::open_framework("", engine));
  const ane::EngineInfo info = engine->info();
  CHECK(info.framework == ORION_SIMULATED_FRAMEWORK);
  CHECK(info.missing.empty());
  CHECK(std::ranges::find(info.found, "-[_ANEInMemoryModel loadWithQoS:options:error:]") != info.found.end());
  CHECK_FALSE(info.chip.empty());
  CHECK_FALSE(info.os_build.empty());
}

TEST_CASE("framework: faults planned by the environment come when they are due" * doctest::skip()) {
  const Environment hardware("ORION_SIM_PROFILE", profile);
  const auto engine = open_over_simulator(profile);
  std::optional<float> result;
  CHECK(live(*engine, result).message() == "load: orion.planned 7: a planned failure");
  require_ok(live(*engine, result));
  CHECK(live(*engine, result).call == "evaluate");
  require_ok(live(*engine, result));
}

TEST_CASE("framework: changed classes are refused, each difference named" * doctest::skip()) {
  std::unique_ptr<ane::Engine> engine;
  const Status status = ane::open_framework(ORION_CHANGED_FRAMEWORK, engine);
  CHECK(status.kind == Status::Kind::unavailable);
  CHECK(engine == nullptr);
  for (const char* difference :
       {"-[_ANEInMemoryModel compileWithQoS:options:error:]: B@:q@^@ instead of B@:I@^@",
        "-[_ANEInMemoryModel hexStringIdentifier]: none", "-[IOSurface initWithProperties:]: none",
        "kIOSurfaceWidth: none"}) {
    CAPTURE(difference);
    CHECK(status.text.find(difference) != std::string::npos);
  }
  CHECK(status.text.find("inMemoryModelWithDescriptor:") == std::string::npos);
}
#endif
