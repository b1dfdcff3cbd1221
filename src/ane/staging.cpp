#include "ane/staging.h"

#include "base/file.h"
#include "orion/error.h"
#include "orion/mil.h"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>

namespace orion::ane {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view model_path = "@model_path/";

constexpr std::string_view mark_suffix = ".orion";

fs::path mark_of(const fs::path& directory) {
  return directory.parent_path() / str('.', directory.filename().string(), mark_suffix);
}

// Made before the directory, so that a process that is killed leaves none without; and again once the lock is
// ours, for the one before may have been removed with an older directory.
const fs::path& marked(const fs::path& directory) {
  const fs::path mark = mark_of(directory);
  fs::create_directories(directory.parent_path());
  const int descriptor = ::open(mark.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (descriptor < 0) fail(mark.string(), ": cannot create: ", std::strerror(errno));
  ::close(descriptor);
  return directory;
}

// The mark goes first: it may be made again as soon as the directory is gone.
void remove_staged(const fs::path& directory) {
  std::error_code ignored;  // what cannot be removed stays in the temporary directory
  fs::remove(mark_of(directory), ignored);
  fs::remove_all(directory, ignored);
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
  if (!fs::is_regular_file(fs::symlink_status(path))) return false;
  const MappedFile file(path);
  return std::ranges::equal(file.bytes(), content);
}

// A sibling's file is left alone: it is the same.
void write_file(const fs::path& path, std::span<const std::byte> content) {
  if (holds(path, content)) return;
  fs::create_directories(path.parent_path());
  if (fs::is_symlink(path)) fs::remove(path);  // the framework refuses links
  ReplacedFile file(path);
  file.write(content);
  file.commit(Survives::process_end);  // after a power loss it is compared and written again
}

}  // namespace

Staging::Staging(const fs::path& directory) : directory_(marked(directory)) {
  marked(directory);
}

// Where the framework has removed the directory, as it does when it unloads, the mark is all that is left.
Staging::~Staging() {
  std::error_code ignored;  // a mark without a directory does no harm
  if (directory_.claim())
    remove_staged(directory());
  else if (!fs::exists(directory(), ignored))
    fs::remove(mark_of(directory()), ignored);
}

void Staging::write(std::string_view text, std::span<const WeightFileData> files) const {
  write_file(directory() / mil::model_file, std::as_bytes(std::span(text)));
  for (const WeightFileData& file : files) write_file(directory() / place_of(file.path), file.bytes);
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

void remove_abandoned_staging(const fs::path& parent) {
  std::error_code error;
  std::vector<fs::path> marks;  // found first: they are removed on the way
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error))
    if (const std::string name = entry->path().filename().string();
        name.starts_with('.') && name.ends_with(mark_suffix) && name.size() > mark_suffix.size() + 1)
      marks.push_back(entry->path());
  for (const fs::path& mark : marks) {
    const std::string name = mark.filename().string();
    const fs::path directory = parent / name.substr(1, name.size() - mark_suffix.size() - 1);
    if (!if_abandoned(directory, remove_staged) && !fs::exists(directory, error)) fs::remove(mark, error);
  }
}

}  // namespace orion::ane
