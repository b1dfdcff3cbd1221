#include "sim/products.h"

#include "ops/rules.h"
#include "sim/matrix.h"

#include <algorithm>
#include <utility>

namespace orion::sim {
namespace {

constexpr int first_spatial = 2;

// The last two axes of an operand, starting `offset` elements into it.
Matrix last_two_axes(const Tensor& tensor, std::int64_t offset, bool transposed) {
  const Shape& shape = tensor.shape();
  Matrix m{.tensor = tensor,
           .offset = offset,
           .rows = shape[shape.rank() - 2],
           .cols = shape.back(),
           .row_stride = shape.back(),
           .col_stride = 1};
  if (transposed) {
    std::swap(m.rows, m.cols);
    std::swap(m.row_stride, m.col_stride);
  }
  return m;
}

Shape batch_of(const Shape& shape) {
  return Shape(std::span(shape.begin(), static_cast<std::size_t>(shape.rank() - 2)));
}

// x (..., M, K) @ y (..., K, N) -> z (..., M, N)
void matmul(const Node& node, std::span<const Tensor> in, const Tensor& z, const Arithmetic& arithmetic) {
  const Shape batch = batch_of(z.shape());
  const Shape x_batch = batch_of(in[0].shape());
  const Shape y_batch = batch_of(in[1].shape());
  const std::int64_t x_size = in[0].shape().size() / x_batch.size();
  const std::int64_t y_size = in[1].shape().size() / y_batch.size();
  const std::int64_t z_size = z.shape().size() / batch.size();
  const std::array strides = {broadcast_strides(x_batch, batch), broadcast_strides(y_batch, batch)};
  for_each<2>(batch, strides, [&](std::int64_t i, const auto& at) {
    multiply_matrices(last_two_axes(in[0], at[0] * x_size, node.flag("transpose_x")),
                      last_two_axes(in[1], at[1] * y_size, node.flag("transpose_y")), nullptr,
                      z.as<float>().data() + i * z_size, arithmetic);
  });
}

// -- convolution: for each image and group, weight (O, C * taps) @ seen (C * taps, positions) ------------

struct ConvSizes {
  std::int64_t images, groups;
  std::int64_t channels, outputs;  // of one group
  std::int64_t taps, positions;
  std::int64_t plane;  // elements of one input channel
};

ConvSizes sizes_of(const Node& node, const Shape& x, const Shape& weight, const Shape& z) {
  const std::int64_t groups = node.integer("groups");
  return {.images = z[0],
          .groups = groups,
          .channels = weight[1],
          .outputs = weight[0] / groups,
          .taps = weight.size() / weight[0] / weight[1],
          .positions = z.size() / z[0] / z[1],
          .plane = x.size() / x[0] / x[1]};
}

bool is_pointwise(const Node& node, const ConvSizes& s) {
  return s.taps == 1 && s.plane == s.positions && node.text("pad_type") == "valid";
}

// Offset within a channel that tap `t` sees for output position `p`, or -1 in the padding.
std::int64_t seen_at(const Node& node, const Shape& x, const Shape& weight, const Shape& z, std::int64_t t,
                     std::int64_t p) {
  std::int64_t offset = 0;
  for (int axis = first_spatial; axis < x.rank(); ++axis) {
    const auto i = static_cast<std::size_t>(axis - first_spatial);
    const std::int64_t tap = t / weight.stride(axis) % weight[axis];
    const std::int64_t out = p / z.stride(axis) % z[axis];
    const std::int64_t in =
        out * node.list("strides")[i] + tap * node.list("dilations")[i] - node.list("pad")[2 * i];
    if (in < 0 || in >= x[axis]) return -1;
    offset = offset * x[axis] + in;
  }
  return offset;
}

std::vector<std::int64_t> seen_offsets(const Node& node, const Shape& x, const Shape& weight, const Shape& z,
                                       const ConvSizes& s) {
  std::vector<std::int64_t> offsets;
  for (std::int64_t t = 0; t < s.taps; ++t)
    for (std::int64_t p = 0; p < s.positions; ++p) offsets.push_back(seen_at(node, x, weight, z, t, p));
  return offsets;
}

// What the kernels of one group see: (C * taps, positions), zeros in the padding.
Tensor seen(const float* channels, const std::vector<std::int64_t>& offsets, const ConvSizes& s) {
  const Tensor matrix(TensorType{DType::fp32, {s.channels * s.taps, s.positions}});
  float* to = matrix.as<float>().data();
  for (std::int64_t c = 0; c < s.channels; ++c)
    for (const std::int64_t offset : offsets) *to++ = offset < 0 ? 0.0F : channels[c * s.plane + offset];
  return matrix;
}

void conv(const Node& node, std::span<const Tensor> in, const Tensor& z, const Arithmetic& arithmetic) {
  const Shape& weight = in[1].shape();
  const Tensor x = widened(in[0]);
  const ConvSizes s = sizes_of(node, x.shape(), weight, z.shape());
  const bool pointwise = is_pointwise(node, s);
  const std::vector<std::int64_t> offsets =
      pointwise ? std::vector<std::int64_t>{} : seen_offsets(node, x.shape(), weight, z.shape(), s);
  const Tensor bias = in[2].empty() ? Tensor() : widened(in[2]);
  const std::int64_t depth = s.channels * s.taps;
  for (std::int64_t part = 0; part < s.images * s.groups; ++part) {
    const std::int64_t first_channel = part * s.channels;
    const std::int64_t first_output = part % s.groups * s.outputs;
    const Tensor matrix = pointwise ? x : seen(x.as<float>().data() + first_channel * s.plane, offsets, s);
    multiply_matrices({.tensor = in[1],
                       .offset = first_output * depth,
                       .rows = s.outputs,
                       .cols = depth,
                       .row_stride = depth,
                       .col_stride = 1},
                      {.tensor = matrix,
                       .offset = pointwise ? first_channel * s.plane : 0,
                       .rows = depth,
                       .cols = s.positions,
                       .row_stride = s.positions,
                       .col_stride = 1},
                      bias.empty() ? nullptr : bias.as<float>().data() + first_output,
                      z.as<float>().data() + part * s.outputs * s.positions, arithmetic);
  }
}

}  // namespace

bool is_product(const Node& node) {
  return node.is("matmul") || node.is("conv");
}

void multiply(const Node& node, std::span<const Tensor> operands, const Tensor& result,
              const Arithmetic& arithmetic) {
  if (node.is("matmul"))
    matmul(node, operands, result, arithmetic);
  else
    conv(node, operands, result, arithmetic);
}

}  // namespace orion::sim
