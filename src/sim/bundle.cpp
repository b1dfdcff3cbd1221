#include "sim/bundle.h"

#include "base/file.h"
#include "base/sha256.h"
#include "orion/error.h"
#include "orion/mil.h"

#include <algorithm>
#include <array>

namespace orion::sim {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view model_path = "@model_path/";
constexpr std::string_view network_file = "net.plist";  // what saveModelFiles calls the text

std::string weights_hash(std::span<const ane::WeightFileData> files) {
  std::vector<const ane::WeightFileData*> sorted;
  for (const ane::WeightFileData& file : files) sorted.push_back(&file);
  std::ranges::sort(sorted, {}, &ane::WeightFileData::path);
  Sha256 hash;
  hash.update(std::array<std::byte, 4>{});
  for (const ane::WeightFileData* file : sorted) hash.update(file->bytes);
  return hash.hex();
}

}  // namespace

std::string identity_of(std::string_view text, std::span<const ane::WeightFileData> files) {
  return str(sha256_hex(text), '_', weights_hash(files), '_', sha256_hex(""));
}

Bundle::Bundle(fs::path directory, std::shared_ptr<Process> process)
    : process_(std::move(process)), directory_(std::move(directory)) {
  process_->add_directory(directory_);
}

Bundle::~Bundle() {
  process_->remove_directory(directory_);
}

ane::Status Bundle::stage(std::string_view text, std::span<const ane::WeightFileData> files) {
  std::vector<ane::WeightFileData> staged(files.begin(), files.end());
  staged.push_back({str(model_path, network_file), std::as_bytes(std::span(text))});
  return ane::Staging::open(directory_, text, staged, staging_);
}

ane::Status Bundle::open(const Place& place, std::string_view text,
                         std::span<const ane::WeightFileData> files, std::shared_ptr<Process> process,
                         bool hash_files, std::unique_ptr<Bundle>& bundle) {
  const std::string identity = identity_of(text, files);
  std::unique_ptr<Bundle> opened(new Bundle(place.root / identity, std::move(process)));
  opened->identity_ = identity;
  if (!place.staged_by_client)
    if (ane::Status status = opened->stage(text, files); !status.ok()) return status;
  opened->weight_files_ = static_cast<std::int64_t>(files.size());
  for (const ane::WeightFileData& file : files)
    if (hash_files) opened->hashes_[file.path.substr(model_path.size())] = sha256_hex(file.bytes);
  bundle = std::move(opened);
  return {};
}

std::string Bundle::text() const {
  return read_file(directory() / mil::model_file);
}

std::string Bundle::tampered() const {
  for (const auto& [path, hash] : hashes_) {
    const fs::path file = directory() / path;
    if (fs::is_symlink(file) || sha256_hex(read_file(file)) != hash) return path;
  }
  return "";
}

void Bundle::remove() const {
  std::error_code ignored;  // what cannot be removed stays in the temporary directory
  fs::remove_all(directory(), ignored);
}

}  // namespace orion::sim
