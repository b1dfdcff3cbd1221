// How long things take.
#pragma once

#include <chrono>

namespace orion {

/// Adds the seconds of its life to a total: a double, or an atomic one that one thread at a time writes.
template <class Total>
class Stopwatch {
 public:
  explicit Stopwatch(Total& total) : total_(total) {}
  ~Stopwatch() {
    total_ = total_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  Total& total_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace orion
