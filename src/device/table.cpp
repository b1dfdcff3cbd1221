// The devices of this build.
#include "cpu/device.h"
#include "orion/error.h"

namespace orion {
namespace {

struct Entry {
  std::string_view name;
  Device& (*get)();
};

// "auto" takes the first.
constexpr Entry devices[] = {{"cpu", cpu::cpu_device}};

}  // namespace

Device& find_device(std::string_view name) {
  if (name == "auto") return devices[0].get();
  for (const Entry& entry : devices)
    if (entry.name == name) return entry.get();
  std::string known;
  for (const Entry& entry : devices) known += str(", ", entry.name);
  fail("unknown device '", name, "': auto", known, " are known");
}

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const Entry& entry : devices) names.emplace_back(entry.name);
  return names;
}

}  // namespace orion
