#include "ane/staging.h"

#include "base/file.h"
#include "orion/error.h"
#include "orion/mil.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>

namespace orion::ane {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view model_path = "@model_path/";

// Whether the name still leads to the opened directory: the framework removes it when it unloads.
bool is_at(int descriptor, const fs::path& path) {
  struct stat opened{};
  struct stat named{};
  return ::fstat(descriptor, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

int locked(int descriptor, int operation) {
  int result = ::flock(descriptor, operation);
  while (result != 0 && errno == EINTR) result = ::flock(descriptor, operation);
  return result;
}

// Created if missing; another process may remove it until the lock is ours.
int open_shared(const fs::path& directory) {
  while (true) {
    fs::create_directories(directory);
    const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0 && errno == ENOENT) continue;
    if (descriptor < 0) fail(directory.string(), ": cannot open the directory: ", std::strerror(errno));
    const bool has_lock = locked(descriptor, LOCK_SH) == 0;
    if (has_lock && is_at(descriptor, directory)) return descriptor;
    const int code = errno;
    ::close(descriptor);
    if (!has_lock) fail(directory.string(), ": cannot lock the directory: ", std::strerror(code));
  }
}

// Where a file goes, seen from the directory; never outside it.
fs::path place_of(std::string_view path) {
  const fs::path place = path.starts_with(model_path) ? path.substr(model_path.size()) : "";
  const bool climbs = std::ranges::any_of(place, [](const fs::path& part) { return part == ".."; });
  if (place.empty() || place.is_absolute() || climbs)
    fail("the weight file '", path, "': a path like '", model_path, mil::weight_file, "' is needed");
  return place;
}

bool holds(const fs::path& path, std::span<const std::byte> content) {
  if (!fs::exists(path)) return false;
  const MappedFile file(path);
  return std::ranges::equal(file.bytes(), content);
}

// A sibling's file is left alone: it is the same.
void write_file(const fs::path& path, std::span<const std::byte> content) {
  if (holds(path, content)) return;
  fs::create_directories(path.parent_path());
  ReplacedFile file(path);
  file.write(content);
  file.commit();
}

}  // namespace

Staging::Staging(const fs::path& directory) : directory_(directory), lock_(open_shared(directory)) {}

Staging::~Staging() {
  const bool last = locked(lock_, LOCK_EX | LOCK_NB) == 0;
  std::error_code ignored;  // what cannot be removed stays in the temporary directory
  if (last && is_at(lock_, directory_)) fs::remove_all(directory_, ignored);
  ::close(lock_);
}

void Staging::write(std::string_view text, std::span<const WeightFileData> files) const {
  write_file(directory_ / mil::model_file, std::as_bytes(std::span(text)));
  for (const WeightFileData& file : files) write_file(directory_ / place_of(file.path), file.bytes);
}

Status Staging::open(const fs::path& directory, std::string_view text, std::span<const WeightFileData> files,
                     std::unique_ptr<Staging>& staging) {
  try {
    std::unique_ptr<Staging> opened(new Staging(directory));
    opened->write(text, files);
    staging = std::move(opened);
    return {};
  } catch (const std::exception& error) {
    return {Status::Kind::refused, "stage", "file system", 0, error.what()};
  }
}

}  // namespace orion::ane
