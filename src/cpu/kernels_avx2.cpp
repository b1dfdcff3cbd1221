// Compiled with the flags of its instruction set (see CMakeLists.txt); nothing on other processors.
#if defined(__x86_64__)
#include "cpu/simd_avx2.h"

#include "cpu/kernels_impl.h"

namespace orion::cpu {

constinit const Kernels avx2_kernels = make_kernels<avx2::Vec>("avx2");

}  // namespace orion::cpu
#endif
