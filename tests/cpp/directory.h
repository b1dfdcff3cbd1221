#pragma once

#include "orion/error.h"

#include <unistd.h>
#include <filesystem>
#include <random>

namespace orion {

// A directory that disappears with the test.
class Directory {
 public:
  Directory()
      : path_(std::filesystem::temp_directory_path() /
              str("orion-test-", ::getpid(), '-', std::random_device{}())) {
    std::filesystem::create_directories(path_);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { std::filesystem::remove_all(path_); }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

}  // namespace orion
