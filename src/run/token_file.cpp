#include "orion/token_file.h"

#include "base/file.h"
#include "base/sha256.h"
#include "orion/error.h"
#include "run/token_layout.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

namespace orion {
namespace {

constexpr std::uint32_t largest_id = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t scanned_tokens = std::int64_t{1} << 18;  // at a time, while they are in the cache

// Not `std::ranges::max`: this one is vectorised.
template <class Id>
std::uint32_t largest(std::span<const Id> ids) {
  Id most = 0;
  for (const Id id : ids) most = std::max(most, id);
  return most;
}

}  // namespace

struct TokenFile::State {
  State(const std::filesystem::path& named, TokenFormat format)
      : path(named), file(named), layout(token_layout(file.bytes(), named, format)) {}

  std::int64_t size() const { return static_cast<std::int64_t>(layout.count); }

  // `use` gets the tokens of [begin, begin + count) as they are in the file.
  template <class Use>
  auto with(std::int64_t begin, std::int64_t count, Use use) const {
    if (begin < 0 || count < 0 || begin > size() - count)
      fail(path.string(), ": tokens ", begin, " to ", begin, " + ", count, " of ", size(), " do not exist");
    if (!file.is_whole())
      fail(path.string(), ": the file is shorter than when it was opened; put it back and open it again");
    const std::byte* first = file.bytes().data() + layout.begin +
                             static_cast<std::size_t>(begin) * static_cast<std::size_t>(layout.width);
    const auto length = static_cast<std::size_t>(count);
    if (layout.width == 2) return use(std::span(reinterpret_cast<const std::uint16_t*>(first), length));
    return use(std::span(reinterpret_cast<const std::uint32_t*>(first), length));
  }

  [[noreturn]] void fail_at_first_from(std::uint32_t limit, std::string_view why) const;
  void scan();

  std::filesystem::path path;
  MappedFile file;
  TokenLayout layout;
  std::once_flag scanned;
  std::uint32_t most = 0;
  std::string hash;
};

void TokenFile::State::fail_at_first_from(std::uint32_t limit, std::string_view why) const {
  for (std::int64_t begin = 0; begin < size(); begin += scanned_tokens) {
    with(begin, std::min(scanned_tokens, size() - begin), [&](const auto& ids) {
      const auto found = std::ranges::find_if(ids, [&](std::uint32_t id) { return id >= limit; });
      if (found != ids.end())
        fail(path.string(), ": token ", begin + (found - ids.begin()), " has id ", *found, ", ", why);
    });
  }
  fail(path.string(), ": the file changes while it is read");
}

// One pass for both, so that the file comes off the disk once.
void TokenFile::State::scan() {
  Sha256 sha;
  std::uint32_t found = 0;
  for (std::int64_t begin = 0; begin < size(); begin += scanned_tokens) {
    with(begin, std::min(scanned_tokens, size() - begin), [&](const auto& ids) {
      sha.update(std::as_bytes(ids));
      found = std::max(found, largest(ids));
    });
  }
  std::string digits = sha.hex();
  if (!layout.hash.empty() && layout.hash != digits)
    fail(path.string(),
         ": the tokens are damaged (their checksum differs from the header's); prepare the file again");
  if (found > largest_id)
    fail_at_first_from(largest_id + 1, "and ids are below 2^31 (uint16 tokens read as uint32?)");
  const std::int64_t vocab = layout.facts ? layout.facts->vocab : largest_id + std::int64_t{1};
  if (found >= vocab)
    fail_at_first_from(static_cast<std::uint32_t>(vocab), str("and the header says ", vocab, " tokens"));
  most = found;
  hash = std::move(digits);
}

TokenFile::TokenFile(const std::filesystem::path& path, TokenFormat format)
    : state_(std::make_unique<State>(path, format)) {}

TokenFile::~TokenFile() = default;

const std::filesystem::path& TokenFile::path() const {
  return state_->path;
}

std::int64_t TokenFile::size() const {
  return state_->size();
}

int TokenFile::width() const {
  return state_->layout.width;
}

std::string_view TokenFile::kind() const {
  return state_->layout.kind;
}

const std::optional<TokenFacts>& TokenFile::facts() const {
  return state_->layout.facts;
}

std::int32_t TokenFile::at(std::int64_t index) const {
  std::int32_t id = 0;
  copy(index, {&id, 1});
  return id;
}

void TokenFile::copy(std::int64_t begin, std::span<std::int32_t> ids) const {
  state_->with(begin, std::ssize(ids), [&](const auto& from) {
    if (largest(from) > largest_id) state_->fail_at_first_from(largest_id + 1, "and ids are below 2^31");
    std::ranges::transform(from, ids.begin(), [](std::uint32_t id) { return static_cast<std::int32_t>(id); });
  });
}

std::int32_t TokenFile::max_token() const {
  std::call_once(state_->scanned, [this] { state_->scan(); });
  return static_cast<std::int32_t>(state_->most);
}

const std::string& TokenFile::hash() const {
  std::call_once(state_->scanned, [this] { state_->scan(); });
  return state_->hash;
}

void TokenFile::check_ids(std::int64_t vocab) const {
  if (max_token() >= vocab)
    state_->fail_at_first_from(
        static_cast<std::uint32_t>(std::max<std::int64_t>(vocab, 0)),
        str("outside the vocabulary of ", vocab,
            " (was it made with another model's tokenizer, or is it no uint", 8 * width(), " file?)"));
}

struct TokenWriter::State {
  State(const std::filesystem::path& path, TokenFacts known) : facts(std::move(known)), file(path) {
    file->write(token_header(facts, width(), 0, sha256_hex("")));  // its place; `commit` knows the numbers
  }

