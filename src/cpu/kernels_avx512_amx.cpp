// Compiled with the flags of its instruction set (see CMakeLists.txt); nothing on other processors.
#if defined(__x86_64__)
#include "cpu/simd_avx512.h"

#include "cpu/kernels_impl.h"

namespace orion::cpu {

constinit const Kernels avx512_amx_kernels = make_kernels<avx512::Vec>("avx512_amx");

}  // namespace orion::cpu
#endif
