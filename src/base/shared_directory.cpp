#include "base/shared_directory.h"

#include "base/lock_file.h"
#include "orion/error.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>

namespace orion {
namespace {

namespace fs = std::filesystem;

constexpr int open_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// Another process may remove the directory until the lock is ours.
int open_shared(const fs::path& path) {
  while (true) {
    fs::create_directories(path);
    const int descriptor = ::open(path.c_str(), open_flags);
    if (descriptor < 0 && errno == ENOENT) continue;
    if (descriptor < 0) fail(path.string(), ": cannot open the directory: ", std::strerror(errno));
    const bool has_lock = locked(descriptor, LOCK_SH);
    if (has_lock && is_at(descriptor, path)) return descriptor;
    const int code = errno;
    ::close(descriptor);
    if (!has_lock) fail(path.string(), ": cannot lock the directory: ", std::strerror(code));
  }
}

bool claimed(int descriptor, const fs::path& path) {
  return locked(descriptor, LOCK_EX | LOCK_NB) && is_at(descriptor, path);
}

}  // namespace

SharedDirectory::SharedDirectory(const fs::path& path) : path_(path), descriptor_(open_shared(path)) {}

SharedDirectory::~SharedDirectory() {
  ::close(descriptor_);
}

bool SharedDirectory::is_there() const {
  return is_at(descriptor_, path_);
}

bool SharedDirectory::claim() const {
  return claimed(descriptor_, path_);
}

bool if_abandoned(const fs::path& path, void (*remove)(const fs::path&)) {
  const int descriptor = ::open(path.c_str(), open_flags);
  if (descriptor < 0) return false;
  const bool is_ours = claimed(descriptor, path);
  if (is_ours) remove(path);
  ::close(descriptor);
  return is_ours;
}

}  // namespace orion
