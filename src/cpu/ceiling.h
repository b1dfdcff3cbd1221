// What this machine can do at most, measured: the figures of programs are told as shares of it.
#pragma once

#include <cstdint>

namespace orion::cpu {

struct Ceiling {
  // Multiply-adds out of registers, two operations each, per second.
  double flops = 0.0;  // fp32
  double bf16_flops =
      0.0;  // of the instructions that products of bfloat16 use: fp32's where there are no others
  double int8_flops = 0.0;  // of the dot products of bytes
  double read_bytes = 0.0;  // of a stream from memory, per second
};

/// The best of several rounds of the kernels in use, on so many threads: about `seconds` for each figure. The
/// stream is `bytes` long, which should be several times the caches. Error if an argument is out of range.
Ceiling measure_ceiling(int threads, std::int64_t bytes, double seconds);

}  // namespace orion::cpu
