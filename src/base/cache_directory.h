#pragma once

#include <filesystem>

namespace orion {

/// Where what can be found out again is kept: ORION_CACHE_DIR, else the system's place for caches. Not
/// created here. Error if there is no such place (no home directory).
std::filesystem::path cache_directory();

}  // namespace orion
