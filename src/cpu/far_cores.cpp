#include "cpu/far_cores.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>

namespace orion::cpu {
namespace {

using Clock = std::chrono::steady_clock;

enum class Assumed : std::uint8_t { nothing, near, far };
std::atomic<Assumed> assumed = Assumed::nothing;

// Between cores that share a cache a number goes to and fro in 50 to 100 ns, between others in 200 to 500 ns.
constexpr std::chrono::nanoseconds far_away(150);
constexpr std::chrono::milliseconds measured_every(10);
constexpr int rounds = 8;
constexpr std::int64_t most_pairs = 32;

// A number that two threads raise in turns.
class Exchange {
 public:
  /// The time of the fastest round, if the other thread answered in all of them.
  std::optional<Clock::duration> lead() {
    Clock::duration least = Clock::duration::max();
    for (int round = 0; round < rounds; ++round) {
      const Clock::time_point start = Clock::now();
      number_.store(2 * round + 1, std::memory_order_release);
      if (!await(2 * round + 2)) return std::nullopt;
      least = std::min<Clock::duration>(least, Clock::now() - start);
    }
    return least;
  }
  void follow() {
    for (int round = 0; round < rounds && await(2 * round + 1); ++round)
      number_.store(2 * round + 2, std::memory_order_release);
  }

 private:
  bool await(int number) const {
    constexpr int most_spins = 1 << 14;
    for (int spins = 0; spins < most_spins; ++spins)
      if (number_.load(std::memory_order_acquire) >= number) return true;
    return false;
  }

  alignas(128) std::atomic<int> number_{0};
};

// Threads of one half of the pool with those of the other. Nothing if none answered.
std::optional<bool> measure(ThreadPool& pool) {
  const std::int64_t half = pool.size() / 2, pairs = std::min(half, most_pairs);
  std::array<Exchange, most_pairs> exchanges;
  std::atomic<bool> near = false, far = false;
  pool.split(pool.size(), 1, [&](std::int64_t thread, std::int64_t end) {
    const std::int64_t pair = thread % half;
    if (end - thread > 1 || pair >= pairs || thread >= 2 * half) return;
    Exchange& exchange = exchanges[static_cast<std::size_t>(pair)];
    if (thread >= half) return exchange.follow();
    const std::optional<Clock::duration> time = exchange.lead();
    if (time) (*time > far_away ? far : near) = true;
  });
  return near || far ? std::optional<bool>(far) : std::nullopt;
}

}  // namespace

bool cores_are_far(ThreadPool& pool) {
  static std::atomic<Clock::rep> measured = 0;
  static std::atomic<bool> far = false;
  if (const Assumed now = assumed; now != Assumed::nothing) return now == Assumed::far;
  if (pool.size() < 2) return false;
  const Clock::rep now = Clock::now().time_since_epoch().count();
  if (now - measured > Clock::duration(measured_every).count()) {
    measured = now;
    if (const std::optional<bool> answer = measure(pool)) far = *answer;
  }
  return far;
}

void assume_cores_are_far(std::optional<bool> far) {
  assumed = !far ? Assumed::nothing : *far ? Assumed::far : Assumed::near;
}

}  // namespace orion::cpu
