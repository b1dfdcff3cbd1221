// Programs whose weights change, on the device of an engine.
#pragma once

#include "ane/device.h"
#include "engine_sample.h"

namespace orion::test {

inline constexpr std::int64_t sample_channels = 64, sample_columns = 384;
inline const TensorType sample_type{DType::fp16, {1, sample_channels, 1, sample_columns}};
inline const TensorType sample_weight_type{DType::fp16, {sample_channels, sample_channels, 1, 1}};

inline std::string sample_weight_name(int layer) {
  return "layer." + std::to_string(layer) + ".weight";
}

/// 1x1 convolutions one after the other, a weight each.
inline Graph sample_chain(int layers) {
  Graph g("main");
  Value x = g.input("x", sample_type);
  for (int i = 0; i < layers; ++i) x = ops::conv(x, g.weight(sample_weight_name(i), sample_weight_type));
  g.output("y", x);
  return g;
}

/// Rows sum up to about one, values differ by layer and version: outputs stay in fp16's range and never
/// repeat.
inline Tensor sample_weight(int layer, int version) {
  const Tensor wide(TensorType{DType::fp32, sample_weight_type.shape});
  auto state = static_cast<std::uint32_t>(layer * 1000 + version + 1);
  for (float& value : wide.as<float>()) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8U) / 16777216.0F / 32.0F;
  }
  return convert(wide, DType::fp16);
}

inline TensorMap sample_weights(int layers, int version) {
  TensorMap weights;
  for (int i = 0; i < layers; ++i) weights[sample_weight_name(i)] = sample_weight(i, version);
  return weights;
}

/// The output for an input of ones.
inline Tensor sample_output(Program& program) {
  const Tensor ones(TensorType{DType::fp32, sample_type.shape});
  std::ranges::fill(ones.as<float>(), 1.0F);
  const Tensor y(sample_type);
  program.bind("x", convert(ones, DType::fp16));
  program.bind("y", y);
  program.run();
  return y;
}

/// What a device that has seen nothing else gives.
inline Tensor fresh_output(int layers, const TensorMap& weights, const ane::Profile& profile) {
  ane::AneDevice device("fresh", sim::open_simulator(profile), profile, ane::Update::recompile);
  return sample_output(*device.compile(sample_chain(layers), device.load(weights)));
}

}  // namespace orion::test
