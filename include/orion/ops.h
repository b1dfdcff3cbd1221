// Every op of the table as a C++ function. Generated from the op table; do not edit.
//
// Operands are values of one graph. What each op computes is in its OpDef (src/ops), in
// docs/ops.md and in Python's help(orion_ane.ops.NAME).
#pragma once

#include "orion/graph.h"

namespace orion::ops {

inline Value identity(Value x) {
  return x.owner().add("identity", {x});
}

inline Value relu(Value x) {
  return x.owner().add("relu", {x});
}

inline Value tanh(Value x) {
  return x.owner().add("tanh", {x});
}

inline Value sigmoid(Value x) {
  return x.owner().add("sigmoid", {x});
}

inline Value exp(Value x) {
  return x.owner().add("exp", {x});
}

inline Value erf(Value x) {
  return x.owner().add("erf", {x});
}

inline Value sqrt(Value x) {
  return x.owner().add("sqrt", {x});
}

inline Value neg(Value x) {
  return x.owner().add("neg", {x});
}

inline Value abs(Value x) {
  return x.owner().add("abs", {x});
}

inline Value square(Value x) {
  return x.owner().add("square", {x});
}

inline Value silu(Value x) {
  return x.owner().add("silu", {x});
}

inline Value log(Value x, double epsilon = 1e-45) {
  return x.owner().add("log", {x}, {{"epsilon", epsilon}});
}

inline Value rsqrt(Value x, double epsilon = 1e-12) {
  return x.owner().add("rsqrt", {x}, {{"epsilon", epsilon}});
}

inline Value gelu(Value x, const std::string& mode = "EXACT") {
  return x.owner().add("gelu", {x}, {{"mode", mode}});
}

inline Value cast(Value x, const std::string& dtype) {
  return x.owner().add("cast", {x}, {{"dtype", dtype}});
}

inline Value clip(Value x, double alpha, double beta) {
  return x.owner().add("clip", {x}, {{"alpha", alpha}, {"beta", beta}});
}

inline Value add(Value x, Value y) {
  return x.owner().add("add", {x, y});
}

inline Value sub(Value x, Value y) {
  return x.owner().add("sub", {x, y});
}

inline Value mul(Value x, Value y) {
  return x.owner().add("mul", {x, y});
}

inline Value real_div(Value x, Value y) {
  return x.owner().add("real_div", {x, y});
}

inline Value pow(Value x, Value y) {
  return x.owner().add("pow", {x, y});
}

inline Value maximum(Value x, Value y) {
  return x.owner().add("maximum", {x, y});
}

inline Value minimum(Value x, Value y) {
  return x.owner().add("minimum", {x, y});
}

inline Value equal(Value x, Value y) {
  return x.owner().add("equal", {x, y});
}

inline Value not_equal(Value x, Value y) {
  return x.owner().add("not_equal", {x, y});
}

inline Value less(Value x, Value y) {
  return x.owner().add("less", {x, y});
}

inline Value less_equal(Value x, Value y) {
  return x.owner().add("less_equal", {x, y});
}

inline Value greater(Value x, Value y) {
  return x.owner().add("greater", {x, y});
}

inline Value greater_equal(Value x, Value y) {
  return x.owner().add("greater_equal", {x, y});
}

inline Value select(Value cond, Value a, Value b) {
  return cond.owner().add("select", {cond, a, b});
}

inline Value reduce_sum(Value x, const std::vector<std::int64_t>& axes = {}, bool keep_dims = false) {
  return x.owner().add("reduce_sum", {x}, {{"axes", axes}, {"keep_dims", keep_dims}});
}

inline Value reduce_mean(Value x, const std::vector<std::int64_t>& axes = {}, bool keep_dims = false) {
  return x.owner().add("reduce_mean", {x}, {{"axes", axes}, {"keep_dims", keep_dims}});
}

inline Value reduce_max(Value x, const std::vector<std::int64_t>& axes = {}, bool keep_dims = false) {
  return x.owner().add("reduce_max", {x}, {{"axes", axes}, {"keep_dims", keep_dims}});
}

inline Value softmax(Value x, std::int64_t axis = -1) {
  return x.owner().add("softmax", {x}, {{"axis", axis}});
}

inline Value matmul(Value x, Value y, bool transpose_x = false, bool transpose_y = false) {
  return x.owner().add("matmul", {x, y}, {{"transpose_x", transpose_x}, {"transpose_y", transpose_y}});
}

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

inline Value reshape(Value x, const std::vector<std::int64_t>& shape) {
  return x.owner().add("reshape", {x}, {{"shape", shape}});
}

inline Value transpose(Value x, const std::vector<std::int64_t>& perm) {
  return x.owner().add("transpose", {x}, {{"perm", perm}});
}

inline Value broadcast_to(Value x, const std::vector<std::int64_t>& shape) {
  return x.owner().add("broadcast_to", {x}, {{"shape", shape}});
}

inline Value concat(const std::vector<Value>& values, std::int64_t axis, bool interleave = false) {
  return values.at(0).owner().add("concat", values, {{"axis", axis}, {"interleave", interleave}});
}

inline Value pad(Value x, const std::vector<std::int64_t>& pad, const std::string& mode = "constant",
                 double constant_val = 0.0) {
  return x.owner().add("pad", {x}, {{"pad", pad}, {"mode", mode}, {"constant_val", constant_val}});
}

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

inline Value gather(Value x, Value indices, std::int64_t axis = 0, std::int64_t batch_dims = 0,
                    bool validate_indices = false) {
  return x.owner().add("gather", {x, indices},
                       {{"axis", axis}, {"batch_dims", batch_dims}, {"validate_indices", validate_indices}});
}

inline Value scatter(Value data, Value indices, Value updates, std::int64_t axis = 0,
                     const std::string& mode = "add", bool validate_indices = false) {
  return data.owner().add("scatter", {data, indices, updates},
                          {{"axis", axis}, {"mode", mode}, {"validate_indices", validate_indices}});
}

inline Value layer_norm(Value x, const std::vector<std::int64_t>& axes, Value gamma = {}, Value beta = {},
                        double epsilon = 1e-05) {
  return x.owner().add("layer_norm", {x, gamma, beta}, {{"axes", axes}, {"epsilon", epsilon}});
}

inline Value rms_norm(Value x, const std::vector<std::int64_t>& axes, Value gamma = {},
                      double epsilon = 1e-05) {
  return x.owner().add("rms_norm", {x, gamma}, {{"axes", axes}, {"epsilon", epsilon}});
}

inline Value rope(Value x, Value cos, Value sin, bool interleaved = false) {
  return x.owner().add("rope", {x, cos, sin}, {{"interleaved", interleaved}});
}

inline Value scaled_dot_product_attention(Value query, Value key, Value value, Value attn_mask = {},
                                          Value position = {}, bool causal = false, double scale = 0.0) {
  return query.owner().add("scaled_dot_product_attention", {query, key, value, attn_mask, position},
                           {{"causal", causal}, {"scale", scale}});
}

inline Value cache_update(Value cache, Value update, Value position) {
  return cache.owner().add("cache_update", {cache, update, position});
}

inline Value cross_entropy(Value logits, Value labels, std::int64_t ignore_index = -100) {
  return logits.owner().add("cross_entropy", {logits, labels}, {{"ignore_index", ignore_index}});
}

}  // namespace orion::ops
