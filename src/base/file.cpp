#include "base/file.h"

#include "base/lock_file.h"
#include "orion/error.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __linux__
#include <linux/fs.h>
#include <sys/ioctl.h>
#endif
#include <unistd.h>
#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

namespace orion {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_with_errno(const fs::path& path, std::string_view what) {
  const int code = errno;
  fail(path.string(), ": cannot ", what, ": ", std::strerror(code));
}

// One call moves at most this much: macOS refuses sizes beyond an int.
constexpr std::size_t largest_transfer = std::size_t{1} << 30U;

// Closes on every way out.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

// Calls again what a signal interrupted.
template <class Call>
auto retried(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

int open_to_read(const fs::path& path) {
  constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // a pipe is refused, not waited for
  const int descriptor = retried([&] { return ::open(path.c_str(), flags); });
  if (descriptor < 0) fail_with_errno(path, "open");
  return descriptor;
}

struct stat status_of(int descriptor, const fs::path& path) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) fail_with_errno(path, "read the status");
  return status;
}

std::uint64_t regular_size(int descriptor, const fs::path& path) {
  const struct stat status = status_of(descriptor, path);
  if (!S_ISREG(status.st_mode)) fail(path.string(), ": not a regular file");
  return static_cast<std::uint64_t>(status.st_size);
}

// To the medium, not only to the drive's cache.
void flush(int descriptor, const fs::path& path) {
#ifdef F_FULLFSYNC
  if (::fcntl(descriptor, F_FULLFSYNC) == 0) return;
#endif
  if (retried([&] { return ::fsync(descriptor); }) != 0) fail_with_errno(path, "flush");
}

// The file that `path` names, links followed.
fs::path resolved(const fs::path& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  return error ? path : real;
}

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

int open_locked(const fs::path& path) {
  constexpr int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
  constexpr mode_t mode = 0666;  // less the process's umask
  while (true) {
    Descriptor opened(retried([&] { return ::open(path.c_str(), flags, mode); }));
    if (opened.get() < 0) fail_with_errno(path, "create");
    if (!locked(opened.get(), LOCK_EX)) fail_with_errno(path, "lock");
    if (is_at(opened.get(), path)) return opened.release();
  }
}

// Whether the file system could let one file have the blocks of another.
bool shares_blocks([[maybe_unused]] int from, [[maybe_unused]] int to) {
#ifdef FICLONE
  return ::ioctl(to, FICLONE, from) == 0;
#else
  return false;
#endif
}

// Bytes the kernel copied for us; 0 if it cannot between these files.
std::uint64_t copy_in_kernel([[maybe_unused]] int from, [[maybe_unused]] int to,
                             [[maybe_unused]] FileRange range) {
  std::uint64_t copied = 0;
#ifdef __linux__
  auto read_at = static_cast<off_t>(range.offset), write_at = read_at;
  while (copied < range.size) {
    const ssize_t count = ::copy_file_range(from, &read_at, to, &write_at, range.size - copied, 0);
    if (count <= 0) break;
    copied += static_cast<std::uint64_t>(count);
  }
#endif
  return copied;
}

}  // namespace

void flush_directory(const fs::path& directory) {
  const Descriptor opened(open_to_read(directory));
  flush(opened.get(), directory);
}

// The descriptor stays open: it leads to the mapped file whatever its name leads to by now.
struct MappedFile::Mapping {
  Mapping(int opened, const fs::path& path)
      : descriptor(opened), size(static_cast<std::size_t>(regular_size(opened, path))) {
    if (size == 0) return;
    memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, opened, 0);
    if (memory == MAP_FAILED) fail_with_errno(path, "map");
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (memory != nullptr) ::munmap(memory, size);
  }

  Descriptor descriptor;
  std::size_t size;
  void* memory = nullptr;
};

MappedFile::MappedFile(const fs::path& path) : owner_(std::make_shared<Mapping>(open_to_read(path), path)) {
  bytes_ = {static_cast<const std::byte*>(owner_->memory), owner_->size};
}

bool MappedFile::is_whole() const {
  struct stat now{};
  return ::fstat(owner_->descriptor.get(), &now) == 0 && now.st_size >= 0 &&
         static_cast<std::size_t>(now.st_size) >= bytes_.size();
}

ReplacedFile::ReplacedFile(const fs::path& path) : path_(resolved(path)) {
  if (!path_.has_filename()) fail(path.string(), ": a file name is needed");
  next_ = directory_of(path_) / ("." + path_.filename().string() + ".new");
  descriptor_ = open_locked(next_);
  struct stat old{};
  const bool keeps_mode = ::stat(path_.c_str(), &old) == 0;
  if (::ftruncate(descriptor_, 0) != 0 ||
      (keeps_mode && ::fchmod(descriptor_, static_cast<mode_t>(old.st_mode & 07777U)) != 0)) {
    const Descriptor closed(descriptor_);
    fail_with_errno(next_, "prepare");
  }
}

ReplacedFile::~ReplacedFile() {
  if (!committed_) ::unlink(next_.c_str());
  ::close(descriptor_);
}

void ReplacedFile::write(std::span<const std::byte> bytes) {
  write_at(size_, bytes);
}

void ReplacedFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = retried([&] {
      return ::pwrite(descriptor_, bytes.data(), std::min(bytes.size(), largest_transfer),
                      static_cast<off_t>(offset));
    });
    if (count < 0) fail_with_errno(path_, "write");
    offset += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    size_ = std::max(size_, offset);
  }
}

void ReplacedFile::start_from(const fs::path& source, std::span<const FileRange> written_next) {
  assert(size_ == 0);
  const Descriptor opened(open_to_read(source));
  const std::uint64_t size = regular_size(opened.get(), source);
  if (shares_blocks(opened.get(), descriptor_)) {
    size_ = size;
    return;
  }
  std::uint64_t at = 0;
  for (const FileRange& range : written_next) {
    copy_from(opened.get(), source, {at, range.offset - at});
    at = range.offset + range.size;
  }
  copy_from(opened.get(), source, {at, size - at});
}

void ReplacedFile::copy_from(int source, const fs::path& name, FileRange range) {
  const std::uint64_t copied = copy_in_kernel(source, descriptor_, range);
  size_ = std::max(size_, range.offset + copied);
  if (copied < range.size)
    write_at(range.offset + copied,
             MappedFile(name).bytes().subspan(static_cast<std::size_t>(range.offset + copied),
                                              static_cast<std::size_t>(range.size - copied)));
}

void ReplacedFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = retried([&] {
      return ::pread(descriptor_, bytes.data(), std::min(bytes.size(), largest_transfer),
                     static_cast<off_t>(offset));
    });
    if (count < 0) fail_with_errno(next_, "read back");
    if (count == 0) fail(next_.string(), ": ends before byte ", offset);
    offset += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void ReplacedFile::commit(Survives survives) {
  const bool durable = survives == Survives::power_loss;
  if (durable) flush(descriptor_, next_);
  if (::rename(next_.c_str(), path_.c_str()) != 0) fail_with_errno(path_, "replace");
  committed_ = true;
  if (durable) flush_directory(directory_of(path_));
}

void replace_file(const fs::path& path, std::string_view content) {
  ReplacedFile file(path);
  file.write(std::as_bytes(std::span(content)));
  file.commit();
}

std::string read_file(const fs::path& path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace orion
