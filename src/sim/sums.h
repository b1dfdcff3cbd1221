// Sums of products with the engine's rounding, several columns side by side.
#pragma once

#include "sim/arithmetic.h"

#include <array>

namespace orion::sim {

/// Columns computed together.
inline constexpr std::int64_t lanes = 16;
using Lanes = std::array<float, lanes>;

/// row (K,) @ panel (K, lanes), each product rounded, sums in fp32 in the order of K.
using SumOfProducts = void (*)(const float* row, const float* panel, std::int64_t depth, Lanes& sums);

enum class InstructionSet : std::uint8_t { portable, avx2, avx512 };

/// Those of this CPU, the fastest first.
std::span<const InstructionSet> instruction_sets();

/// The form of it for this arithmetic. Without `watch_overflow` no product may leave fp16's range. All
/// instruction sets give the same bits.
SumOfProducts sum_of_products(const Arithmetic& arithmetic, bool watch_overflow,
                              InstructionSet set = instruction_sets().front());

}  // namespace orion::sim
