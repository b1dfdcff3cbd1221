// The compression function of SHA-256, with the processor's own instructions where it has them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace orion {

using Sha256State = std::array<std::uint32_t, 8>;
inline constexpr std::size_t sha256_block_bytes = 64;

/// Takes in whole blocks.
using Sha256Blocks = void (*)(Sha256State& state, const std::byte* bytes, std::size_t blocks);

/// Plain C++, for every machine.
void sha256_blocks_portable(Sha256State& state, const std::byte* bytes, std::size_t blocks);
/// The fastest that this machine has.
Sha256Blocks sha256_blocks();

}  // namespace orion
