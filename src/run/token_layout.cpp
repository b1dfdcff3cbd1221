#include "run/token_layout.h"

#include "base/sha256.h"
#include "orion/error.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace orion {
namespace {

static_assert(std::endian::native == std::endian::little, "the formats are little endian");

using Digits = std::array<char, 64>;  // of a SHA-256

// docs/data.md describes it.
struct OrionHeader {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t width;
  std::uint64_t tokens;
  std::uint64_t vocab;
  std::int64_t separator;
  std::uint64_t documents;
  std::uint64_t text_bytes;
  std::uint64_t zero;
  Digits tokens_hash;
  Digits tokenizer_hash;
  Digits header_hash;  // of all that comes before
};
static_assert(sizeof(OrionHeader) == 256);

constexpr std::array<char, 8> orion_magic = {'O', 'R', 'I', 'O', 'N', 'T', 'O', 'K'};
constexpr std::uint32_t orion_version = 1;
constexpr std::int64_t largest_vocab = std::int64_t{1} << 31;

// 256 int32, of which three have a meaning.
struct LlmcHeader {
  std::uint32_t magic;
  std::uint32_t version;
  std::uint32_t tokens;
};
constexpr std::size_t llmc_header_size = 1024;

struct LlmcKind {
  std::uint32_t magic;
  std::uint32_t version;
  int width;
};
constexpr LlmcKind llmc_kinds[] = {{20240520, 1, 2}, {20240801, 7, 4}};  // GPT-2's, Llama 3's

template <class Record>
Record record_at_start(std::span<const std::byte> file) {
  Record record;
  std::memcpy(&record, file.data(), sizeof record);
  return record;
}

std::string hash_of_header(const OrionHeader& header) {
  return sha256_hex(std::as_bytes(std::span(&header, 1)).first(sizeof header - sizeof header.header_hash));
}

std::string text_of(const Digits& digits) {
  return digits[0] == '\0' ? std::string() : std::string(digits.begin(), digits.end());
}

Digits digits_of(const std::string& text) {
  Digits digits{};
  std::copy_n(text.begin(), std::min(text.size(), digits.size()), digits.begin());
  return digits;
}

bool is_hash(std::string_view text) {
  return text.size() == Digits{}.size() &&
         std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); });
}

// From 0 to 2^62, so that it can be counted with.
std::int64_t checked_number(std::uint64_t value, const char* what, const std::string& name) {
  if (value > std::uint64_t{1} << 62U) fail(name, ": the header says ", value, ' ', what);
  return static_cast<std::int64_t>(value);
}

// `layout` with as many tokens as the header says, if that is what follows it.
bool has_size(const TokenLayout& layout, std::size_t bytes) {
  const auto width = static_cast<std::uint64_t>(layout.width);
  const std::uint64_t rest = bytes - layout.begin;
  return rest % width == 0 && rest / width == layout.count;
}

void check_size(const TokenLayout& layout, std::size_t bytes, const std::string& name) {
  if (!has_size(layout, bytes))
    fail(name, ": the header says ", layout.count, " tokens of ", layout.width, " bytes, and ",
         bytes - layout.begin, " bytes follow it (cut short, or still being written?)");
}

TokenLayout orion_layout(std::span<const std::byte> file, const std::string& name) {
  if (file.size() < sizeof(OrionHeader))
    fail(name, ": ends after ", file.size(), " bytes, inside Orion's header of ", sizeof(OrionHeader));
  const auto header = record_at_start<OrionHeader>(file);
  if (header.version != orion_version)
    fail(name, ": version ", header.version, " of Orion's token files, ", orion_version, " is known");
  if (text_of(header.header_hash) != hash_of_header(header))
    fail(name, ": the header is damaged (its checksum differs); prepare the file again");
  if (header.width != 2 && header.width != 4)
    fail(name, ": the header says ", header.width, " bytes per token, 2 or 4 are known");
  TokenLayout layout{
      .kind = "orion",
      .width = static_cast<int>(header.width),
      .begin = sizeof(OrionHeader),
      .count = header.tokens,
      .facts = TokenFacts{.vocab = checked_number(header.vocab, "tokens in the vocabulary", name),
                          .separator = header.separator,
                          .tokenizer = text_of(header.tokenizer_hash),
                          .documents = checked_number(header.documents, "documents", name),
                          .text_bytes = checked_number(header.text_bytes, "bytes of text", name)},
      .hash = text_of(header.tokens_hash)};
  check_facts(*layout.facts, name);
  if (!is_hash(layout.hash)) fail(name, ": the header states no SHA-256 of the tokens");
  check_size(layout, file.size(), name);
  return layout;
}

// Null if the file does not begin as llm.c's do.
const LlmcKind* llmc_kind(std::span<const std::byte> file) {
  if (file.size() < sizeof(LlmcHeader)) return nullptr;
  const auto magic = record_at_start<LlmcHeader>(file).magic;
  const auto* kind = std::ranges::find(llmc_kinds, magic, &LlmcKind::magic);
  return kind == std::end(llmc_kinds) ? nullptr : kind;
}

TokenLayout llmc_layout(std::span<const std::byte> file, const LlmcKind& kind) {
  const auto header = record_at_start<LlmcHeader>(file);
  return {.kind = "llm.c", .width = kind.width, .begin = llmc_header_size, .count = header.tokens};
}

