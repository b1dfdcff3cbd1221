#include "cpu/simd_portable.h"

#include "cpu/kernels_impl.h"

namespace orion::cpu {

constinit const Kernels portable_kernels = make_kernels<portable::Vec>("portable");

}  // namespace orion::cpu
