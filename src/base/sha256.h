// SHA-256 (FIPS 180-4), for identities of content.
#pragma once

#include "base/sha256_blocks.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace orion {

class Sha256 {
 public:
  using Digest = std::array<std::uint8_t, 32>;

  /// Appends to the message.
  Sha256& update(std::span<const std::byte> bytes);
  Sha256& update(std::string_view text);
  /// Of the message so far; the object must not be used after.
  Digest digest();
  /// The same as 64 upper-case hexadecimal digits.
  std::string hex();

 private:
  Sha256State state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, sha256_block_bytes> pending_{};
  std::size_t pending_size_ = 0;
  std::uint64_t length_ = 0;  // bytes
};

/// Of a whole message, as 64 upper-case hexadecimal digits.
std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);

}  // namespace orion
