#include "cpu/ceiling.h"

#include "base/memory.h"
#include "base/stopwatch.h"
#include "base/threads.h"
#include "cpu/kernel_table.h"
#include "orion/error.h"

#include <algorithm>
#include <functional>
#include <memory>

namespace orion::cpu {
namespace {

constexpr std::int64_t rounds_per_call = 1 << 20;
constexpr double longest = 60.0;
constexpr std::int64_t most_bytes = std::int64_t{1} << 36;

/// Work per second of the quickest run; runs until the time is up, at least three times.
double best_rate(double work, double seconds, const std::function<void()>& run) {
  run();  // threads are awake and memory is there from now on
  double best = 0.0;
  double spent = 0.0;
  for (int i = 0; i < 3 || spent < seconds; ++i) {
    double took = 0.0;
    {
      const Stopwatch watch(took);
      run();
    }
    best = std::max(best, work / took);
    spent += took;
  }
  return best;
}

double multiply_add_rate(ThreadPool& pool, double seconds, const MultiplyAdds& loop) {
  const double work = 2.0 * static_cast<double>(loop.products * rounds_per_call * pool.size());
  return best_rate(work, seconds, [&] {
    pool.split(pool.size(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        if (loop.run(rounds_per_call) != 1.0F)
          fail("ceiling: multiply-adds that keep 1 at 1 came to something else");
    });
  });
}

double read_rate(ThreadPool& pool, std::int64_t bytes, double seconds) {
  const std::int64_t grains = bytes / static_cast<std::int64_t>(sizeof(float)) / ceiling_grain;
  const std::int64_t count = grains * ceiling_grain;
  const auto stream = zeroed_memory(static_cast<std::size_t>(count) * sizeof(float));  // as tensors have it
  auto* const x = reinterpret_cast<float*>(stream.get());
  pool.split(count, ceiling_grain, [&](std::int64_t begin, std::int64_t end) {
    std::fill(x + begin, x + end, 1.0F);  // by the threads that will read it
  });
  return best_rate(static_cast<double>(count * static_cast<std::int64_t>(sizeof(float))), seconds, [&] {
    pool.split(count, ceiling_grain, [&](std::int64_t begin, std::int64_t end) {
      if (kernels().read_stream(x + begin, end - begin) < static_cast<float>(ceiling_grain))
        fail("ceiling: a stream of ones adds up to too little");
    });
  });
}

void check(int threads, std::int64_t bytes, double seconds) {
  if (threads < 1 || threads > 1024) fail("ceiling: ", threads, " threads, from 1 to 1024 are needed");
  if (bytes < (1 << 20) || bytes > most_bytes)
    fail("ceiling: a stream of ", bytes, " bytes, from 1 MiB to 64 GiB are needed");
  if (!(seconds >= 0.0 && seconds <= longest))
    fail("ceiling: ", seconds, " s, from 0 to ", longest, " are needed");
}

}  // namespace

Ceiling measure_ceiling(int threads, std::int64_t bytes, double seconds) {
  check(threads, bytes, seconds);
  ThreadPool pool(threads);
  const Kernels& set = kernels();
  return {multiply_add_rate(pool, seconds, set.multiply_adds),
          multiply_add_rate(pool, seconds, set.multiply_adds_bf16),
          multiply_add_rate(pool, seconds, set.multiply_adds_int8), read_rate(pool, bytes, seconds)};
}

}  // namespace orion::cpu
