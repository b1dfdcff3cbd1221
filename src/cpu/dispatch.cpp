// Which instruction set's kernels run.
#include "cpu/kernel_table.h"
#include "orion/error.h"

#include <atomic>
#include <cstdlib>
#include <iterator>
#include <string>

namespace orion::cpu {
namespace {

bool machine_has(const Kernels& set) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (&set == &avx2_kernels) return avx2;
  if (&set == &avx512_kernels)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
  return &set == &portable_kernels || set.name == "neon";  // NEON is part of aarch64
}

constexpr const Kernels* compiled[] = {
#if defined(__x86_64__)
    &avx512_kernels,
    &avx2_kernels,
#elif defined(__aarch64__)
    &neon_kernels,
#endif
    &portable_kernels,
};

struct Supported {
  const Kernels* sets[std::size(compiled)];
  std::size_t count = 0;

  Supported() {
    for (const Kernels* set : compiled)
      if (machine_has(*set)) sets[count++] = set;
  }
};

}  // namespace

std::span<const Kernels* const> supported_kernels() {
  static const Supported supported;
  return {supported.sets, supported.count};
}

const Kernels& find_kernels(std::string_view name) {
  if (name.empty()) return *supported_kernels().front();
  std::string names;
  for (const Kernels* set : supported_kernels()) {
    if (set->name == name) return *set;
    names.append(" ").append(set->name);
  }
  fail("ORION_ISA is '", name, "': this machine runs", names);
}

namespace {

std::atomic<const Kernels*>& chosen() {
  static std::atomic<const Kernels*> set = [] {
    const char* name = std::getenv("ORION_ISA");
    return &find_kernels(name == nullptr ? "" : name);
  }();
  return set;
}

}  // namespace

const Kernels& kernels() {
  return *chosen().load(std::memory_order_relaxed);
}

void use_kernels(const Kernels& set) {
  chosen().store(&set, std::memory_order_relaxed);
}

std::string_view isa_name() {
  return kernels().name;
}

}  // namespace orion::cpu
