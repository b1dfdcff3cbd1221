// How kernels divide their work over threads and hand out their scratch memory.
#pragma once

#include "base/memory.h"
#include "base/threads.h"
#include "orion/error.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace orion::cpu {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Elements below which a second thread does not pay.
inline constexpr std::int64_t elements_at_once = 4096;

inline constexpr std::int64_t most_queues = 64;

constexpr std::int64_t queues_for(std::int64_t workers) {
  return workers < most_queues ? workers : most_queues;
}

/// A piece of work: which one, in which queue.
struct Item {
  std::int64_t queue = 0, index = 0;
};

/// Takes the items of `queues` queues, `count(queue)` each, one after the other.
class Queues {
 public:
  explicit Queues(std::int64_t queues) : queues_(queues) {}

  /// The next item for who has found `passed` queues empty, its own being the first; none if all are.
  template <class Count>
  std::optional<Item> take(std::int64_t own, std::int64_t& passed, const Count& count) {
    for (; passed < queues_; ++passed) {
      const std::int64_t queue = (own + passed) % queues_;
      const std::int64_t index = taken_[static_cast<std::size_t>(queue)].items++;
      if (index < count(queue)) return Item{queue, index};
    }
    return std::nullopt;
  }

 private:
  struct alignas(64) Taken {
    std::atomic<std::int64_t> items{0};
  };
  std::int64_t queues_;
  std::array<Taken, most_queues> taken_;
};

/// Calls `body(worker, item, next)` for each item of `queues_for(workers)` queues, when a worker is free.
/// Each worker empties its own queue, so that what it meets again is in its caches, and then helps with the
/// others': a thread that something keeps from running holds none of them up. `next` is the item that this
/// worker goes on with, if any. A worker that has an item calls `start(worker)` before its first one. Both
/// may use memory that belongs to `worker`.
template <class Count, class Start, class Body>
void share_queues(ThreadPool& pool, std::int64_t workers, const Count& count, const Start& start,
                  const Body& body) {
  Queues queues(queues_for(workers));
  pool.split(workers, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t w = first; w < last; ++w) {
      std::int64_t passed = 0;
      const auto take = [&] { return queues.take(w, passed, count); };
      std::optional<Item> item = take();
      if (item) start(w);
      for (std::optional<Item> next; item; item = next) {
        next = take();
        body(w, *item, next);
      }
    }
  });
}

/// The same for items that are alike: `body(worker, item)`.
template <class Body>
void share_items(ThreadPool& pool, std::int64_t workers, std::int64_t items, const Body& body) {
  const std::int64_t used = std::min(workers, items), queues = queues_for(used);
  const auto begin = [=](std::int64_t queue) { return items * queue / queues; };
  share_queues(
      pool, used, [=](std::int64_t queue) { return begin(queue + 1) - begin(queue); }, [](std::int64_t) {},
      [&](std::int64_t w, const Item& item, const std::optional<Item>&) {
        body(w, begin(item.queue) + item.index);
      });
}

/// A result: floats or bfloat16, elements between its rows (or what such distances have in common), and of
/// all.
struct ResultMemory {
  const float* y = nullptr;
  const std::uint16_t* rounded = nullptr;  // instead, if given
  std::int64_t row = 0, count = 0;
};

/// Whether a result lies so that it can go to memory past the caches.
bool can_stream(const ResultMemory& result);
/// Whether a result should go to memory past the caches. Other cores read it next, and where those are far
/// away, a line that they have read takes longer to write again than memory takes to give it to them.
bool should_stream(ThreadPool& pool, const ResultMemory& result);

/// Scratch bytes of so many floats.
constexpr std::size_t float_bytes(std::int64_t count) {
  return aligned_bytes(static_cast<std::size_t>(count) * sizeof(float));
}

/// Memory of a kernel's caller, handed out from its first multiple of 64 on.
class Scratch {
 public:
  Scratch(std::string_view kernel, std::span<std::byte> memory) : kernel_(kernel), memory_(memory) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    if (!memory.empty()) skip(aligned_bytes(address) - address);
  }
  std::byte* take(std::size_t bytes) {
    std::byte* piece = memory_.data();
    skip(bytes);
    return piece;
  }
  float* take_floats(std::int64_t count) { return reinterpret_cast<float*>(take(float_bytes(count))); }

 private:
  void skip(std::size_t bytes) {
    if (bytes > memory_.size())
      fail(kernel_, ": the scratch memory is too small: size it with ", kernel_,
           "_scratch for as many threads");
    memory_ = memory_.subspan(bytes);
  }

  std::string_view kernel_;
  std::span<std::byte> memory_;
};

/// How much memory takes from a Scratch come to; gives none.
class ScratchSize {
 public:
  std::byte* take(std::size_t bytes) {
    bytes_ += bytes;
    return nullptr;
  }
  float* take_floats(std::int64_t count) {
    take(float_bytes(count));
    return nullptr;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

}  // namespace orion::cpu
