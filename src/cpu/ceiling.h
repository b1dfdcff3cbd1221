// What this machine can do at most, measured: the figures of programs are told as shares of it.
#pragma once

#include <cstdint>

namespace orion::cpu {

struct Ceiling {
  double flops = 0.0;       // fp32 multiply-adds out of registers, two operations each, per second
  double read_bytes = 0.0;  // of a stream from memory, per second
};

/// The best of several rounds of the kernels in use, on so many threads: about `seconds` for each figure. The
/// stream is `bytes` long, which should be several times the caches. Error if an argument is out of range.
Ceiling measure_ceiling(int threads, std::int64_t bytes, double seconds);

}  // namespace orion::cpu
