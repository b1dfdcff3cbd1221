// What every engine must do: the simulator, and the framework's runtime over the simulated framework.
#include "engine_sample.h"

#ifdef ORION_SIMULATED_FRAMEWORK
#include "framework_library.h"
#endif

using namespace orion;
using namespace orion::test;
using ane::Status;

namespace {

struct Setup {
  std::string title;
  std::string profile;
  std::unique_ptr<ane::Engine> (*open)(const std::string& profile);
  sim::Counters (*counters)(const std::string& profile);
};

std::unique_ptr<ane::Engine> open_simulated(const std::string& profile) {
  return sim::open_simulator(ane::find_profile(profile));
}

sim::Counters simulator_counters(const std::string& profile) {
  return sim::counters(profile);
}

std::vector<Setup> setups() {
  std::vector<Setup> all;
  for (const ane::Profile& profile : ane::all_profiles()) {
    all.push_back({"simulator " + profile.name, profile.name, open_simulated, simulator_counters});
#ifdef ORION_SIMULATED_FRAMEWORK
    all.push_back({"framework " + profile.name, profile.name, open_over_simulator, library_counters});
#endif
  }
  return all;
}

// Runs `check` with an engine of each setup; afterwards nothing may be left of what it made.
void for_each_engine(void (*check)(ane::Engine&, const ane::Profile&)) {
  for (const Setup& setup : setups()) {
    CAPTURE(setup.title);
    const Environment profile("ORION_SIM_PROFILE", setup.profile);
    check(*setup.open(setup.profile), ane::find_profile(setup.profile));
    const sim::Counters left = setup.counters(setup.profile);
    CHECK(left.models == 0);
    CHECK(left.loaded == 0);
    CHECK(left.surfaces == 0);
    CHECK(left.directories == 0);
#ifdef ORION_SIMULATED_FRAMEWORK
    CHECK(framework_library().live_objects() == 0);
#endif
  }
}

std::unique_ptr<ane::Model> loaded_model(ane::Engine& engine, float scale) {
  std::unique_ptr<ane::Model> model;
  require_ok(make_model(engine, sample_image(scale), model));
  require_ok(model->compile());
  require_ok(model->load());
  return model;
}

std::vector<std::string> names(const std::vector<ane::Symbol>& symbols) {
  std::vector<std::string> result;
  for (const ane::Symbol& symbol : symbols) result.push_back(symbol.name);
  return result;
}

float difference(ane::Model& model, SampleSurfaces& surfaces, float alpha, float zeta) {
  require_ok(fill(*surfaces.alpha, alpha));
  require_ok(fill(*surfaces.zeta, zeta));
  require_ok(model.evaluate());
  std::optional<float> value;
  require_ok(read(*surfaces.difference, value));
  REQUIRE(value.has_value());
  return *value;
}

}  // namespace

TEST_CASE("engine: a surface keeps its memory, and its locks nest") {
  for_each_engine([](ane::Engine& engine, const ane::Profile&) {
    std::unique_ptr<ane::Surface> surface;
    require_ok(engine.create_surface(surface_bytes, surface));
    CHECK(surface->bytes() == surface_bytes);
    CHECK_FALSE(surface->unlock().ok());
    require_ok(surface->lock(false));
    void* base = surface->base();
    std::memset(base, 0x3c, surface_bytes);
    require_ok(surface->unlock());
    CHECK(surface->base() == nullptr);
    require_ok(surface->lock(true));
    require_ok(surface->lock(true));
    require_ok(surface->unlock());
    CHECK(surface->base() == base);
    CHECK(*(static_cast<const char*>(base) + surface_bytes - 1) == 0x3c);
    require_ok(surface->unlock());
    CHECK_FALSE(surface->unlock().ok());
  });
}

TEST_CASE("engine: a program from text to numbers") {
  for_each_engine([](ane::Engine& engine, const ane::Profile&) {
    const std::unique_ptr<ane::Model> model = loaded_model(engine, 2);
    SampleSurfaces surfaces;
    require_ok(surfaces.create(engine));
    require_ok(surfaces.bind(*model));
    CHECK(difference(*model, surfaces, 1, 3) == 5);
    CHECK(difference(*model, surfaces, -4, 0.5) == 5);
    require_ok(model->unload());
  });
}

