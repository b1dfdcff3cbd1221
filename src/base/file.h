// Files read by mapping and replaced whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace orion {

/// A whole file mapped read-only. Copies share the mapping. It shows the file as it was opened, also
/// after `ReplacedFile` has put another in its place.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Keeps the mapping alive.
  std::shared_ptr<const void> owner() const { return owner_; }
  /// Whether the file still has all these bytes. To touch what somebody has cut off ends the process.
  bool is_whole() const;

 private:
  struct Mapping;
  std::shared_ptr<const Mapping> owner_;
  std::span<const std::byte> bytes_;
};

/// What the new content of a file must outlive.
enum class Survives { power_loss, process_end };

/// Bytes of a file.
struct FileRange {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

/// Writes the next content of a file beside it, then puts it in the file's place in one step: whoever
/// opens `path`, at any moment and after any crash, finds the old content or the new, never a mixture.
///
/// The next content grows in `.<name>.new` in the same directory. The writer holds a lock on it, so
/// writers of the same file (in any thread or process) wait for each other, and what a killed one left
/// behind is reused by the next. A symbolic link is followed: the file it names is replaced.
class ReplacedFile {
 public:
  /// Waits for other writers of the same file.
  explicit ReplacedFile(const std::filesystem::path& path);
  ReplacedFile(const ReplacedFile&) = delete;
  ReplacedFile& operator=(const ReplacedFile&) = delete;
  /// Without `commit` the file stays as it was.
  ~ReplacedFile();

  /// Appends.
  void write(std::span<const std::byte> bytes);
  /// Overwrites what was written before.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Starts with `source`, sharing its blocks where the file system can, else without the bytes of
  /// `written_next` (in order, apart from each other): all of these must be written. Before any write.
  void start_from(const std::filesystem::path& source, std::span<const FileRange> written_next = {});
  /// Fills `bytes` with what was written at `offset`.
  void read_at(std::uint64_t offset, std::span<std::byte> bytes) const;
  /// Bytes written so far.
  std::uint64_t size() const { return size_; }
  /// Makes the new content visible, and durable before that unless it need not be.
  void commit(Survives survives = Survives::power_loss);

 private:
  void copy_from(int source, const std::filesystem::path& name, FileRange range);

  std::filesystem::path path_;
  std::filesystem::path next_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  bool committed_ = false;
};

/// Waits until the names in a directory are on the medium.
void flush_directory(const std::filesystem::path& directory);

/// Replaces the whole content of `path`.
void replace_file(const std::filesystem::path& path, std::string_view content);
/// The whole content of `path`.
std::string read_file(const std::filesystem::path& path);

}  // namespace orion
