// The simulated framework: its controls, and engines over it.
#pragma once

#include "ane/engine_share.h"
#include "ane/time_limit.h"
#include "engine_sample.h"
#include "framework/controls.h"

#include <dlfcn.h>
#include <chrono>
#include <thread>

namespace orion::test {

struct FrameworkLibrary {
  decltype(&orion_sim_live_objects) live_objects;
  decltype(&orion_sim_plan_fault) plan_fault;
  decltype(&orion_sim_forget_faults) forget_faults;
  decltype(&orion_sim_calls) calls;
  decltype(&orion_sim_hanging) hanging;
  decltype(&orion_sim_release_hanging) release_hanging;
  decltype(&orion_sim_counters) counters;
  decltype(&orion_sim_restart) restart;
  decltype(&orion_sim_text_as_string) text_as_string;
  decltype(&orion_sim_no_weights) no_weights;
};

inline const FrameworkLibrary& framework_library() {
  static const FrameworkLibrary library = [] {
    void* handle = ::dlopen(ORION_SIMULATED_FRAMEWORK, RTLD_NOW | RTLD_GLOBAL);
    REQUIRE_MESSAGE(handle != nullptr, ::dlerror());
    const auto find = [&]<class Function>(Function& function, const char* name) {
      function = reinterpret_cast<Function>(::dlsym(handle, name));
      INFO(name);
      REQUIRE((function != nullptr));
    };
    FrameworkLibrary found{};
    find(found.live_objects, "orion_sim_live_objects");
    find(found.plan_fault, "orion_sim_plan_fault");
    find(found.forget_faults, "orion_sim_forget_faults");
    find(found.calls, "orion_sim_calls");
    find(found.hanging, "orion_sim_hanging");
    find(found.release_hanging, "orion_sim_release_hanging");
    find(found.counters, "orion_sim_counters");
    find(found.restart, "orion_sim_restart");
    find(found.text_as_string, "orion_sim_text_as_string");
    find(found.no_weights, "orion_sim_no_weights");
    return found;
  }();
  return library;
}

/// The framework's runtime; which hardware is simulated is read from ORION_SIM_PROFILE.
inline std::unique_ptr<ane::Engine> open_over_simulator(const std::string&) {
  std::unique_ptr<ane::Engine> engine;
  require_ok(ane::open_framework(ORION_SIMULATED_FRAMEWORK, engine));
  return engine;
}

inline sim::Counters library_counters(const std::string& profile) {
  sim::Counters counters;
  framework_library().counters(profile.c_str(), &counters);
  return counters;
}

/// As a new process on a machine just started would find the simulated framework.
inline void restart_framework(const std::string& profile) {
  ane::share_of({.framework = {}, .chip = profile, .os_build = "simulated", .found = {}, .missing = {}})
      ->restart();
  framework_library().restart(profile.c_str());
}

/// Lets calls that hang go on, and waits for their end.
inline void release_hanging() {
  framework_library().release_hanging();
  for (int i = 0; i < 1000 && ane::calls_given_up() > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  REQUIRE(ane::calls_given_up() == 0);
}

/// That no object, model, surface or directory of the simulated framework is left.
inline void check_nothing_left(const std::string& profile) {
  const sim::Counters left = library_counters(profile);
  CHECK(framework_library().live_objects() == 0);
  CHECK(left.models == 0);
  CHECK(left.loaded == 0);
  CHECK(left.surfaces == 0);
  CHECK(left.directories == 0);
}

}  // namespace orion::test
