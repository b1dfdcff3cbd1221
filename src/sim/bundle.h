// A program as the client hands it over: its identity and its staging directory.
#pragma once

#include "ane/engine.h"
#include "ane/staging.h"
#include "sim/process.h"

namespace orion::sim {

/// `T_W_O`: SHA-256 of the text, of four zero bytes and the weight files in the order of their paths, and of
/// the options, of which there are none (field survey 3.7).
std::string identity_of(std::string_view text, std::span<const ane::WeightFileData> files);

struct Place {
  std::filesystem::path root;
  bool staged_by_client = false;
};

/// The staged files of one model.
class Bundle {
 public:
  /// Stages `<root>/<identity>`: the text as `model.mil` and `net.plist`, and the weight files; unless the
  /// client does. With `hash_files` it remembers what they were.
  static ane::Status open(const Place& place, std::string_view text,
                          std::span<const ane::WeightFileData> files, std::shared_ptr<Process> process,
                          bool hash_files, std::unique_ptr<Bundle>& bundle);
  ~Bundle();
  Bundle(const Bundle&) = delete;
  Bundle& operator=(const Bundle&) = delete;

  const std::string& identity() const { return identity_; }
  const std::filesystem::path& directory() const { return directory_; }
  std::int64_t weight_files() const { return weight_files_; }
  /// As it is on disk now.
  std::string text() const;
  /// A hashed file that is a link or has other content than was handed over; empty if there is none.
  std::string tampered() const;
  /// As the framework does when it unloads.
  void remove() const;

 private:
  Bundle(std::filesystem::path directory, std::shared_ptr<Process> process);
  ane::Status stage(std::string_view text, std::span<const ane::WeightFileData> files);

  std::shared_ptr<Process> process_;
  std::filesystem::path directory_;
  std::unique_ptr<ane::Staging> staging_;  // null where the client stages
  std::string identity_;
  std::int64_t weight_files_ = 0;
  std::map<std::string, std::string> hashes_;  // by path in the directory
};

}  // namespace orion::sim
