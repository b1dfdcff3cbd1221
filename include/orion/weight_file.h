// The packed weight file of a program: MIL blob storage, version 2, as coremltools writes it.
//
//   0                 header, 64 bytes: uint32 number of chunks, uint32 version (2), zeros
//   offset            metadata, 64 bytes: uint32 0xDEADBEEF, uint32 type, uint64 payload bytes,
//                     uint64 payload offset, uint64 unused bits of the last payload byte, zeros
//   offset + 64       payload
//
// Little endian. The first chunk's metadata is at 64, each next one at the next multiple of 64. MIL text
// refers to a chunk by the offset of its metadata.
//
// The format has no names and no shapes. Orion keeps them beside the file in `<file>.names`, one
// line `offset<TAB>type<TAB>3,4<TAB>name` per chunk; everything else works without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace orion::weights {

/// Element types of a chunk; the numbers are the format's.
enum class BlobType : std::uint32_t {
  fp16 = 1,
  fp32 = 2,
  uint8 = 3,
  int8 = 4,
  bf16 = 5,
  int16 = 6,
  uint16 = 7,
  int4 = 8,
  uint1 = 9,
  uint2 = 10,
  uint4 = 11,
  uint3 = 12,
  uint6 = 13,
  int32 = 14,
  uint32 = 15,
  fp8e4m3fn = 16,
  fp8e5m2 = 17,
};

std::string_view type_name(BlobType type);
/// Inverse of `type_name`; Error listing the types for any other name.
BlobType type_from_name(std::string_view name);
/// Bits per element.
unsigned bits(BlobType type);
/// Bytes that `elements` take, the last one filled up.
std::uint64_t payload_bytes(BlobType type, std::uint64_t elements);

/// Packs elements narrower than a byte, one per byte in `values`, lowest bits first. Error if a value
/// is out of range (-8 to 7 for int4).
std::vector<std::byte> pack(BlobType type, std::span<const std::uint8_t> values);
/// Inverse of `pack`; int4 is sign-extended.
std::vector<std::uint8_t> unpack(BlobType type, std::uint64_t elements, std::span<const std::byte> payload);

/// Product of the sizes (1 for none); Error if one is negative or the product too large.
std::uint64_t element_count(std::span<const std::int64_t> shape);

/// What to write.
struct Entry {
  std::string name;
  BlobType type = BlobType::fp16;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;  // packed if narrower than a byte, unused bits zero
};

/// What a file holds. `shape` is {elements} and `name` empty where the file has no names beside it.
struct Chunk {
  std::string name;
  BlobType type = BlobType::fp16;
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;  // of the metadata
  std::uint64_t elements = 0;
  std::span<const std::byte> data;
};

/// Metadata offsets of chunks with payloads of these many bytes.
std::vector<std::uint64_t> layout(std::span<const std::uint64_t> payload_sizes);

/// The content of the file that `write` writes.
std::vector<std::byte> file_bytes(std::span<const Entry> entries);

/// Replaces the file in one step and returns the metadata offsets. Entries have either all a name,
/// each its own (then `<file>.names` is written too), or none.
std::vector<std::uint64_t> write(const std::filesystem::path& path, std::span<const Entry> entries);

/// The chunks of a weight file in memory, every byte of structure checked: Error naming `what`, the
/// chunk and its offset.
std::vector<Chunk> read_chunks(std::span<const std::byte> file, std::string_view what);

/// Adds the names and shapes that `<file>.names` holds; Error unless it agrees with the chunks.
void read_names(std::string_view text, std::string_view what, std::span<Chunk> chunks);

/// A mapped weight file, checked when opened. Copies share the mapping.
class WeightFile {
 public:
  explicit WeightFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// By ascending offset.
  const std::vector<Chunk>& chunks() const { return chunks_; }
  /// Null if there is none.
  const Chunk* find(std::uint64_t offset) const;
  const Chunk* find(std::string_view name) const;
  /// Keeps the chunks' data alive.
  std::shared_ptr<const void> owner() const { return owner_; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const void> owner_;
  std::vector<Chunk> chunks_;
};

/// A chunk by the offset of its metadata or by its name.
using Key = std::variant<std::uint64_t, std::string>;

struct Change {
  Key key;
  std::span<const std::byte> data;  // as many bytes as the chunk has
};

/// Replaces the payloads of some chunks, all or none: at any moment, also after a crash, the file has
/// the old payloads or the new ones. Patches of one file by several threads or processes add up. One that
/// is not `durable` is faster, and may be lost or damage the file if the machine loses power.
void patch(const std::filesystem::path& path, std::span<const Change> changes, bool durable = true);
void patch(const std::filesystem::path& path, const Key& key, std::span<const std::byte> data);

}  // namespace orion::weights
