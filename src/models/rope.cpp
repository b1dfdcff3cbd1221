#include "models/rope.h"

#include "orion/error.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace orion {
namespace {

constexpr double default_theta = 10000.0;

Rope::Scaling scaling_named(const ConfigReader& config, std::string_view key, std::string_view name) {
  if (name == "default") return Rope::Scaling::none;
  if (name == "linear") return Rope::Scaling::linear;
  if (name == "llama3") return Rope::Scaling::llama3;
  config.unsupported(key, name, "default, linear, llama3");
}

void refuse_partial(const ConfigReader& config, const std::string& key) {
  if (config.positive_or(key, 1.0) != 1.0) config.unsupported(key, str(config.positive(key)), "1");
}

// The keys of one object, `rope_parameters` or `rope_scaling`.
void read_scaling(const ConfigReader& config, const std::string& object, std::int64_t context, Rope& rope) {
  const auto key = [&](std::string_view name) { return str(object, '.', name); };
  refuse_partial(config, key("partial_rotary_factor"));
  const std::string type_key = config.has(key("rope_type")) ? key("rope_type") : key("type");
  rope.theta = config.positive_or(key("rope_theta"), rope.theta);
  rope.scaling = scaling_named(config, type_key, config.text_or(type_key, "default"));
  if (rope.scaling == Rope::Scaling::none) return;
  rope.factor = config.positive(key("factor"));
  if (rope.scaling == Rope::Scaling::linear) return;
  rope.low_freq_factor = config.positive(key("low_freq_factor"));
  rope.high_freq_factor = config.positive(key("high_freq_factor"));
  rope.original_context =
      config.positive_or(key("original_max_position_embeddings"), static_cast<double>(context));
  if (rope.high_freq_factor <= rope.low_freq_factor)
    fail("config: ", key("high_freq_factor"), " is ", rope.high_freq_factor, ", more than low_freq_factor's ",
         rope.low_freq_factor, " is needed");
}

// Radians per position of pair `i`.
double frequency(const Rope& rope, std::int64_t i, std::int64_t head_dim) {
  const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
  const double plain = std::pow(rope.theta, exponent);
  if (rope.scaling != Rope::Scaling::llama3) return plain / rope.factor;
  const double turns = rope.original_context * plain / (2.0 * std::numbers::pi);
  const double kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return std::lerp(plain / rope.factor, plain, std::clamp(kept, 0.0, 1.0));
}

}  // namespace

Rope configure_rope(const ConfigReader& config, std::int64_t context) {
  Rope rope;
  rope.interleaved = config.flag_or("rope_interleaved", false);
  rope.theta = config.positive_or("rope_theta", default_theta);
  refuse_partial(config, "partial_rotary_factor");
  const bool old_style = config.has("rope_scaling.rope_type") || config.has("rope_scaling.type");
  read_scaling(config, old_style ? "rope_scaling" : "rope_parameters", context, rope);
  return rope;
}

RopeTables rope_tables(const Rope& rope, std::int64_t positions, std::int64_t head_dim, DType dtype) {
  const std::int64_t pairs = head_dim / 2;
  const TensorType type{DType::fp32, {positions, pairs}};
  const RopeTables tables{Tensor(type), Tensor(type)};
  float* cos = tables.cos.as<float>().data();
  float* sin = tables.sin.as<float>().data();
  for (std::int64_t i = 0; i < pairs; ++i) {
    const double step = frequency(rope, i, head_dim);
    for (std::int64_t position = 0; position < positions; ++position) {
      const double angle = static_cast<double>(position) * step;
      cos[position * pairs + i] = static_cast<float>(std::cos(angle));
      sin[position * pairs + i] = static_cast<float>(std::sin(angle));
    }
  }
  return {convert(tables.cos, dtype), convert(tables.sin, dtype)};
}

}  // namespace orion
