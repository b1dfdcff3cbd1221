// Calls that may never return.
#pragma once

#include "ane/engine.h"

#include <chrono>
#include <functional>

namespace orion::ane {

using Seconds = std::chrono::duration<double>;

/// Runs `work` on a thread of its own and waits for its answer at most as long as `limit`: then
/// `timed_out`, while the call goes on. So `work` must own all that it touches. It is destroyed on that
/// thread, before its answer is given.
Status within(Seconds limit, std::string_view call, std::function<Status()> work);

/// Calls that were given up and have not returned yet.
long calls_given_up();

/// ORION_ANE_TIMEOUT in seconds, else 60; `misused` if it is no positive number.
Status time_limit_from_environment(Seconds& limit);

}  // namespace orion::ane
