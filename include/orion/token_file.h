// Files of token ids, what training reads: docs/data.md shows their bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace orion {

/// The width of ids in a file without a header. `automatic` goes by the name: .bin and .u16 hold uint16, as
/// llama2.c writes it, .u32 holds uint32. A header that agrees with its file is believed in any case.
enum class TokenFormat : std::uint8_t { automatic, u16, u32 };

/// "auto", "u16" or "u32"; Error for any other name.
TokenFormat token_format(std::string_view name);

/// What Orion's header says of the ids that follow it.
struct TokenFacts {
  std::int64_t vocab = 0;       // ids are below it
  std::int64_t separator = -1;  // the id between documents; -1: none
  std::string tokenizer = {};   // SHA-256 of the tokenizer, 64 hexadecimal digits; empty: unknown
  std::int64_t documents = 0;   // how many texts were encoded
  std::int64_t text_bytes = 0;  // their UTF-8 bytes
};

/// A file of token ids, mapped, read-only: little-endian uint16 or uint32 after no header (llama2.c),
/// llm.c's or Orion's own. May be read by several threads.
class TokenFile {
 public:
  /// Error naming the file and what is wrong with it. Only the header is looked at.
  explicit TokenFile(const std::filesystem::path& path, TokenFormat format = TokenFormat::automatic);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  const std::filesystem::path& path() const;
  /// Number of tokens.
  std::int64_t size() const;
  /// Bytes per token: 2 or 4.
  int width() const;
  /// Whose header it has: "raw", "llm.c" or "orion".
  std::string_view kind() const;
  /// None unless the header is Orion's.
  const std::optional<TokenFacts>& facts() const;

  std::int32_t at(std::int64_t index) const;
  /// ids[i] = the token at begin + i. Error if the file has become shorter, or for an id of 2^31 or more.
  void copy(std::int64_t begin, std::span<std::int32_t> ids) const;

  /// The largest id. The first call of this or `hash` reads the whole file, once. Error if it is not
  /// what its header promises.
  std::int32_t max_token() const;
  /// SHA-256 of the tokens' bytes, header not included, as 64 upper-case hexadecimal digits.
  const std::string& hash() const;
  /// Error naming the first position whose id is not below `vocab`.
  void check_ids(std::int64_t vocab) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Writes a file with Orion's header: uint16 if the vocabulary allows it, else uint32. Nothing is seen at
/// `path` before `commit`, which puts the whole file there in one step.
class TokenWriter {
 public:
  /// `facts.documents` and `text_bytes` are told to `commit`.
  TokenWriter(const std::filesystem::path& path, TokenFacts facts);
  ~TokenWriter();
  TokenWriter(const TokenWriter&) = delete;
  TokenWriter& operator=(const TokenWriter&) = delete;

  /// Appends. Error for an id outside the vocabulary; then none of `ids` is written.
  void write(std::span<const std::int32_t> ids);
  /// Tokens written so far.
  std::int64_t size() const;
  int width() const;
  /// Error if no token was written.
  void commit(std::int64_t documents, std::int64_t text_bytes);
  /// Leaves `path` as it was; no effect after `commit`.
  void discard();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace orion
