#include "base/cache_directory.h"

#include "orion/error.h"

#include <cstdlib>
#include <optional>

namespace orion {
namespace {

std::optional<std::filesystem::path> from_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::filesystem::path(value);
}

}  // namespace

std::filesystem::path cache_directory() {
  if (const auto own = from_environment("ORION_CACHE_DIR")) return *own;
#ifndef __APPLE__
  if (const auto xdg = from_environment("XDG_CACHE_HOME")) return *xdg / "orion";
#endif
  const auto home = from_environment("HOME");
  if (!home) fail("no cache directory: neither ORION_CACHE_DIR nor HOME is set");
#ifdef __APPLE__
  return *home / "Library" / "Caches" / "orion";
#else
  return *home / ".cache" / "orion";
#endif
}

}  // namespace orion
