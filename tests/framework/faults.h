// Calls that go wrong on purpose.
#pragma once

#include <string>

namespace orion::framework {

enum class Fault { none, fail, nothing, raise };

/// Counts a call and says how it ends. A call that hangs does so in here, then ends well.
Fault next_fault(const std::string& call);

}  // namespace orion::framework
