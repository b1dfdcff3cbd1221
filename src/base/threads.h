// A pool of threads that splits loops, without allocating per call.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace orion {

class ThreadPool {
 public:
  /// `threads` includes the caller; 1 means everything runs inline.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  /// Calls `body(begin, end)` for parts that cover [0, count), each (but the last) a multiple of
  /// `grain` long, on all threads; returns when all are done. An exception of `body` reaches the
  /// caller. Parts do not depend on timing, so results do not either. Calls from several threads take
  /// turns; a call from inside `body` runs inline.
  template <class Body>
  void split(std::int64_t count, std::int64_t grain, const Body& body) {
    static_assert(std::is_invocable_v<const Body&, std::int64_t, std::int64_t>);
    run(count, grain, &body, [](const void* b, std::int64_t begin, std::int64_t end) {
      (*static_cast<const Body*>(b))(begin, end);
    });
  }

 private:
  using Call = void (*)(const void* body, std::int64_t begin, std::int64_t end);
  void run(std::int64_t count, std::int64_t grain, const void* body, Call call);

  struct State;
  std::unique_ptr<State> state_;
  int size_;
};

/// Threads to use: the environment variable ORION_NUM_THREADS, else the CPUs this process may run on.
/// Error if the variable is not a positive number.
int default_threads();

/// The pool shared by everything in the process, made at first use with `default_threads()`.
ThreadPool& shared_pool();

}  // namespace orion
