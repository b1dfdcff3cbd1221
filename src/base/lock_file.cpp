#include "base/lock_file.h"

#include "orion/error.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include <utility>

namespace orion {

namespace fs = std::filesystem;

bool is_at(int descriptor, const fs::path& path) {
  struct stat opened{};
  struct stat named{};
  return ::fstat(descriptor, &opened) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

bool locked(int descriptor, int operation) {
  int result = ::flock(descriptor, operation);
  while (result != 0 && errno == EINTR) result = ::flock(descriptor, operation);
  return result == 0;
}

LockFile::LockFile(fs::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

// Unlocked first: a process forked meanwhile has the descriptor too.
LockFile::~LockFile() {
  locked(descriptor_, LOCK_UN);
  ::close(descriptor_);
}

std::unique_ptr<LockFile> LockFile::try_take(const fs::path& path, IfMissing if_missing) {
  const int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | (if_missing == IfMissing::create ? O_CREAT : 0);
  while (true) {
    const int descriptor = ::open(path.c_str(), flags, 0600);
    if (descriptor < 0 && errno == ENOENT && if_missing == IfMissing::give_up) return nullptr;
    if (descriptor < 0) fail(path.string(), ": cannot open the lock: ", std::strerror(errno));
    std::unique_ptr<LockFile> lock(new LockFile(path, descriptor));
    if (!locked(descriptor, LOCK_EX | LOCK_NB)) {
      if (errno == EWOULDBLOCK) return nullptr;
      fail(path.string(), ": cannot lock: ", std::strerror(errno));
    }
    if (is_at(descriptor, path)) return lock;
  }
}

void LockFile::remove() const {
  std::error_code ignored;  // what cannot be removed is found by the next who locks it
  fs::remove(path_, ignored);
}

}  // namespace orion
