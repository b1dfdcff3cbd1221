// Compiled with the flags of its instruction set (see CMakeLists.txt); nothing on other processors.
#if defined(__aarch64__)
#include "cpu/simd_neon.h"

#include "cpu/kernels_impl.h"

namespace orion::cpu {

constinit const Kernels neon_bf16_kernels = make_kernels<neon::Vec>("neon_bf16");

}  // namespace orion::cpu
#endif
