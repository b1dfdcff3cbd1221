// Where the tokens of a file are: headers, read and written.
#pragma once

#include "orion/token_file.h"

#include <array>
#include <cstddef>

namespace orion {

struct TokenLayout {
  std::string_view kind;    // "raw", "llm.c" or "orion"
  int width = 2;            // bytes per token
  std::uint64_t begin = 0;  // byte of the first token, a multiple of the width
  std::uint64_t count = 0;  // tokens; they end where the file ends
  std::optional<TokenFacts> facts = std::nullopt;
  std::string hash = {};  // of the tokens' bytes, if the header states it
};

/// Error naming `name` unless a header, or the want of one, agrees with the file's size.
TokenLayout token_layout(std::span<const std::byte> file, const std::filesystem::path& name,
                         TokenFormat format);

/// Orion's header of `tokens` tokens whose bytes have this SHA-256.
std::array<std::byte, 256> token_header(const TokenFacts& facts, int width, std::uint64_t tokens,
                                        const std::string& hash);

/// Error unless a header can state these facts.
void check_facts(const TokenFacts& facts, std::string_view name);

}  // namespace orion
