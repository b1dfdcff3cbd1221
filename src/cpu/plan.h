// What a graph becomes on the CPU: a list of steps over addresses that are known before the first run.
#pragma once

#include "base/threads.h"
#include "cpu/kernels.h"
#include "cpu/weights.h"
#include "orion/device.h"

#include <functional>

namespace orion::cpu {

/// Index into the table of addresses. Every value of the graph lives in one; views share theirs.
using Slot = int;
inline constexpr Slot no_slot = -1;

/// What a step is given when it runs.
struct Run {
  void* const* addresses;
  ThreadPool& pool;
  std::span<std::byte> scratch;

  template <class T>
  T* at(Slot slot) const {
    return slot == no_slot ? nullptr : static_cast<T*>(addresses[slot]);
  }
};

struct Step {
  std::string label = {};
  std::vector<Slot> reads = {};
  Slot writes = no_slot;
  std::vector<Slot> also_writes = {};
  std::function<void(const Run&)> run = {};
  std::size_t scratch = 0;
  bool in_place = false;  // may write over its first operand if nothing reads that later
};

/// What stands behind an address.
struct Place {
  enum class Kind : std::uint8_t { arena, input, output, fixed };
  Kind kind = Kind::arena;
  std::size_t bytes = 0;
  int port = -1;                // of an input or output
  const void* fixed = nullptr;  // a weight or constant
  std::size_t offset = 0;       // in the arena
};

struct Plan {
  Graph graph;  // optimised; steps refer to its nodes
  std::vector<Port> inputs = {};
  std::vector<Port> outputs = {};
  std::vector<Place> places = {};
  std::vector<Step> steps = {};
  std::size_t arena_bytes = 0;
  std::size_t scratch_bytes = 0;
  std::shared_ptr<CpuWeights> constants = nullptr;  // the graph's constants, packed like weights
  std::shared_ptr<CpuWeights> weights;
};

/// Simplifies the graph, chooses kernels, fuses, and lays out the memory.
std::unique_ptr<Plan> make_plan(const Graph& graph, std::shared_ptr<CpuWeights> weights);

/// Gives every arena place an offset so that places alive at the same time do not overlap; returns
/// the arena's size.
std::size_t lay_out_arena(const std::vector<Step>& steps, std::vector<Place>& places);

}  // namespace orion::cpu