TEST_CASE("engine: other surfaces can be bound, and those bound before are left alone") {
  for_each_engine([](ane::Engine& engine, const ane::Profile&) {
    const std::unique_ptr<ane::Model> model = loaded_model(engine, 1);
    SampleSurfaces first, second;
    require_ok(first.create(engine));
    require_ok(second.create(engine));
    require_ok(first.bind(*model));
    CHECK(difference(*model, first, 1, 3) == 2);
    require_ok(second.bind(*model));
    CHECK(difference(*model, second, 2, 8) == 6);
    std::optional<float> kept;
    require_ok(read(*first.difference, kept));
    CHECK(kept == 2);
  });
}

TEST_CASE("engine: a loaded program tells its symbols and strides, in the order of binding") {
  for_each_engine([](ane::Engine& engine, const ane::Profile& profile) {
    const std::unique_ptr<ane::Model> model = loaded_model(engine, 1);
    ane::Layout layout;
    const Status status = model->layout(layout);
    if (!profile.layout_reported) {
      CHECK(status.kind == Status::Kind::unavailable);
      return;
    }
    require_ok(status);
    CHECK(names(layout.inputs) == std::vector<std::string>{"alpha", "zeta"});
    CHECK(names(layout.outputs) == std::vector<std::string>{"difference@output"});
    const ane::Symbol& alpha = layout.inputs[0];
    CHECK(alpha.type == "Float16");
    CHECK(alpha.channels == channels);
    CHECK(alpha.width == columns);
    CHECK(alpha.row_stride == columns * 2);
    CHECK(alpha.plane_stride == columns * 2);
    CHECK(alpha.batch_stride == static_cast<std::int64_t>(surface_bytes));
  });
}

TEST_CASE("engine: equal programs share identity and directory, and none breaks its sibling") {
  for_each_engine([](ane::Engine& engine, const ane::Profile&) {
    std::unique_ptr<ane::Model> first = loaded_model(engine, 3);
    const std::unique_ptr<ane::Model> second = loaded_model(engine, 3);
    const std::unique_ptr<ane::Model> other = loaded_model(engine, 4);
    CHECK(first->identifier() == second->identifier());
    CHECK(first->directory() == second->directory());
    CHECK(first->identifier() != other->identifier());
    first.reset();
    SampleSurfaces surfaces;
    require_ok(surfaces.create(engine));
    require_ok(surfaces.bind(*second));
    CHECK(difference(*second, surfaces, 1, 1) == 2);
    require_ok(surfaces.bind(*other));
    CHECK(difference(*other, surfaces, 1, 1) == 3);
  });
}

TEST_CASE("engine: what was compiled is known until it is purged") {
  for_each_engine([](ane::Engine& engine, const ane::Profile&) {
    std::unique_ptr<ane::Model> model;
    require_ok(make_model(engine, sample_image(7), model));
    require_ok(model->purge());
    CHECK_FALSE(model->compiled_exists());
    require_ok(model->compile());
    CHECK(model->compiled_exists());
    require_ok(model->purge());
    CHECK_FALSE(model->compiled_exists());
  });
}

TEST_CASE("engine: a text that is no program is refused by the compiler") {
  for_each_engine([](ane::Engine& engine, const ane::Profile&) {
    std::unique_ptr<ane::Model> model;
    require_ok(engine.create_model("program(1.3) { nothing }", {}, model));
    const Status status = model->compile();
    CHECK(status.kind == Status::Kind::refused);
    CHECK(status.call == "compile");
    CHECK(status.domain == "com.apple.appleneuralengine.compiler");
    CHECK_FALSE(status.text.empty());
  });
}

TEST_CASE("engine: calls out of order fail, and say which") {
  for_each_engine([](ane::Engine& engine, const ane::Profile&) {
    std::unique_ptr<ane::Model> model;
    require_ok(make_model(engine, sample_image(8), model));
    ane::Layout layout;
    CHECK(model->evaluate().call == "evaluate");
    CHECK_FALSE(model->evaluate().ok());
    CHECK(model->unload().call == "unload");
    CHECK_FALSE(model->unload().ok());
    CHECK_FALSE(model->layout(layout).ok());
  });
}
