// The devices of this build, and how their names are read.
#include "ane/device.h"
#include "cpu/device.h"
#include "orion/ane.h"
#include "orion/error.h"
#include "sim/simulator.h"

#include <algorithm>
#include <map>
#include <mutex>

namespace orion {
namespace {

// "sim:macos26,update=delta" in parts.
struct Name {
  std::string_view kind;
  std::string_view argument;
  std::map<std::string_view, std::string_view> options;
};

Name parse(std::string_view full) {
  Name name;
  std::string_view rest = full;
  const auto cut = [&rest](char separator) {
    const std::size_t end = std::min(rest.find(separator), rest.size());
    const std::string_view part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return part;
  };
  std::string_view head = cut(',');
  name.kind = head.substr(0, head.find(':'));
  if (name.kind.size() < head.size()) name.argument = head.substr(name.kind.size() + 1);
  while (!rest.empty()) {
    const std::string_view option = cut(',');
    const std::size_t equals = option.find('=');
    if (equals == std::string_view::npos)
      fail("device '", full, "': '", option, "' is no option, options are name=value");
    name.options[option.substr(0, equals)] = option.substr(equals + 1);
  }
  return name;
}

std::string_view take(Name& name, std::string_view option, std::string_view fallback) {
  const auto found = name.options.find(option);
  if (found == name.options.end()) return fallback;
  const std::string_view value = found->second;
  name.options.erase(found);
  return value;
}

void refuse_rest(std::string_view full, const Name& name) {
  if (!name.options.empty()) fail("device '", full, "': no option '", name.options.begin()->first, "'");
}

// Programs are made for the simulated hardware, or for the profile named: "sim:macos26,profile=strict".
std::unique_ptr<Device> open_simulated(std::string_view full, Name name) {
  const ane::Update update = ane::update_from_name(take(name, "update", "auto"));
  const ane::Profile& hardware = ane::find_profile(name.argument.empty() ? "strict" : name.argument);
  const ane::Profile& profile = ane::find_profile(take(name, "profile", hardware.name));
  refuse_rest(full, name);
  return std::make_unique<ane::AneDevice>(std::string(full), sim::open_simulator(hardware), profile, update);
}

std::unique_ptr<Device> open_real(std::string_view full, Name name) {
  const ane::Update update = ane::update_from_name(take(name, "update", "auto"));
  const ane::Profile& profile = ane::find_profile(take(name, "profile", "strict"));
  refuse_rest(full, name);
  std::unique_ptr<ane::Engine> engine;
  ane::require(ane::open_framework(name.argument, engine));
  return std::make_unique<ane::AneDevice>(std::string(full), std::move(engine), profile, update);
}

struct Entry {
  std::string_view kind;
  std::unique_ptr<Device> (*open)(std::string_view full, Name name);  // null: the CPU, always open
};

// "auto" takes the first.
constexpr Entry devices[] = {{"cpu", nullptr}, {"ane", open_real}, {"sim", open_simulated}};

struct OpenDevices {
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<Device>, std::less<>> by_name;
};

OpenDevices& opened() {
  static OpenDevices devices_here;
  return devices_here;
}

}  // namespace

Device& find_device(std::string_view full) {
  Name name = parse(full);
  if (name.kind == "auto") name.kind = devices[0].kind;
  const auto entry = std::ranges::find(devices, name.kind, &Entry::kind);
  if (entry == std::end(devices)) {
    std::string known;
    for (const Entry& e : devices) known += str(", ", e.kind);
    fail("unknown device '", full, "': auto", known, " are known");
  }
  if (entry->open == nullptr) {
    refuse_rest(full, name);
    return cpu::cpu_device();
  }
  OpenDevices& devices_here = opened();
  const std::lock_guard lock(devices_here.mutex);
  auto found = devices_here.by_name.find(full);
  if (found == devices_here.by_name.end())
    found = devices_here.by_name.emplace(full, entry->open(full, name)).first;
  return *found->second;
}

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const Entry& entry : devices) names.emplace_back(entry.kind);
  return names;
}

}  // namespace orion
