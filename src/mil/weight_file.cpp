#include "orion/weight_file.h"

#include "base/file.h"
#include "mil/weight_names.h"
#include "orion/error.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <set>

namespace orion::weights {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

constexpr std::uint64_t alignment = 64;
constexpr std::uint32_t current_version = 2;
constexpr std::uint32_t sentinel = 0xDEADBEEF;

struct Header {
  std::uint32_t count = 0;
  std::uint32_t version = current_version;
  std::array<std::uint64_t, 7> reserved{};
};

struct Metadata {
  std::uint32_t mark = sentinel;
  std::uint32_t type = 0;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
  std::uint64_t unused_bits = 0;
  std::array<std::uint64_t, 4> reserved{};
};

static_assert(sizeof(Header) == alignment && sizeof(Metadata) == alignment);

constexpr std::uint64_t aligned(std::uint64_t offset) {
  return (offset + alignment - 1) / alignment * alignment;
}

std::string hex(std::uint32_t value) {
  std::ostringstream out;
  out << "0x" << std::hex << std::uppercase << value;
  return out.str();
}

std::uint64_t unused_bits(BlobType type, std::uint64_t elements) {
  return payload_bytes(type, elements) * 8 - elements * bits(type);
}

// Error unless `data` is `elements` of `type`, with zeros where the last byte has no element.
void check_payload(std::string_view what, BlobType type, std::uint64_t elements,
                   std::span<const std::byte> data) {
  if (data.size() != payload_bytes(type, elements))
    fail(what, ": ", elements, " ", type_name(type), " elements take ", payload_bytes(type, elements),
         " bytes, ", data.size(), " given");
  const std::uint64_t unused = unused_bits(type, elements);
  if (unused > 0 && std::to_integer<unsigned>(data.back()) >> (8 - unused) != 0)
    fail(what, ": the ", unused, " bits after the last element are not zero");
}

template <class Record>
std::span<const std::byte> bytes_of(const Record& record) {
  return std::as_bytes(std::span(&record, 1));
}

template <class Record>
Record record_at(std::span<const std::byte> file, std::uint64_t offset) {
  Record record;
  std::memcpy(&record, file.data() + offset, sizeof record);
  return record;
}

Header read_header(std::span<const std::byte> file, std::string_view what) {
  if (file.size() < sizeof(Header))
    fail(what, ": ", file.size(), " bytes are too few for a weight file's header");
  const auto header = record_at<Header>(file, 0);
  if (header.version != current_version)
    fail(what, ": version ", header.version, ", a weight file has version ", current_version);
  return header;
}

BlobType checked_type(const Metadata& metadata, const std::string& where) {
  if (metadata.type < static_cast<std::uint32_t>(BlobType::fp16) ||
      metadata.type > static_cast<std::uint32_t>(BlobType::fp8e5m2))
    fail(where, ": unknown type number ", metadata.type);
  return static_cast<BlobType>(metadata.type);
}

std::uint64_t checked_elements(const Metadata& metadata, BlobType type, const std::string& where) {
  if (metadata.bytes > std::numeric_limits<std::uint64_t>::max() / 8 || metadata.unused_bits >= 8 ||
      metadata.unused_bits > metadata.bytes * 8 || (bits(type) >= 8 && metadata.unused_bits != 0) ||
      (metadata.bytes * 8 - metadata.unused_bits) % bits(type) != 0)
    fail(where, ": ", metadata.bytes, " bytes less ", metadata.unused_bits, " bits are no whole number of ",
         type_name(type), " elements");
  return (metadata.bytes * 8 - metadata.unused_bits) / bits(type);
}

Chunk chunk_at(std::span<const std::byte> file, std::uint64_t offset, const std::string& where) {
  if (offset > file.size() || file.size() - offset < sizeof(Metadata))
    fail(where, ": the file ends after ", file.size(), " bytes");
  const auto metadata = record_at<Metadata>(file, offset);
  if (metadata.mark != sentinel)
    fail(where, ": ", hex(metadata.mark), " instead of the sentinel ", hex(sentinel),
         " (damaged, or the chunk before has a wrong size)");
  const BlobType type = checked_type(metadata, where);
  const std::uint64_t payload = offset + sizeof(Metadata);
  if (metadata.offset != payload)
    fail(where, ": its payload is said to be at byte ", metadata.offset, ", it can only follow at ", payload,
         " (chunks overlap?)");
  if (metadata.bytes > file.size() - payload)
    fail(where, ": its payload of ", metadata.bytes, " bytes goes beyond the end of the file at ",
         file.size());
  const std::uint64_t elements = checked_elements(metadata, type, where);
  return {.name = {},
          .type = type,
          .shape = {static_cast<std::int64_t>(elements)},
          .offset = offset,
          .elements = elements,
          .data = file.subspan(static_cast<std::size_t>(payload), static_cast<std::size_t>(metadata.bytes))};
}

// A file that grows in memory, with ReplacedFile's way of writing.
class MemoryFile {
 public:
  void write(std::span<const std::byte> data) { bytes_.insert(bytes_.end(), data.begin(), data.end()); }
  std::uint64_t size() const { return bytes_.size(); }
  std::vector<std::byte> release() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

template <class File>
void write_chunk(File& file, const Entry& entry, std::uint64_t offset) {
  constexpr std::array<std::byte, alignment> zeros{};
  file.write(std::span(zeros).first(static_cast<std::size_t>(offset - file.size())));
  const Metadata metadata{.mark = sentinel,
                          .type = static_cast<std::uint32_t>(entry.type),
                          .bytes = entry.data.size(),
                          .offset = offset + sizeof(Metadata),
                          .unused_bits = unused_bits(entry.type, element_count(entry.shape)),
                          .reserved = {}};
  file.write(bytes_of(metadata));
  file.write(entry.data);
}

// Header and chunks; returns the metadata offsets.
template <class File>
std::vector<std::uint64_t> write_chunks(File& file, std::span<const Entry> entries) {
  std::vector<std::uint64_t> sizes;
  for (const Entry& entry : entries) sizes.push_back(entry.data.size());
  std::vector<std::uint64_t> offsets = layout(sizes);
  file.write(bytes_of(Header{.count = static_cast<std::uint32_t>(entries.size())}));
  for (std::size_t i = 0; i < entries.size(); ++i) write_chunk(file, entries[i], offsets[i]);
  return offsets;
}

void check_entries(const std::string& what, std::span<const Entry> entries) {
  if (entries.size() > std::numeric_limits<std::uint32_t>::max()) fail(what, ": too many chunks");
  for (std::size_t i = 0; i < entries.size(); ++i)
    check_payload(str(what, ": ", entries[i].name.empty() ? str("chunk ", i) : entries[i].name),
                  entries[i].type, element_count(entries[i].shape), entries[i].data);
}

std::string key_text(const Key& key) {
  const auto* offset = std::get_if<std::uint64_t>(&key);
  return offset != nullptr ? str("byte ", *offset) : str("'", std::get<std::string>(key), "'");
}

const Chunk& chunk_of(const WeightFile& file, const Key& key) {
  const Chunk* chunk = std::visit([&](const auto& k) { return file.find(k); }, key);
  if (chunk == nullptr) fail(file.path().string(), ": no chunk ", key_text(key));
  return *chunk;
}

void verify_written(const ReplacedFile& file, std::uint64_t offset, std::span<const std::byte> data) {
  std::vector<std::byte> written(std::min(data.size(), std::size_t{1} << 20));
  for (; !data.empty(); data = data.subspan(written.size()), offset += written.size()) {
    written.resize(std::min(written.size(), data.size()));
    file.read_at(offset, written);
    if (std::memcmp(written.data(), data.data(), written.size()) != 0)
      fail("weight file: what was written from byte ", offset, " on reads differently");
  }
}

}  // namespace

std::vector<std::uint64_t> layout(std::span<const std::uint64_t> payload_sizes) {
  std::vector<std::uint64_t> offsets;
  std::uint64_t next = sizeof(Header);
  for (const std::uint64_t size : payload_sizes) {
    if (size > std::numeric_limits<std::uint64_t>::max() - next - 2 * alignment)
      fail("weight file: more bytes than a file can hold");
    offsets.push_back(next);
    next = aligned(next + sizeof(Metadata) + size);
  }
  return offsets;
}

std::vector<std::byte> file_bytes(std::span<const Entry> entries) {
  check_entries("weight file", entries);
  MemoryFile file;
  write_chunks(file, entries);
  return file.release();
}

std::vector<std::uint64_t> write(const std::filesystem::path& path, std::span<const Entry> entries) {
  check_entries(path.string(), entries);
  const bool named = are_named(entries);
  ReplacedFile file(path);
  const std::vector<std::uint64_t> offsets = write_chunks(file, entries);
  std::filesystem::remove(names_path(path));  // before it could describe another file than its own
  file.commit();
  if (named) replace_file(names_path(path), names_text(entries, offsets));
  return offsets;
}

std::vector<Chunk> read_chunks(std::span<const std::byte> file, std::string_view what) {
  const Header header = read_header(file, what);
  std::vector<Chunk> chunks;
  std::uint64_t end = sizeof(Header);
  for (std::uint32_t i = 0; i < header.count; ++i) {
    const std::uint64_t offset = aligned(end);
    chunks.push_back(
        chunk_at(file, offset, str(what, ": chunk ", i, " of ", header.count, " at byte ", offset)));
    end = offset + sizeof(Metadata) + chunks.back().data.size();
  }
  if (end != file.size())
    fail(what, ": ", header.count, " chunks end at byte ", end, ", the file has ", file.size(), " bytes");
  return chunks;
}

WeightFile::WeightFile(const std::filesystem::path& path) : path_(path) {
  const MappedFile file(path);
  owner_ = file.owner();
  chunks_ = read_chunks(file.bytes(), path.string());
  const std::filesystem::path names = names_path(path);
  if (std::filesystem::exists(names)) read_names(read_file(names), names.string(), chunks_);
}

const Chunk* WeightFile::find(std::uint64_t offset) const {
  const auto found = std::ranges::lower_bound(chunks_, offset, {}, &Chunk::offset);
  return found == chunks_.end() || found->offset != offset ? nullptr : &*found;
}

const Chunk* WeightFile::find(std::string_view name) const {
  if (name.empty()) return nullptr;
  const auto found = std::ranges::find(chunks_, name, &Chunk::name);
  return found == chunks_.end() ? nullptr : &*found;
}

void patch(const std::filesystem::path& path, std::span<const Change> changes, bool durable) {
  ReplacedFile next(path);  // first: from here on no other patch can come between
  const WeightFile file(path);
  std::set<std::uint64_t> changed;
  for (const Change& change : changes) {
    const Chunk& chunk = chunk_of(file, change.key);
    check_payload(str(path.string(), ": ", key_text(change.key)), chunk.type, chunk.elements, change.data);
    if (!changed.insert(chunk.offset).second)
      fail(path.string(), ": ", key_text(change.key), " is changed twice");
  }
  const auto payload_of = [&](const Change& change) {
    return chunk_of(file, change.key).offset + sizeof(Metadata);
  };
  std::vector<FileRange> written;
  for (const Change& change : changes) written.push_back({payload_of(change), change.data.size()});
  std::ranges::sort(written, {}, &FileRange::offset);
  next.start_from(path, written);
  for (const Change& change : changes) {
    next.write_at(payload_of(change), change.data);
    verify_written(next, payload_of(change), change.data);
  }
  next.commit(durable ? Survives::power_loss : Survives::process_end);
}

void patch(const std::filesystem::path& path, const Key& key, std::span<const std::byte> data) {
  const Change change{key, data};
  patch(path, std::span(&change, 1));
}

}  // namespace orion::weights
