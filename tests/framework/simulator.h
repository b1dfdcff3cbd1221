// The simulated engine that stands behind the framework's classes.
#pragma once

#include "ane/engine.h"

#include <string>

namespace orion::framework {

/// Of ORION_SIM_PROFILE, staging where the framework does; one for each profile, never destroyed. Null with a
/// reason for an unknown one.
ane::Engine* simulated_engine(const std::string& staging, std::string& reason);

/// Whether asking an in-memory model for its attributes raises, as macOS 27's does.
bool attributes_raise();

}  // namespace orion::framework
