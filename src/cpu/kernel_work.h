// How kernels divide their work over threads and hand out their scratch memory.
#pragma once

#include "base/memory.h"
#include "base/threads.h"
#include "orion/error.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

namespace orion::cpu {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Elements below which a second thread does not pay.
inline constexpr std::int64_t elements_at_once = 4096;

/// Calls `body(worker, item, next)` for each item, when a worker is free: a thread that others keep from
/// running holds none of them up. `next` is the item that this worker goes on with, or `items`. A worker that
/// has an item calls `start(worker)` before its first one. Both may use memory that belongs to `worker`.
template <class Start, class Body>
void share_items(ThreadPool& pool, std::int64_t workers, std::int64_t items, const Start& start,
                 const Body& body) {
  std::atomic<std::int64_t> taken{0};
  pool.split(std::min(workers, items), 1, [&](std::int64_t first, std::int64_t last) {
    const auto take = [&] { return std::min(taken++, items); };
    for (std::int64_t w = first; w < last; ++w) {
      std::int64_t item = take();
      if (item < items) start(w);
      for (std::int64_t next; item < items; item = next) {
        next = take();
        body(w, item, next);
      }
    }
  });
}

template <class Body>
void share_items(ThreadPool& pool, std::int64_t workers, std::int64_t items, const Body& body) {
  share_items(pool, workers, items, [](std::int64_t) {}, body);
}

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

}  // namespace orion::cpu
