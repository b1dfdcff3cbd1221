// Part of every aarch64 processor; nothing elsewhere.
#if defined(__aarch64__)
#include "cpu/simd_neon.h"

#include "cpu/kernels_impl.h"

namespace orion::cpu {

constinit const Kernels neon_kernels = make_kernels<neon::Vec>("neon");

}  // namespace orion::cpu
#endif
