#include "framework/simulator.h"

#include "framework/controls.h"
#include "orion/error.h"

#include <cstdlib>
#include <map>
#include <mutex>

namespace orion::framework {
namespace {

std::string profile_name() {
  const char* name = std::getenv("ORION_SIM_PROFILE");
  return name == nullptr ? "strict" : name;
}

ane::Engine* engine_of(const ane::Profile& profile, const std::string& staging) {
  static auto& engines = *new std::map<std::string, std::unique_ptr<ane::Engine>>;
  static std::mutex& mutex = *new std::mutex;
  const std::lock_guard lock(mutex);
  auto& engine = engines[profile.name];
  if (!engine) engine = sim::open_simulator(profile, staging);
  return engine.get();
}

}  // namespace

ane::Engine* simulated_engine(const std::string& staging, std::string& reason) {
  try {
    return engine_of(ane::find_profile(profile_name()), staging);
  } catch (const Error& error) {
    reason = error.what();
    return nullptr;
  }
}

bool attributes_raise() {
  return ane::find_profile(profile_name()).has("attributes-throw");
}

}  // namespace orion::framework

void orion_sim_counters(const char* profile, orion::sim::Counters* counters) {
  *counters = orion::sim::counters(profile);
}

void orion_sim_restart(const char* profile) {
  orion::sim::restart(profile);
}