bool is_llmc(std::span<const std::byte> file, const LlmcKind& kind) {
  return file.size() >= llmc_header_size && record_at_start<LlmcHeader>(file).version == kind.version &&
         has_size(llmc_layout(file, kind), file.size());
}

void check_llmc(std::span<const std::byte> file, const LlmcKind& kind, const std::string& name) {
  if (file.size() < llmc_header_size)
    fail(name, ": ends after ", file.size(), " bytes, inside llm.c's header of ", llmc_header_size);
  const auto version = record_at_start<LlmcHeader>(file).version;
  if (version != kind.version)
    fail(name, ": version ", version, " of llm.c's files with magic ", kind.magic, ", ", kind.version,
         " is known");
  check_size(llmc_layout(file, kind), file.size(), name);
}

int width_by_name(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".bin" || extension == ".u16") return 2;
  if (extension == ".u32") return 4;
  fail(path.string(),
       ": no known header, and the name does not tell whether tokens are uint16 (.bin, .u16) or "
       "uint32 (.u32); say which format it is");
}

TokenLayout raw_layout(std::span<const std::byte> file, const std::filesystem::path& path,
                       TokenFormat format) {
  const bool named = format == TokenFormat::automatic;
  const int width = named ? width_by_name(path) : format == TokenFormat::u16 ? 2 : 4;
  const auto unit = static_cast<std::uint64_t>(width);
  if (file.size() % unit != 0)
    fail(path.string(), ": ", file.size(), " bytes are no whole number of tokens of ", width, " bytes");
  return {.kind = "raw", .width = width, .begin = 0, .count = file.size() / unit};
}

void check_width(const TokenLayout& layout, TokenFormat format, const std::string& name) {
  const int asked = format == TokenFormat::u16 ? 2 : format == TokenFormat::u32 ? 4 : layout.width;
  if (layout.width != asked)
    fail(name, ": ", layout.kind, "'s header says tokens of ", layout.width, " bytes, ", asked,
         " were asked for");
}

std::optional<TokenLayout> layout_by_header(std::span<const std::byte> file, TokenFormat format,
                                            const std::string& name) {
  if (file.size() >= orion_magic.size() &&
      std::memcmp(file.data(), orion_magic.data(), orion_magic.size()) == 0)
    return orion_layout(file, name);
  const LlmcKind* kind = llmc_kind(file);
  if (kind == nullptr) return std::nullopt;
  // A raw file may begin like llm.c's by chance: who names a width says that it is raw, unless all agrees.
  if (format != TokenFormat::automatic && !is_llmc(file, *kind)) return std::nullopt;
  check_llmc(file, *kind, name);
  return llmc_layout(file, *kind);
}

}  // namespace

TokenLayout token_layout(std::span<const std::byte> file, const std::filesystem::path& path,
                         TokenFormat format) {
  const std::string name = path.string();
  if (file.empty()) fail(name, ": the file is empty");
  if (const std::optional<TokenLayout> layout = layout_by_header(file, format, name)) {
    check_width(*layout, format, name);
    if (layout->count == 0) fail(name, ": no tokens after the header");
    return *layout;
  }
  return raw_layout(file, path, format);
}

std::array<std::byte, 256> token_header(const TokenFacts& facts, int width, std::uint64_t tokens,
                                        const std::string& hash) {
  OrionHeader header{.magic = orion_magic,
                     .version = orion_version,
                     .width = static_cast<std::uint32_t>(width),
                     .tokens = tokens,
                     .vocab = static_cast<std::uint64_t>(facts.vocab),
                     .separator = facts.separator,
                     .documents = static_cast<std::uint64_t>(facts.documents),
                     .text_bytes = static_cast<std::uint64_t>(facts.text_bytes),
                     .zero = 0,
                     .tokens_hash = digits_of(hash),
                     .tokenizer_hash = digits_of(facts.tokenizer),
                     .header_hash = {}};
  header.header_hash = digits_of(hash_of_header(header));
  return std::bit_cast<std::array<std::byte, 256>>(header);
}

void check_facts(const TokenFacts& facts, std::string_view name) {
  if (facts.vocab < 1 || facts.vocab > largest_vocab)
    fail(name, ": a vocabulary of ", facts.vocab, " tokens, from 1 to 2^31 is needed");
  if (facts.separator < -1 || facts.separator >= facts.vocab)
    fail(name, ": separator ", facts.separator, " is not in the vocabulary of ", facts.vocab);
  if (!facts.tokenizer.empty() && !is_hash(facts.tokenizer))
    fail(name, ": the tokenizer's SHA-256 is not 64 upper-case hexadecimal digits");
  if (facts.documents < 0 || facts.text_bytes < 0)
    fail(name, ": ", facts.documents, " documents with ", facts.text_bytes, " bytes of text");
}

TokenFormat token_format(std::string_view name) {
  if (name == "auto") return TokenFormat::automatic;
  if (name == "u16") return TokenFormat::u16;
  if (name == "u32") return TokenFormat::u32;
  fail("token format '", name, "': auto, u16 or u32 is needed");
}

}  // namespace orion
