// How far the cores that a pool's threads run on are from each other.
#pragma once

#include "base/threads.h"

#include <optional>

namespace orion::cpu {

/// Whether what one thread has written takes long to reach another, because their cores share no cache.
/// Numbers passed to and fro tell; they do so again after some milliseconds, since systems move threads, and
/// virtual machines their cores. What was measured before is said from inside a split, or if no thread
/// answers.
bool cores_are_far(ThreadPool& pool);

/// What `cores_are_far` says from now on without measuring, so that tests and benchmarks can try both; none:
/// it measures again.
void assume_cores_are_far(std::optional<bool> far);

}  // namespace orion::cpu
