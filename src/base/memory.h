// Memory for tensors.
#pragma once

#include "orion/tensor.h"

#include <cstddef>
#include <memory>

namespace orion {

/// Bytes of every allocation's alignment: a cache line, and the widest vector.
inline constexpr std::size_t memory_alignment = 64;

/// The next multiple of it; `bytes` are far from the largest number.
constexpr std::size_t aligned_bytes(std::size_t bytes) {
  return (bytes + memory_alignment - 1) / memory_alignment * memory_alignment;
}

/// `bytes` of zeros. From 2 MiB on they come from the system as they are first touched, in huge pages
/// where the system has them: fewer faults and translations. std::bad_alloc if there is no memory.
std::shared_ptr<std::byte> zeroed_memory(std::size_t bytes);

/// The same as a tensor, for its owner to divide up.
inline Tensor memory_block(std::size_t bytes) {
  return Tensor(TensorType{DType::boolean, {static_cast<std::int64_t>(bytes)}});
}

}  // namespace orion
