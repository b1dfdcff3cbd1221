#include "sim/special.h"

#include "ops/rules.h"
#include "ops/softmax_line.h"
#include "sim/products.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace orion::sim {
namespace {

constexpr std::size_t mask_arg = 3;
constexpr std::int64_t softmax_tile = 2048;  // field survey C9: right up to here on M3 Ultra

// -- sums ----------------------------------------------------------------------------------------------

bool is_float_sum(const EngineCall& call) {
  return (call.node.is("reduce_sum") || call.node.is("reduce_mean")) && is_float(call.node.type.dtype);
}

// One running sum in fp16 for each result, in row-major order.
void narrow_sum(const EngineCall& call, const Tensor& result) {
  const Shape& x = call.in[0].shape();
  const float* from = call.in[0].as<float>().data();
  const std::span<float> sums = result.as<float>();
  const std::array<Strides, 1> strides = {broadcast_strides(with_ones(x, call.node.list("axes")), x)};
  for_each<1>(x, strides, [&](std::int64_t i, const auto& at) {
    float& sum = sums[static_cast<std::size_t>(at[0])];
    sum = rounded(sum + from[i], call.arithmetic);
  });
  if (call.node.is("reduce_sum")) return;
  const auto count = static_cast<float>(x.size() / result.shape().size());
  for (float& sum : sums) sum /= count;
}

// -- softmax of a long axis: each tile has its own maximum and sum --------------------------------------

bool is_long_softmax(const EngineCall& call) {
  return call.node.is("softmax") &&
         call.node.type.shape[static_cast<int>(call.node.integer("axis"))] > softmax_tile;
}

void tiled_softmax(const EngineCall& call, const Tensor& result) {
  const auto axis = static_cast<int>(call.node.integer("axis"));
  const Shape& shape = result.shape();
  const std::int64_t stride = shape.stride(axis);
  const float* x = call.in[0].as<float>().data();
  float* y = result.as<float>().data();
  for (std::int64_t block = 0; block < shape.size(); block += shape[axis] * stride)
    for (std::int64_t line = block; line < block + stride; ++line)
      for (std::int64_t first = 0; first < shape[axis]; first += softmax_tile)
        softmax_line(x + line + first * stride, y + line + first * stride,
                     std::min(softmax_tile, shape[axis] - first), stride);
}

// -- operands that the engine sees otherwise -----------------------------------------------------------

// A comparison with NaN is lost, so the other operand is the result.
Tensor without_nan(const Tensor& tensor, float instead) {
  const Tensor numbers = tensor.clone();
  for (float& value : numbers.as<float>()) value = std::isnan(value) ? instead : value;
  return numbers;
}

bool loses_to_larger(const Node& node) {
  return node.is("maximum") || node.is("relu") || node.is("clip") || node.is("reduce_max");
}

}  // namespace

bool computed_specially(const EngineCall& call, const Tensor& result) {
  const Arithmetic& arithmetic = call.arithmetic;
  if (is_product(call.node)) {
    const bool ignored =
        arithmetic.ignore_conv_inputs && call.node.is("conv") && !is_constant(call.graph, call.node, 1);
    if (!ignored) multiply(call.node, call.in, result, arithmetic);
    return true;
  }
  if (arithmetic.narrow_sums && is_float_sum(call)) {
    narrow_sum(call, result);
    return true;
  }
  if (arithmetic.tile_softmax && is_long_softmax(call)) {
    tiled_softmax(call, result);
    return true;
  }
  return false;
}

std::vector<Tensor> seen_operands(const EngineCall& call) {
  std::vector<Tensor> in;
  for (const Tensor& operand : call.in) in.push_back(widened(operand));
  const Node& node = call.node;
  if (call.arithmetic.ignore_mask && node.is("scaled_dot_product_attention")) in[mask_arg] = Tensor();
  if (!call.arithmetic.nan_loses || !is_float(node.type.dtype)) return in;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  if (loses_to_larger(node))
    for (Tensor& operand : in) operand = without_nan(operand, -infinity);
  if (node.is("minimum"))
    for (Tensor& operand : in) operand = without_nan(operand, infinity);
  return in;
}

// A product that stretches an operand over the batch is right for the first of the batch only.
void spoil(const EngineCall& call, const Tensor& result) {
  if (!call.arithmetic.lose_batches || !call.node.is("mul") || result.shape().rank() != 4) return;
  const Shape& x = call.in[0].shape();
  const Shape& y = call.in[1].shape();
  if (x.rank() != 4 || y.rank() != 4 || x[0] == y[0]) return;
  std::ranges::fill(result.as<float>().subspan(static_cast<std::size_t>(result.shape().stride(0))), 0.0F);
}

}  // namespace orion::sim
