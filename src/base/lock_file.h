// Files whose lock means something: while one process holds it, others wait or go away.
#pragma once

#include <filesystem>
#include <memory>

namespace orion {

/// An exclusive lock on a file, held as long as it lives; the system drops it with the process, however that
/// ends. Two locks of one process exclude each other too.
class LockFile {
 public:
  enum class IfMissing { create, give_up };

  /// Null if another holds the lock, or the file is missing and shall not be created. Error if it cannot be
  /// opened; a symbolic link is not followed.
  static std::unique_ptr<LockFile> try_take(const std::filesystem::path& path, IfMissing if_missing);
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  /// The file goes; whoever opened it before does not take it for the lock any more.
  void remove() const;

 private:
  LockFile(std::filesystem::path path, int descriptor);

  std::filesystem::path path_;
  int descriptor_;
};

/// Whether the name still leads to what was opened: others may have moved, removed or replaced it.
bool is_at(int descriptor, const std::filesystem::path& path);

/// flock, begun again when a signal interrupts it; whether the lock was taken.
bool locked(int descriptor, int operation);

}  // namespace orion
