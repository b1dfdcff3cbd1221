#include "run/engine_head.h"

#include "orion/error.h"
#include "run/planes.h"

#include <algorithm>

namespace orion {
namespace {

// Engines widen ports to up to this many columns.
constexpr std::int64_t port_columns = 32;

// Tokens whose weights and logits are within the limits, beside x and its norm.
std::int64_t most_tokens(const ModelConfig& config, const ProgramLimits& limits) {
  const std::int64_t half = 2;
  const std::int64_t weights = half * config.width;  // of one token
  const std::int64_t working = weights + half * port_columns;
  const std::int64_t beside = 2 * half * config.width * port_columns;
  return std::min({config.vocab, limits.channels, (limits.weight_bytes - 2 * weights) / weights,
                   (limits.working_bytes - beside) / working});
}

}  // namespace

std::vector<SegmentShape> head_parts(const ModelConfig& config, const ProgramLimits& limits) {
  const std::int64_t most = most_tokens(config, limits);
  if (most < 1)
    throw DeviceError(str("head: a model ", config.width, " wide leaves no room for logits in a program of ",
                          limits.working_bytes, " bytes; keep the head on the host"));
  const std::int64_t count = (config.vocab + most - 1) / most;
  const std::int64_t size = (config.vocab + count - 1) / count;
  std::vector<SegmentShape> parts;
  for (std::int64_t first = 0; first < config.vocab; first += size)
    parts.push_back({.kind = SegmentKind::head,
                     .tokens = decode_columns,
                     .first = first,
                     .count = std::min(size, config.vocab - first)});
  return parts;
}

EngineHead::EngineHead(const ModelConfig& config, const ProgramLimits& limits,
                       const std::function<std::unique_ptr<Program>(const SegmentShape&)>& program)
    : x_({DType::fp16, {1, config.width, 1, decode_columns}}) {
  for (const SegmentShape& part : head_parts(config, limits)) {
    parts_.push_back({part.first, program(part)});
    parts_.back().program->bind("x", x_);
  }
}

void EngineHead::predict(const Tensor& rows, const Tensor& logits) {
  for (std::int64_t row = 0; row < rows.shape()[0]; row += decode_columns) {
    const std::int64_t count = std::min(decode_columns, rows.shape()[0] - row);
    write_columns(rows, row, count, x_);
    for (const Part& part : parts_) {
      part.program->run();
      store_logits(part.program->buffer("logits"), count, logits, row, part.first);
    }
  }
}

}  // namespace orion
