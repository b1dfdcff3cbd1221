#pragma once

#include "orion/device.h"

namespace orion::cpu {

/// The device that exists everywhere.
Device& cpu_device();

}  // namespace orion::cpu
