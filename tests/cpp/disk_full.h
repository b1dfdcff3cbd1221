// A disk without room, for tests.
#pragma once

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <csignal>

namespace orion::test {

/// Files of the process grow to at most this many bytes.
class DiskFull {
 public:
  explicit DiskFull(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    const rlimit limit{bytes, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~DiskFull() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  DiskFull(const DiskFull&) = delete;
  DiskFull& operator=(const DiskFull&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace orion::test
