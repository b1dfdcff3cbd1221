// Products that are too long or too large for the engine, as sums of smaller ones.
#include "ane/legalize_passes.h"
#include "ir/rewrite.h"
#include "mil/lowered.h"
#include "ops/slice.h"
#include "orion/op.h"
#include "orion/ops.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace orion::ane {
namespace {

constexpr std::int64_t longest_contraction = 8192;
constexpr int channel_axis = 1;  // of x (N, C, ...) and of a kernel (O, C, ...)

std::int64_t bytes_of(Value value) {
  return static_cast<std::int64_t>(value.type().bytes());
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

Value channels(Value x, std::int64_t begin, std::int64_t count) {
  Slice slice;
  for (const std::int64_t size : x.shape()) slice.push_back({.count = size});
  slice[channel_axis] = {.begin = begin, .count = count};
  return take(x, slice);
}

// conv over all channels as the sum of conv over shares of them.
Value sum_of_shares(const RewriteCall& call, std::int64_t shares) {
  const std::int64_t total = call.in[1].shape()[channel_axis];
  const std::int64_t share = ceil_div(total, shares);
  Value sum;
  for (std::int64_t begin = 0; begin < total; begin += share) {
    const std::int64_t count = std::min(share, total - begin);
    const Value x = channels(call.in[0], begin, count);
    const Value kernel = channels(call.in[1], begin, count);
    const Value part = call.graph.add(*call.node.op, {x.id, kernel.id, absent}, call.node.attrs);
    sum = sum ? ops::add(sum, part) : part;
  }
  return sum;
}

// Shares whose weights fit the engine's memory beside x, a share of it, the sum and what is added to it.
std::int64_t shares_for_memory(const RewriteCall& call, std::int64_t memory) {
  const std::int64_t kernel = bytes_of(call.in[1]);
  const std::int64_t values = bytes_of(call.in[0]) + static_cast<std::int64_t>(call.node.type.bytes());
  const std::int64_t room = memory - 2 * values;
  if (kernel + values <= memory || room <= 0) return 1;
  return std::min(ceil_div(kernel, room), call.in[1].shape()[channel_axis]);
}

class ProductSplit {
 public:
  ProductSplit(const Profile& profile, std::int64_t free) : profile_(profile), free_(free) {}

  Value operator()(const RewriteCall& call) {
    if (!call.node.is("conv") || call.in[2] || !is_pointwise(call.node, call.in[1].shape())) return {};
    const std::int64_t needed = shares_for_length(call.in[1].shape()[channel_axis]);
    const std::int64_t wanted = is_known(call.graph, call.in[1].id) ? shares_for_memory(call) : 1;
    const std::int64_t more = std::clamp<std::int64_t>(wanted - needed, 0, free_);
    free_ -= more;
    return needed + more > 1 ? sum_of_shares(call, needed + more) : Value{};
  }

 private:
  std::int64_t shares_for_length(std::int64_t length) const {
    return profile_.has("contraction-length") ? ceil_div(length, longest_contraction) : 1;
  }
  std::int64_t shares_for_memory(const RewriteCall& call) const {
    return profile_.has("sram-working-set") ? ane::shares_for_memory(call, profile_.sram_bytes) : 1;
  }

  const Profile& profile_;
  std::int64_t free_;
};

bool is_scalar(const Node& node) {
  return node.is("const") && node.type.shape.size() == 1;
}

}  // namespace

std::int64_t free_slots(const Graph& graph, const Profile& profile) {
  if (profile.weights_per_program == 0) return std::numeric_limits<std::int64_t>::max();
  const auto stored = std::ranges::count_if(graph.nodes(), mil::is_blob);
  const bool scalar = profile.has("scalar-takes-slot") && std::ranges::any_of(graph.nodes(), is_scalar);
  return std::max<std::int64_t>(0, profile.weights_per_program - stored - (scalar ? 1 : 0));
}

//   %1 w: fp16 (4096, 11008, 1, 1) = weight()       86 MiB, of 32 near the engine
//   %2 = conv(x=%0, weight=%1)
// becomes
//   %2 = slice_by_index(x=%0, ...)                  channels 0 .. 3669
//   %3 = conv(x=%2, weight=slice_by_index(x=%1, ...))
//   ...                                             and so on, two more times
//   %9 = add(x=add(x=%3, y=%5), y=%8)
Graph split_products(const Graph& graph, const Profile& profile) {
  std::vector<WeightUse> uses;  // a share is a form of the weight that takes a slot
  ProductSplit split(profile, free_slots(fold_weight_views(graph, uses), profile));
  return rewrite(graph, std::ref(split));
}

}  // namespace orion::ane
