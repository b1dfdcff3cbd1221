// Which instruction set's kernels run.
#include "cpu/kernel_table.h"
#include "orion/error.h"

#include <atomic>
#include <cstdlib>
#include <iterator>
#include <string>

#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace orion::cpu {
namespace {

#if defined(__aarch64__)
// Armv8.6's products of bfloat16, and those of bytes.
bool has_bf16() {
#if defined(__APPLE__)
  const auto has = [](const char* feature) {
    int value = 0;
    std::size_t size = sizeof(value);
    return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
  };
  return has("hw.optional.arm.FEAT_BF16") && has("hw.optional.arm.FEAT_DotProd");
#elif defined(__linux__)
  constexpr unsigned long dot_product = 1UL << 20U, bf16 = 1UL << 14U;  // HWCAP_ASIMDDP, HWCAP2_BF16
  return (getauxval(AT_HWCAP) & dot_product) != 0 && (getauxval(AT_HWCAP2) & bf16) != 0;
#else
  return false;
#endif
}
#endif

#if defined(__x86_64__)
bool has_dots() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}

// Linux keeps the registers of tiles only for processes that ask for them; systems that nothing is known of
// might not keep them at all.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#endif

bool machine_has(const Kernels& set) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (&set == &avx2_kernels) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (&set == &avx512_kernels) return avx512;
  if (&set == &avx512_bf16_kernels) return avx512 && has_dots();
  if (&set == &avx512_amx_kernels) return avx512 && has_dots() && may_use_tiles();
#elif defined(__aarch64__)
  if (&set == &neon_bf16_kernels) return has_bf16();
#endif
  return &set == &portable_kernels || set.name == "neon";  // NEON is part of aarch64
}

constexpr const Kernels* compiled[] = {
#if defined(__x86_64__)
    &avx512_amx_kernels, &avx512_bf16_kernels, &avx512_kernels, &avx2_kernels,
#elif defined(__aarch64__)
    &neon_bf16_kernels,
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
