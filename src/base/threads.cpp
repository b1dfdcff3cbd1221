#include "base/threads.h"

#include "orion/error.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace orion {
namespace {

thread_local bool inside_split = false;

// Waiting by spinning first: a decode step is hundreds of short loops, and waking a sleeping thread
// costs more than most of them take.
constexpr int spins_before_sleep = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int cpus_allowed() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

struct ThreadPool::State {
  std::mutex turn;  // one split at a time

  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<std::uint32_t> epoch{0};  // changes when there is work
  std::atomic<int> running{0};
  std::atomic<bool> stop{false};

  Call call = nullptr;
  const void* body = nullptr;
  std::int64_t count = 0;
  std::int64_t part = 0;

  std::mutex error_mutex;
  std::exception_ptr error;

  std::vector<std::thread> threads;

  void work(int index) {
    const std::int64_t begin = std::min(count, part * index);
    const std::int64_t end = std::min(count, begin + part);
    if (begin == end) return;
    inside_split = true;
    try {
      call(body, begin, end);
    } catch (...) {
      std::lock_guard lock(error_mutex);
      if (!error) error = std::current_exception();
    }
    inside_split = false;
  }

  void loop(int index) {
    std::uint32_t seen = 0;
    for (;;) {
      for (int i = 0; i < spins_before_sleep && epoch.load(std::memory_order_acquire) == seen; ++i) relax();
      if (epoch.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return epoch.load(std::memory_order_acquire) != seen; });
      }
      if (stop.load(std::memory_order_acquire)) return;
      seen = epoch.load(std::memory_order_acquire);
      work(index);
      // A locked instruction on x86, which also waits for stores that passed the caches by.
      running.fetch_sub(1, std::memory_order_release);
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()), size_(threads) {
  if (threads < 1) fail("thread pool: ", threads, " threads asked for, at least 1 needed");
  for (int i = 1; i < threads; ++i) state_->threads.emplace_back([this, i] { state_->loop(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop.store(true, std::memory_order_release);
    state_->epoch.fetch_add(1, std::memory_order_release);
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

void ThreadPool::run(std::int64_t count, std::int64_t grain, const void* body, Call call) {
  if (count <= 0) return;
  grain = std::max<std::int64_t>(1, grain);
  if (size_ == 1 || inside_split || count <= grain) {
    call(body, 0, count);
    return;
  }
  State& s = *state_;
  std::lock_guard turn(s.turn);
  const std::int64_t grains = (count + grain - 1) / grain;
  s.part = (grains + size_ - 1) / size_ * grain;
  s.count = count;
  s.body = body;
  s.call = call;
  s.error = nullptr;
  s.running.store(size_ - 1, std::memory_order_relaxed);
  {
    std::lock_guard lock(s.mutex);
    s.epoch.fetch_add(1, std::memory_order_release);
  }
  s.wake.notify_all();
  s.work(0);
  for (int spins = 0; s.running.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < spins_before_sleep)
      relax();
    else
      std::this_thread::yield();
  }
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

int default_threads() {
  const char* text = std::getenv("ORION_NUM_THREADS");
  if (text == nullptr || *text == '\0') return cpus_allowed();
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 1 || value > 1024)
    fail("ORION_NUM_THREADS is '", text, "': a number from 1 to 1024 is needed");
  return static_cast<int>(value);
}

ThreadPool& shared_pool() {
  static ThreadPool pool(default_threads());
  return pool;
}

}  // namespace orion
