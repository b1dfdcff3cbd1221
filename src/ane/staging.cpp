#include "ane/staging.h"

#include "base/file.h"
#include "orion/error.h"
#include "orion/mil.h"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

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

// A mark without a directory goes, unless it is somebody's turn: then he sees to it.
void clear_mark(const fs::path& directory) {
  try {
    const auto mark = LockFile::try_take(mark_of(directory), LockFile::IfMissing::give_up);
    std::error_code ignored;
    if (mark != nullptr && !fs::exists(directory, ignored)) mark->remove();
  } catch (const Error&) {
    // Not ours to open: then it is not ours to remove.
  }
}

void remove_staged(const fs::path& directory) {
  std::error_code ignored;  // what cannot be removed stays in the temporary directory, with its mark
  fs::remove_all(directory, ignored);
  clear_mark(directory);
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

// A sibling's file is left alone: it is the same. No name and no checksum stands for a file's content here:
// each process compares it with what it is about to load, so what a crash of the machine has cut off or mixed
// up is written again before anything reads it, and need not be durable.
void write_file(const fs::path& path, std::span<const std::byte> content) {
  if (holds(path, content)) return;
  fs::create_directories(path.parent_path());
  if (fs::is_symlink(path)) fs::remove(path);  // the framework refuses links
  ReplacedFile file(path);
  file.write(content);
  file.commit(Survives::process_end);
}

}  // namespace

Staging::Staging(const fs::path& directory) : directory_(marked(directory)) {
  marked(directory);
}

// Where the framework has removed the directory, as it does when it unloads, the mark is all that is left.
Staging::~Staging() {
  if (directory_.claim())
    remove_staged(directory());
  else
    clear_mark(directory());
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

StagingTurn::StagingTurn(fs::path directory, std::unique_ptr<LockFile> mark)
    : directory_(std::move(directory)), mark_(std::move(mark)) {}

StagingTurn::~StagingTurn() {
  std::error_code ignored;  // a mark without a directory does no harm
  if (!fs::exists(directory_, ignored)) mark_->remove();
}

Status StagingTurn::take(const fs::path& directory, Seconds limit, std::unique_ptr<StagingTurn>& turn) {
  constexpr std::chrono::milliseconds pause(1);
  const auto last = std::chrono::steady_clock::now() + limit;
  try {
    fs::create_directories(directory.parent_path());
    while (true) {
      std::unique_ptr<LockFile> mark = LockFile::try_take(mark_of(directory), LockFile::IfMissing::create);
      if (mark != nullptr) {
        turn.reset(new StagingTurn(directory, std::move(mark)));
        return {};
      }
      if (std::chrono::steady_clock::now() > last) break;
      std::this_thread::sleep_for(pause);
    }
  } catch (const std::exception& error) {
    return {Status::Kind::refused, "stage", "file system", 0, error.what()};
  }
  return {Status::Kind::refused, "stage", "file system", 0,
          str(directory.string(),
              ": another program or process has been compiling, loading or unloading the "
              "same program for ",
              limit.count(), " s (ORION_ANE_TIMEOUT)")};
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
    if (!if_abandoned(directory, remove_staged)) clear_mark(directory);
  }
}

}  // namespace orion::ane