  int width() const { return facts.vocab <= 65536 ? 2 : 4; }

  template <class Id>
  void append(std::span<const Id> ids) {
    const std::span<const std::byte> bytes = std::as_bytes(ids);
    sha.update(bytes);
    file->write(bytes);
  }

  TokenFacts facts;
  std::optional<ReplacedFile> file;  // none once committed or discarded
  Sha256 sha;
  std::int64_t size = 0;
};

TokenWriter::TokenWriter(const std::filesystem::path& path, TokenFacts facts) {
  check_facts(facts, path.string());
  state_ = std::make_unique<State>(path, std::move(facts));
}

TokenWriter::~TokenWriter() = default;

void TokenWriter::write(std::span<const std::int32_t> ids) {
  if (!state_->file) fail("token writer: already committed or discarded");
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= state_->facts.vocab)
      fail("token ", state_->size + static_cast<std::int64_t>(i), " has id ", ids[i],
           ", outside the vocabulary of ", state_->facts.vocab, " (is this the model's own tokenizer?)");
  if (width() == 2)
    state_->append(std::span<const std::uint16_t>(std::vector<std::uint16_t>(ids.begin(), ids.end())));
  else
    state_->append(ids);
  state_->size += std::ssize(ids);
}

std::int64_t TokenWriter::size() const {
  return state_->size;
}

int TokenWriter::width() const {
  return state_->width();
}

void TokenWriter::commit(std::int64_t documents, std::int64_t text_bytes) {
  if (!state_->file) fail("token writer: already committed or discarded");
  if (size() == 0) fail("no tokens to write: the text is empty");
  state_->facts.documents = documents;
  state_->facts.text_bytes = text_bytes;
  check_facts(state_->facts, "token writer");
  const auto header =
      token_header(state_->facts, width(), static_cast<std::uint64_t>(size()), Sha256(state_->sha).hex());
  state_->file->write_at(0, header);
  state_->file->commit();
  state_->file.reset();
}

void TokenWriter::discard() {
  state_->file.reset();
}

}  // namespace orion
