// Convolution over one to three spatial axes.
//
// Shapes: x (N, C, *in), weight (O, C / groups, *kernel), bias (O,), result (N, O, *out).
// A tap is one position of the kernel: with the input it sees (a strided slice of the padded x) the
// convolution is a matrix product, and the whole is the sum over taps. Gradients are built that way.
#include "ops/conv.h"

#include "ops/rules.h"
#include "ops/slice.h"
#include "orion/ops.h"

#include <algorithm>

namespace orion {
namespace {

using Ints = std::vector<std::int64_t>;
using Values = std::vector<Value>;

constexpr int first_spatial = 2;

// -- type rule ------------------------------------------------------------------------------------

void canonical_spatial_list(Node& node, std::string_view attr, std::size_t length, std::int64_t fallback,
                            std::int64_t least) {
  Ints list = node.list(attr);
  if (list.empty()) list.assign(length, fallback);
  if (list.size() != length) fail("conv: ", attr, " has ", list.size(), " entries, ", length, " are needed");
  constexpr std::int64_t most = 1 << 20;
  for (const std::int64_t value : list)
    if (value < least || value > most)
      fail("conv: ", attr, " has ", value, ", it must be from ", least, " to ", most);
  set_attr(node, attr, std::move(list));
}

std::int64_t reach(const Node& node, const Shape& weight, int i) {
  return (weight[i + first_spatial] - 1) * node.list("dilations")[static_cast<std::size_t>(i)] + 1;
}

// "same" pads so that out = ceil(in / stride); an odd element goes after x, or before it in "same_lower".
Ints same_pad(const Node& node, const Shape& x, const Shape& weight) {
  Ints pad;
  for (int i = 0; i + first_spatial < x.rank(); ++i) {
    const std::int64_t stride = node.list("strides")[static_cast<std::size_t>(i)];
    const std::int64_t in = x[i + first_spatial];
    const std::int64_t steps = (in + stride - 1) / stride - 1;
    const std::int64_t total = std::max<std::int64_t>(0, steps * stride + reach(node, weight, i) - in);
    const std::int64_t before = node.text("pad_type") == "same" ? total / 2 : total - total / 2;
    pad.insert(pad.end(), {before, total - before});
  }
  return pad;
}

// Resolves pad_type: "valid" if nothing is padded, else "custom" with the sizes in pad.
void canonical_pad(Node& node, const Shape& x, const Shape& weight) {
  const auto entries = 2 * static_cast<std::size_t>(x.rank() - first_spatial);
  canonical_spatial_list(node, "pad", entries, 0, 0);
  const std::string type = node.text("pad_type");
  const bool zero = std::ranges::all_of(node.list("pad"), [](std::int64_t size) { return size == 0; });
  if (type != "custom" && !zero) fail("conv: pad is given, which needs pad_type 'custom', not '", type, "'");
  if (type == "same" || type == "same_lower")
    set_attr(node, "pad", same_pad(node, x, weight));
  else if (type != "valid" && type != "custom")
    fail("conv: pad_type '", type, "', one of valid, same, same_lower, custom is needed");
  const bool none = std::ranges::all_of(node.list("pad"), [](std::int64_t size) { return size == 0; });
  set_attr(node, "pad_type", std::string(none ? "valid" : "custom"));
}

void check_shapes(const Graph& graph, const Node& node) {
  const Shape& x = operand(graph, node, 0).shape;
  const Shape& weight = operand(graph, node, 1).shape;
  const std::int64_t groups = node.integer("groups");
  if (x.rank() < 3 || weight.rank() != x.rank())
    fail("conv: x ", x, " and weight ", weight, " need equal ranks, 3 to 5");
  if (groups < 1 || x[1] % groups != 0 || weight[0] % groups != 0)
    fail("conv: ", x[1], " input and ", weight[0], " output channels do not divide into ", groups, " groups");
  if (x[1] / groups != weight[1])
    fail("conv: x has ", x[1] / groups, " channels in each group, weight ", weight, " wants ", weight[1]);
  if (given(node, 2) && operand(graph, node, 2).shape != Shape{weight[0]})
    fail("conv: bias is ", operand(graph, node, 2).shape, ", ", Shape{weight[0]}, " is needed");
}

TensorType conv_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  require_same_dtype(graph, node, 0, 1);
  if (given(node, 2)) require_same_dtype(graph, node, 0, 2);
  check_shapes(graph, node);
  const TensorType& x = operand(graph, node, 0);
  const Shape& weight = operand(graph, node, 1).shape;
  const auto spatial = static_cast<std::size_t>(x.shape.rank() - first_spatial);
  canonical_spatial_list(node, "strides", spatial, 1, 1);
  canonical_spatial_list(node, "dilations", spatial, 1, 1);
  canonical_pad(node, x.shape, weight);
  Shape shape{x.shape[0], weight[0]};
  for (std::size_t i = 0; i < spatial; ++i) {
    const int axis = static_cast<int>(i) + first_spatial;
    const std::int64_t padded = x.shape[axis] + node.list("pad")[2 * i] + node.list("pad")[2 * i + 1];
    const std::int64_t room = padded - reach(node, weight, static_cast<int>(i));
    if (room < 0)
      fail("conv: the kernel reaches over ", padded - room, " elements of axis ", axis, ", which has ",
           padded, " with its padding");
    shape.append(room / node.list("strides")[i] + 1);
  }
  return {x.dtype, shape};
}

// -- kernel ---------------------------------------------------------------------------------------

// One spatial axis of a convolution; an axis that x does not have is all ones.
struct Axis {
  std::int64_t in = 1, kernel = 1, out = 1, stride = 1, dilation = 1, before = 0;

