// Memory for tensors.
#pragma once

#include <cstddef>
#include <memory>

namespace orion {

/// Bytes of every allocation's alignment: a cache line, and the widest vector.
inline constexpr std::size_t memory_alignment = 64;

/// `bytes` of zeros. From a few MiB on they come from the system as they are first touched, in huge pages
/// where the system has them: fewer faults and translations. std::bad_alloc if there is no memory.
std::shared_ptr<std::byte> zeroed_memory(std::size_t bytes);

}  // namespace orion
