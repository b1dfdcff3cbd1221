// The devices that this process has opened.
#pragma once

#include "orion/device.h"

namespace orion {

/// Every device but the CPU, which is always there.
std::vector<Device*> open_devices();

}  // namespace orion
