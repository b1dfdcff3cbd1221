// Every op of the table as a C++ function. Written by docs/generate.py; do not edit.
//
// Operands are values of one graph. What each op computes in full is in docs/ops.md.
#pragma once

#include "orion/graph.h"

namespace orion::ops {

/// x itself, under another name.
inline Value identity(Value x) {
  return x.owner().add("identity", {x});
}

/// x in another element type: "fp16", "fp32", "int32" or "bool".
inline Value cast(Value x, const std::string& dtype) {
  return x.owner().add("cast", {x}, {{"dtype", dtype}});
}

/// max(x, 0).
inline Value relu(Value x) {
  return x.owner().add("relu", {x});
}

/// Hyperbolic tangent.
inline Value tanh(Value x) {
  return x.owner().add("tanh", {x});
}

/// 1 / (1 + exp(-x)).
inline Value sigmoid(Value x) {
  return x.owner().add("sigmoid", {x});
}

/// e to the power x.
inline Value exp(Value x) {
  return x.owner().add("exp", {x});
}

/// Natural logarithm of x + epsilon.
inline Value log(Value x, double epsilon = 1e-45) {
  return x.owner().add("log", {x}, {{"epsilon", epsilon}});
}

/// The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
inline Value erf(Value x) {
  return x.owner().add("erf", {x});
}

/// Square root; NaN below zero.
inline Value sqrt(Value x) {
  return x.owner().add("sqrt", {x});
}

/// 1 / sqrt(x + epsilon).
inline Value rsqrt(Value x, double epsilon = 1e-12) {
  return x.owner().add("rsqrt", {x}, {{"epsilon", epsilon}});
}

/// -x.
inline Value neg(Value x) {
  return x.owner().add("neg", {x});
}

/// |x|.
inline Value abs(Value x) {
  return x.owner().add("abs", {x});
}

/// x * x.
inline Value square(Value x) {
  return x.owner().add("square", {x});
}

/// x limited to [alpha, beta]. NaN stays NaN.
inline Value clip(Value x, double alpha, double beta) {
  return x.owner().add("clip", {x}, {{"alpha", alpha}, {"beta", beta}});
}

/// x + y, broadcasting. int32 wraps.
inline Value add(Value x, Value y) {
  return x.owner().add("add", {x, y});
}

/// x - y, broadcasting. int32 wraps.
inline Value sub(Value x, Value y) {
  return x.owner().add("sub", {x, y});
}

/// x * y, broadcasting. int32 wraps.
inline Value mul(Value x, Value y) {
  return x.owner().add("mul", {x, y});
}

/// x / y, broadcasting, floats only.
inline Value real_div(Value x, Value y) {
  return x.owner().add("real_div", {x, y});
}

/// x to the power y, broadcasting. A constant y gets no gradient.
inline Value pow(Value x, Value y) {
  return x.owner().add("pow", {x, y});
}

/// The larger of x and y, broadcasting; NaN if either is NaN.
inline Value maximum(Value x, Value y) {
  return x.owner().add("maximum", {x, y});
}

/// The smaller of x and y, broadcasting; NaN if either is NaN.
inline Value minimum(Value x, Value y) {
  return x.owner().add("minimum", {x, y});
}

/// x == y as bool, broadcasting.
inline Value equal(Value x, Value y) {
  return x.owner().add("equal", {x, y});
}

/// x != y as bool, broadcasting.
inline Value not_equal(Value x, Value y) {
  return x.owner().add("not_equal", {x, y});
}

/// x < y as bool, broadcasting.
inline Value less(Value x, Value y) {
  return x.owner().add("less", {x, y});
}

/// x <= y as bool, broadcasting.
inline Value less_equal(Value x, Value y) {
  return x.owner().add("less_equal", {x, y});
}

/// x > y as bool, broadcasting.
inline Value greater(Value x, Value y) {
  return x.owner().add("greater", {x, y});
}

/// x >= y as bool, broadcasting.
inline Value greater_equal(Value x, Value y) {
  return x.owner().add("greater_equal", {x, y});
}

/// a where cond is true, b elsewhere, broadcasting. A NaN that is not chosen does not matter.
inline Value select(Value cond, Value a, Value b) {
  return cond.owner().add("select", {cond, a, b});
}

/// Sum over axes; over all of them if none are given.
inline Value reduce_sum(Value x, const std::vector<std::int64_t>& axes = {}, bool keep_dims = false) {
  return x.owner().add("reduce_sum", {x}, {{"axes", axes}, {"keep_dims", keep_dims}});
}

/// Mean over axes; over all of them if none are given.
inline Value reduce_mean(Value x, const std::vector<std::int64_t>& axes = {}, bool keep_dims = false) {
  return x.owner().add("reduce_mean", {x}, {{"axes", axes}, {"keep_dims", keep_dims}});
}

/// Largest element over axes; over all of them if none are given. NaN if any is NaN.
inline Value reduce_max(Value x, const std::vector<std::int64_t>& axes = {}, bool keep_dims = false) {
  return x.owner().add("reduce_max", {x}, {{"axes", axes}, {"keep_dims", keep_dims}});
}

/// exp(x) / sum(exp(x)) along an axis, computed as exp(x - max(x)).
inline Value softmax(Value x, std::int64_t axis = -1) {
  return x.owner().add("softmax", {x}, {{"axis", axis}});
}

/// What comes back through softmax, y being its result: y * (dy - sum(y * dy)) along the axis.
inline Value softmax_gradient(Value y, Value dy, std::int64_t axis = -1) {
  return y.owner().add("softmax_gradient", {y, dy}, {{"axis", axis}});
}

/// Matrix product x @ y over the last two axes; leading axes broadcast.
inline Value matmul(Value x, Value y, bool transpose_x = false, bool transpose_y = false) {
  return x.owner().add("matmul", {x, y}, {{"transpose_x", transpose_x}, {"transpose_y", transpose_y}});
}

/// Convolution over one to three spatial axes.
inline Value conv(Value x, Value weight, Value bias = {}, const std::vector<std::int64_t>& strides = {},
                  const std::string& pad_type = "valid", const std::vector<std::int64_t>& pad = {},
                  const std::vector<std::int64_t>& dilations = {}, std::int64_t groups = 1) {
  return x.owner().add("conv", {x, weight, bias},
                       {{"strides", strides},
                        {"pad_type", pad_type},
                        {"pad", pad},
                        {"dilations", dilations},
                        {"groups", groups}});
}

/// The elements of x in row-major order under another shape.
inline Value reshape(Value x, const std::vector<std::int64_t>& shape) {
  return x.owner().add("reshape", {x}, {{"shape", shape}});
}

/// x with its axes in the order perm: axis i of the result is axis perm[i] of x.
inline Value transpose(Value x, const std::vector<std::int64_t>& perm) {
  return x.owner().add("transpose", {x}, {{"perm", perm}});
}

/// x repeated along its axes of size 1, and along new leading axes, to a shape.
inline Value broadcast_to(Value x, const std::vector<std::int64_t>& shape) {
  return x.owner().add("broadcast_to", {x}, {{"shape", shape}});
}

/// Tensors joined along an axis.
inline Value concat(const std::vector<Value>& values, std::int64_t axis, bool interleave = false) {
  return values.at(0).owner().add("concat", values, {{"axis", axis}, {"interleave", interleave}});
}

/// x with constant_val around it.
inline Value pad(Value x, const std::vector<std::int64_t>& pad, const std::string& mode = "constant",
                 double constant_val = 0.0) {
  return x.owner().add("pad", {x}, {{"pad", pad}, {"mode", mode}, {"constant_val", constant_val}});
}

/// x[begin:end:stride] on every axis, as in NumPy.
inline Value slice_by_index(Value x, const std::vector<std::int64_t>& begin,
                            const std::vector<std::int64_t>& end,
                            const std::vector<std::int64_t>& stride = {},
                            const std::vector<std::int64_t>& begin_mask = {},
                            const std::vector<std::int64_t>& end_mask = {},
                            const std::vector<std::int64_t>& squeeze_mask = {}) {
  return x.owner().add("slice_by_index", {x},
                       {{"begin", begin},
                        {"end", end},
                        {"stride", stride},
                        {"begin_mask", begin_mask},
                        {"end_mask", end_mask},
                        {"squeeze_mask", squeeze_mask}});
}

/// Elements of x picked along an axis by indices.
inline Value gather(Value x, Value indices, std::int64_t axis = 0, std::int64_t batch_dims = 0,
                    bool validate_indices = false) {
  return x.owner().add("gather", {x, indices},
                       {{"axis", axis}, {"batch_dims", batch_dims}, {"validate_indices", validate_indices}});
}

/// data with updates combined into it at places along an axis.
inline Value scatter(Value data, Value indices, Value updates, std::int64_t axis = 0,
                     const std::string& mode = "add", bool validate_indices = false) {
  return data.owner().add("scatter", {data, indices, updates},
                          {{"axis", axis}, {"mode", mode}, {"validate_indices", validate_indices}});
}

/// x with the slice x[begin:end:stride] replaced by update.
inline Value slice_update(Value x, Value update, Value begin, Value end,
                          const std::vector<std::int64_t>& stride = {},
                          const std::vector<std::int64_t>& begin_mask = {},
                          const std::vector<std::int64_t>& end_mask = {},
                          const std::vector<std::int64_t>& squeeze_mask = {}) {
  return x.owner().add("slice_update", {x, update, begin, end},
                       {{"stride", stride},
                        {"begin_mask", begin_mask},
                        {"end_mask", end_mask},
                        {"squeeze_mask", squeeze_mask}});
}

/// x * sigmoid(x), also called swish.
inline Value silu(Value x) {
  return x.owner().add("silu", {x});
}

/// x times the probability that a normal variable is below x.
inline Value gelu(Value x, const std::string& mode = "EXACT") {
  return x.owner().add("gelu", {x}, {{"mode", mode}});
}

/// What comes back through silu: dy times its derivative at x.
inline Value silu_gradient(Value x, Value dy) {
  return x.owner().add("silu_gradient", {x, dy});
}

/// What comes back through gelu of that mode: dy times its derivative at x.
inline Value gelu_gradient(Value x, Value dy, const std::string& mode = "EXACT") {
  return x.owner().add("gelu_gradient", {x, dy}, {{"mode", mode}});
}

/// (x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta over axes (all if none are given).
inline Value layer_norm(Value x, const std::vector<std::int64_t>& axes, Value gamma = {}, Value beta = {},
                        double epsilon = 1e-05) {
  return x.owner().add("layer_norm", {x, gamma, beta}, {{"axes", axes}, {"epsilon", epsilon}});
}

/// x / sqrt(mean(x^2) + epsilon) * gamma over axes (all if none are given).
inline Value rms_norm(Value x, const std::vector<std::int64_t>& axes, Value gamma = {},
                      double epsilon = 1e-05) {
  return x.owner().add("rms_norm", {x, gamma}, {{"axes", axes}, {"epsilon", epsilon}});
}

/// What comes back through layer_norm: dy by its derivative at x.
inline Value layer_norm_gradient(Value x, Value dy, const std::vector<std::int64_t>& axes, Value gamma = {},
                                 double epsilon = 1e-05) {
  return x.owner().add("layer_norm_gradient", {x, dy, gamma}, {{"axes", axes}, {"epsilon", epsilon}});
}

/// What comes back through rms_norm: dy by its derivative at x.
inline Value rms_norm_gradient(Value x, Value dy, const std::vector<std::int64_t>& axes, Value gamma = {},
                               double epsilon = 1e-05) {
  return x.owner().add("rms_norm_gradient", {x, dy, gamma}, {{"axes", axes}, {"epsilon", epsilon}});
}

/// Rotary position embedding: each pair (x1, x2) of the last axis becomes (x1 cos - x2 sin, x2 cos + x1 sin).
inline Value rope(Value x, Value cos, Value sin, bool interleaved = false) {
  return x.owner().add("rope", {x, cos, sin}, {{"interleaved", interleaved}});
}

/// softmax(query key^T * scale + mask) value for each head.
inline Value scaled_dot_product_attention(Value query, Value key, Value value, Value attn_mask = {},
                                          Value position = {}, bool causal = false, double scale = 0.0) {
  return query.owner().add("scaled_dot_product_attention", {query, key, value, attn_mask, position},
                           {{"causal", causal}, {"scale", scale}});
}

/// What comes back through scaled_dot_product_attention to its query, key or value.
inline Value scaled_dot_product_attention_gradient(Value query, Value key, Value value, Value dy,
                                                   const std::string& of, bool causal = false,
                                                   double scale = 0.0) {
  return query.owner().add("scaled_dot_product_attention_gradient", {query, key, value, dy},
                           {{"of", of}, {"causal", causal}, {"scale", scale}});
}

/// A key/value cache with new rows written into it.
inline Value cache_update(Value cache, Value update, Value position) {
  return cache.owner().add("cache_update", {cache, update, position});
}

/// log(sum(exp(logits))) - logits[label] for each row.
inline Value cross_entropy(Value logits, Value labels, std::int64_t ignore_index = -100) {
  return logits.owner().add("cross_entropy", {logits, labels}, {{"ignore_index", ignore_index}});
}

/// What comes back through cross_entropy: (softmax(logits) - one_hot(labels)) * dy for each row.
inline Value cross_entropy_gradient(Value logits, Value labels, Value dy, std::int64_t ignore_index = -100) {
  return logits.owner().add("cross_entropy_gradient", {logits, labels, dy}, {{"ignore_index", ignore_index}});
}

}  // namespace orion::ops