  // Where output o looks with tap k; outside [0, in) lies the padding.
  std::int64_t at(std::int64_t o, std::int64_t k) const { return o * stride + k * dilation - before; }
  bool inside(std::int64_t i) const { return i >= 0 && i < in; }
};

std::array<Axis, 3> axes_of(const KernelCall& call) {
  std::array<Axis, 3> axes{};
  const auto spatial = static_cast<std::size_t>(call.out.shape.rank() - first_spatial);
  for (std::size_t i = 0; i < spatial; ++i) {
    const int axis = static_cast<int>(i) + first_spatial;
    axes[3 - spatial + i] = {.in = call.in[0].shape[axis],
                             .kernel = call.in[1].shape[axis],
                             .out = call.out.shape[axis],
                             .stride = call.node.list("strides")[i],
                             .dilation = call.node.list("dilations")[i],
                             .before = call.node.list("pad")[2 * i]};
  }
  return axes;
}

// Sum over the taps of one channel for the output at (o0, o1, o2).
double channel_sum(const std::array<Axis, 3>& axes, const float* x, const float* weight, std::int64_t o0,
                   std::int64_t o1, std::int64_t o2) {
  double sum = 0.0;
  for (std::int64_t k0 = 0; k0 < axes[0].kernel; ++k0) {
    for (std::int64_t k1 = 0; k1 < axes[1].kernel; ++k1) {
      for (std::int64_t k2 = 0; k2 < axes[2].kernel; ++k2, ++weight) {
        const std::int64_t i0 = axes[0].at(o0, k0);
        const std::int64_t i1 = axes[1].at(o1, k1);
        const std::int64_t i2 = axes[2].at(o2, k2);
        if (!axes[0].inside(i0) || !axes[1].inside(i1) || !axes[2].inside(i2)) continue;
        sum +=
            static_cast<double>(*weight) * static_cast<double>(x[(i0 * axes[1].in + i1) * axes[2].in + i2]);
      }
    }
  }
  return sum;
}

void conv_kernel(const KernelCall& call) {
  const std::array<Axis, 3> axes = axes_of(call);
  const std::int64_t outputs = call.in[1].shape[0];
  const std::int64_t channels = call.in[1].shape[1];  // of one group
  const std::int64_t x_plane = axes[0].in * axes[1].in * axes[2].in;
  const std::int64_t taps = axes[0].kernel * axes[1].kernel * axes[2].kernel;
  const std::int64_t outputs_per_group = outputs / call.node.integer("groups");
  const float* bias = call.in[2].as<float>();
  float* y = call.out.as<float>();
  const auto element = [&](std::int64_t n, std::int64_t o, std::int64_t o0, std::int64_t o1,
                           std::int64_t o2) {
    const std::int64_t first = n * call.in[0].shape[1] + o / outputs_per_group * channels;
    double sum = bias == nullptr ? 0.0 : static_cast<double>(bias[o]);
    for (std::int64_t c = 0; c < channels; ++c)
      sum += channel_sum(axes, call.in[0].as<float>() + (first + c) * x_plane,
                         call.in[1].as<float>() + (o * channels + c) * taps, o0, o1, o2);
    return static_cast<float>(sum);
  };
  for (std::int64_t n = 0; n < call.out.shape[0]; ++n)
    for (std::int64_t o = 0; o < outputs; ++o)
      for (std::int64_t o0 = 0; o0 < axes[0].out; ++o0)
        for (std::int64_t o1 = 0; o1 < axes[1].out; ++o1)
          for (std::int64_t o2 = 0; o2 < axes[2].out; ++o2) *y++ = element(n, o, o0, o1, o2);
}

// -- convolution as a sum over taps ---------------------------------------------------------------

// The sizes that all taps share, and x with its padding.
struct Taps {
  const Node& node;
  Value x;                    // (N, C, *padded)
  Value weight;               // (O, C / groups, *kernel)
  std::int64_t n, groups, c;  // c: channels of one group
  std::int64_t o;             // outputs of one group
  std::int64_t positions;     // product of *out
  std::int64_t count;         // product of *kernel
};

Ints padding(const Node& node) {
  Ints pad = {0, 0, 0, 0};
  pad.insert(pad.end(), node.list("pad").begin(), node.list("pad").end());
  return pad;
}

Taps taps_of(const Node& node, Value x, Value weight) {
  const Shape& w = weight.shape();
  const Shape& out = node.type.shape;
  const std::int64_t groups = node.integer("groups");
  const Value padded = node.text("pad_type") == "valid" ? x : ops::pad(x, padding(node));
  return {node,
          padded,
          weight,
          out[0],
          groups,
          w[1],
          w[0] / groups,
          out.size() / out[0] / out[1],
          w.size() / w[0] / w[1]};
}

// Kernel position of tap t: a slice of the weight of one element along each kernel axis.
Slice kernel_slice(const Taps& taps, std::int64_t t) {
  const Shape& w = taps.weight.shape();
  Slice slice = {{.count = w[0]}, {.count = w[1]}};
  for (int axis = first_spatial; axis < w.rank(); ++axis)
    slice.push_back({.begin = t / w.stride(axis) % w[axis]});
  return slice;
}

// What tap t sees of the padded x.
Slice input_slice(const Taps& taps, std::int64_t t) {
  const Slice kernel = kernel_slice(taps, t);
  const Shape& x = taps.x.shape();
  Slice slice = {{.count = x[0]}, {.count = x[1]}};
  for (std::size_t i = 0; i + first_spatial < kernel.size(); ++i) {
    const std::int64_t out = taps.node.type.shape[static_cast<int>(i) + first_spatial];
    slice.push_back({.begin = kernel[i + first_spatial].begin * taps.node.list("dilations")[i],
                     .count = out,
                     .stride = out == 1 ? 1 : taps.node.list("strides")[i]});
  }
  return slice;
}

// (N, groups, C / groups, positions)
Value tap_input(const Taps& taps, std::int64_t t) {
  return reshaped(take(taps.x, input_slice(taps, t)), {taps.n, taps.groups, taps.c, taps.positions});
}

// (groups, O / groups, C / groups)
Value tap_weight(const Taps& taps, std::int64_t t) {
  return reshaped(take(taps.weight, kernel_slice(taps, t)), {taps.groups, taps.o, taps.c});
}

Value sum_of_taps(const Taps& taps) {
  Value sum;
  for (std::int64_t t = 0; t < taps.count; ++t) {
    const Value product = ops::matmul(tap_weight(taps, t), tap_input(taps, t));
    sum = sum ? ops::add(sum, product) : product;
  }
  return reshaped(sum, taps.node.type.shape);
}

// dz: (N, groups, O / groups, positions)
Value weight_gradient(const Taps& taps, Value dz) {
  Values parts;
  for (std::int64_t t = 0; t < taps.count; ++t) {
    const Value product = ops::matmul(dz, tap_input(taps, t), false, true);
    const Value dw = taps.n == 1 ? product : ops::reduce_sum(product, {0});
    parts.push_back(reshaped(dw, {taps.groups * taps.o, taps.c, 1}));
  }
  const Value dw = taps.count == 1 ? parts[0] : ops::concat(parts, 2);
  return reshaped(dw, taps.weight.shape());
}

Value padded_gradient(const Taps& taps, Value dz) {
  Value sum;
  for (std::int64_t t = 0; t < taps.count; ++t) {
    const Value dx = ops::matmul(tap_weight(taps, t), dz, true, false);
    const Slice slice = input_slice(taps, t);
    const Shape seen = sliced_shape(slice);
    const Value placed = put_back(reshaped(dx, seen), taps.x.shape(), slice);
    sum = sum ? ops::add(sum, placed) : placed;
  }
  return sum;
}

bool is_pointwise(const Taps& taps) {
  const auto is_one = [](std::int64_t stride) { return stride == 1; };
  return taps.count == 1 && taps.groups == 1 && taps.node.text("pad_type") == "valid" &&
         std::ranges::all_of(taps.node.list("strides"), is_one);
}

Value input_gradient(const GradientCall& c, const Taps& taps, Value dz) {
  if (is_pointwise(taps)) {
    Ints swapped = {1, 0};
    for (int axis = first_spatial; axis < taps.x.shape().rank(); ++axis) swapped.push_back(axis);
    return ops::conv(c.dy, ops::transpose(taps.weight, swapped));
  }
  const Shape& x = c.in[0].shape();
  Slice inside;
  for (int axis = 0; axis < x.rank(); ++axis)
    inside.push_back({.begin = padding(c.node)[2 * static_cast<std::size_t>(axis)], .count = x[axis]});
  return take(padded_gradient(taps, dz), inside);
}

Values conv_gradient(const GradientCall& c) {
  const Taps taps = taps_of(c.node, c.in[0], c.in[1]);
  const Value dz = reshaped(c.dy, {taps.n, taps.groups, taps.o, taps.positions});
  Ints all_but_channels = {0};
  for (int axis = first_spatial; axis < c.dy.shape().rank(); ++axis) all_but_channels.push_back(axis);
  const Value dbias = c.in[2] ? ops::reduce_sum(c.dy, all_but_channels) : Value{};
  return {input_gradient(c, taps, dz), weight_gradient(taps, dz), dbias};
}

Value without_bias(const ExpandCall& c) {
  std::vector<NodeId> inputs = {c.in[0].id, c.in[1].id, absent};
  return c.graph.add(*c.node.op, std::move(inputs), c.node.attrs);
}

// First the bias becomes an addition, then what is left a sum over taps.
Value expand_conv(const ExpandCall& c) {
  if (!c.in[2]) return sum_of_taps(taps_of(c.node, c.in[0], c.in[1]));
  Ints column(static_cast<std::size_t>(c.node.type.shape.rank()) - 1, 1);
  column[0] = c.node.type.shape[1];
  return ops::add(without_bias(c), ops::reshape(c.in[2], column));
}

// MIL wants a constant bias, and constant weights if the kernel is dilated.
bool conv_in_mil(const Graph& graph, const Node& node) {
  const bool dilated = std::ranges::any_of(node.list("dilations"), [](std::int64_t d) { return d > 1; });
  return (!given(node, 2) || is_constant(graph, node, 2)) && (!dilated || is_constant(graph, node, 1));
}

}  // namespace

OpDef conv_op() {
  return {.name = "conv",
          .doc =
              "Convolution over one to three spatial axes.\n\nx (N, C, *in), weight (O, C / groups, "
              "*kernel), bias (O,) -> (N, O, *out). pad_type is \"valid\" (none), \"same\" (out = ceil(in / "
              "stride), an odd element after x), \"same_lower\" (before x) or \"custom\" (pad: two sizes, "
              "before and after, for each spatial axis). Strides and dilations are 1 if not given.",
          .args = {{"x"}, {"weight"}, {"bias", ArgKind::optional}},
          .attrs = {{"strides", AttrKind::integers, Ints{}},
                    {"pad_type", AttrKind::text, std::string("valid")},
                    {"pad", AttrKind::integers, Ints{}},
                    {"dilations", AttrKind::integers, Ints{}},
                    {"groups", AttrKind::integer, std::int64_t{1}}},
          .infer = conv_type,
          .kernel = conv_kernel,
          .gradient = conv_gradient,
          .expand = expand_conv,
          .in_mil = conv_in_mil};
}

}  // namespace orion
