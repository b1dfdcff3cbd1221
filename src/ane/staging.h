// The directory from which the framework reads a program: its text and its weight files.
#pragma once

#include "ane/time_limit.h"
#include "base/lock_file.h"
#include "base/shared_directory.h"

namespace orion::ane {

/// Equal programs have the same directory, in this process and in others. All hold a shared lock on it;
/// whoever is last removes it. A mark beside it, `.<name>.orion`, tells those directories of ours that a
/// killed process left from those of others.
class Staging {
 public:
  /// Writes the text as `model.mil` and each file at its path after "@model_path/". The directory's
  /// content changes file by file in one step each: a sibling never reads half a file.
  static Status open(const std::filesystem::path& directory, std::string_view text,
                     std::span<const WeightFileData> files, std::unique_ptr<Staging>& staging);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  const std::filesystem::path& directory() const { return directory_.path(); }
  /// False once somebody has removed the directory: it must be staged again.
  bool is_there() const { return directory_.is_there(); }

 private:
  explicit Staging(const std::filesystem::path& directory);
  void write(std::string_view text, std::span<const WeightFileData> files) const;

  SharedDirectory directory_;
};

/// One program's turn, among all of its identity in this process and in others, to be staged, compiled,
/// loaded or unloaded. The framework removes the directory when it unloads a program, whoever has staged an
/// equal one there and is about to compile or load it.
class StagingTurn {
 public:
  /// Waits for the turn of whoever has it, at most as long as `limit`.
  static Status take(const std::filesystem::path& directory, Seconds limit,
                     std::unique_ptr<StagingTurn>& turn);
  ~StagingTurn();
  StagingTurn(const StagingTurn&) = delete;
  StagingTurn& operator=(const StagingTurn&) = delete;

 private:
  StagingTurn(std::filesystem::path directory, std::unique_ptr<LockFile> mark);

  std::filesystem::path directory_;
  std::unique_ptr<LockFile> mark_;
};

/// Removes what killed processes have staged in a directory. What cannot be removed stays.
void remove_abandoned_staging(const std::filesystem::path& parent);

}  // namespace orion::ane
