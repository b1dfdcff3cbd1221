// Directories that several processes use at once; the last one removes them.
#pragma once

#include <filesystem>

namespace orion {

/// Holds a lock on a directory as long as it lives; the system drops it with the process, however that ends.
class SharedDirectory {
 public:
  /// Makes the directory if it is missing. Waits for whoever has claimed it.
  explicit SharedDirectory(const std::filesystem::path& path);
  /// Leaves the directory where it is.
  ~SharedDirectory();
  SharedDirectory(const SharedDirectory&) = delete;
  SharedDirectory& operator=(const SharedDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  /// Whether the path still leads to this directory: it may have been removed, and made again by others.
  bool is_there() const;
  /// Whether the directory is still there and nobody else holds it; then others wait until this is
  /// destroyed. If not, the lock may be lost: claim last.
  bool claim() const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// Whether nobody held the directory: then `remove` was called, and others had to wait for it.
bool if_abandoned(const std::filesystem::path& path, void (*remove)(const std::filesystem::path&));

}  // namespace orion
