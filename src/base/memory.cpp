#include "base/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

namespace orion {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t least_mapped = huge_page;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  if (bytes > SIZE_MAX - unit) throw std::bad_alloc();
  return (bytes + unit - 1) / unit * unit;
}

std::shared_ptr<std::byte> from_heap(std::size_t bytes) {
  const std::size_t size = rounded_up(std::max<std::size_t>(bytes, 1), memory_alignment);
  void* memory = ::operator new(size, std::align_val_t(memory_alignment));
  std::memset(memory, 0, size);
  return {static_cast<std::byte*>(memory),
          [](std::byte* p) { ::operator delete(p, std::align_val_t(memory_alignment)); }};
}

// The mapping is longer than asked for, so that what is given out starts at a huge page; pages that nobody
// touches take no memory.
std::shared_ptr<std::byte> from_system(std::size_t bytes) {
  const std::size_t mapped = rounded_up(bytes, huge_page) + huge_page;
  void* start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (start == MAP_FAILED) throw std::bad_alloc();
  const std::size_t before = (huge_page - reinterpret_cast<std::uintptr_t>(start) % huge_page) % huge_page;
  std::byte* memory = static_cast<std::byte*>(start) + before;
#ifdef MADV_HUGEPAGE
  // Advice only: systems without huge pages refuse it, and pages of the usual size serve as well.
  static_cast<void>(madvise(memory, bytes / huge_page * huge_page, MADV_HUGEPAGE));
#endif
  return {memory, [start, mapped](std::byte*) { munmap(start, mapped); }};
}

}  // namespace

std::shared_ptr<std::byte> zeroed_memory(std::size_t bytes) {
  return bytes < least_mapped ? from_heap(bytes) : from_system(bytes);
}

}  // namespace orion
