// MIL's `split` has several results; here each is a slice.
#pragma once

#include "orion/graph.h"

namespace orion {

/// x cut along `axis` into pieces of the given sizes, which must add up to the axis.
std::vector<Value> split(Value x, std::span<const std::int64_t> sizes, std::int64_t axis);

/// x cut along `axis` into `num_splits` equal pieces.
std::vector<Value> split(Value x, std::int64_t num_splits, std::int64_t axis);

}  // namespace orion
