#include "base/staged_directory.h"

#include "base/file.h"
#include "orion/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <string_view>
#include <vector>
#ifdef __linux__
#include <linux/fs.h>
#include <sys/syscall.h>
#endif

namespace orion {
namespace {

namespace fs = std::filesystem;

// Two names change places in one step, where the system can.
bool exchange([[maybe_unused]] const fs::path& a, [[maybe_unused]] const fs::path& b) {
#if defined(__linux__) && defined(SYS_renameat2)
  return ::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#elif defined(__APPLE__)
  return ::renamex_np(a.c_str(), b.c_str(), RENAME_SWAP) == 0;
#else
  return false;
#endif
}

void move_to(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail(to.string(), ": cannot put the new directory there: ", std::strerror(errno));
}

// The old one steps aside for a moment.
void exchange_in_steps(const fs::path& stage, const fs::path& target) {
  const fs::path retired = stage.string() + ".old";
  move_to(target, retired);
  try {
    move_to(stage, target);
  } catch (const Error&) {
    move_to(retired, target);
    throw;
  }
  move_to(retired, stage);
}

constexpr std::string_view stage_suffix = ".partial";

std::string stage_prefix(const fs::path& target) {
  return str('.', target.filename().string(), '.');
}

std::string stage_name(const fs::path& target) {
  std::ostringstream digits;
  digits << std::hex << std::random_device{}();
  return str(stage_prefix(target), digits.str(), stage_suffix);
}

bool is_stage_name(std::string_view name, const fs::path& target) {
  const std::string prefix = stage_prefix(target);
  if (!name.starts_with(prefix) || !name.ends_with(stage_suffix)) return false;
  if (name.size() <= prefix.size() + stage_suffix.size()) return false;
  name.remove_prefix(prefix.size());
  name.remove_suffix(stage_suffix.size());
  return name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

void discard(const fs::path& stage) {
  std::error_code ignored;  // it has a temporary name
  fs::remove_all(stage, ignored);
}

// What killed processes left of this target. What cannot be removed, or read, stays.
void remove_abandoned(const fs::path& target) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(target.parent_path(), error), end; !error && entry != end;
       entry.increment(error))
    if (is_stage_name(entry->path().filename().string(), target)) found.push_back(entry->path());
  for (const fs::path& stage : found) static_cast<void>(if_abandoned(stage, discard));
}

}  // namespace

StagedDirectory::StagedDirectory(const fs::path& target) : target_(fs::absolute(target).lexically_normal()) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // "name/"
  std::error_code ignored;                                       // whatever it is: no directory
  if (!fs::is_directory(target_.parent_path(), ignored))
    fail(target.string(), ": its directory '", target_.parent_path().string(), "' does not exist");
  remove_abandoned(target_);
  do stage_ = target_.parent_path() / stage_name(target_);
  while (::mkdir(stage_.c_str(), 0777) != 0 && errno == EEXIST);
  if (!fs::is_directory(stage_, ignored))
    fail(target.string(), ": cannot create a directory beside it: ", std::strerror(errno));
  held_.emplace(stage_);  // makes it again if it was taken for abandoned before
}

StagedDirectory::~StagedDirectory() {
  discard(stage_);
}

void StagedDirectory::commit() {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(stage_))
    if (entry.is_directory()) flush_directory(entry.path());
  flush_directory(stage_);
  if (!fs::exists(target_))
    move_to(stage_, target_);
  else if (!exchange(stage_, target_))
    exchange_in_steps(stage_, target_);
  flush_directory(target_.parent_path());
}

}  // namespace orion
