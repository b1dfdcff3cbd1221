#pragma once

#include "base/shared_directory.h"

#include <filesystem>
#include <optional>

namespace orion {

/// A directory filled beside its place under a temporary name, `.<name>.<random>.partial`, then put there in
/// one step. What a killed process leaves behind bears the temporary name, and the next one for the same
/// place removes it.
class StagedDirectory {
 public:
  /// Error if the directory that shall hold `target` does not exist.
  explicit StagedDirectory(const std::filesystem::path& target);
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;
  /// Without `commit` nothing is left.
  ~StagedDirectory();

  const std::filesystem::path& path() const { return stage_; }
  /// Makes it durable and visible; a directory that had the name is removed. The files in it must be
  /// durable already, as `replace_file` leaves them.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path stage_;
  std::optional<SharedDirectory> held_;  // shows that its writer lives
};

}  // namespace orion
