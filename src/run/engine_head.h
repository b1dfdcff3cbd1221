// The last norm and the projection to the vocabulary on an engine, in as many programs as its limits ask for.
#pragma once

#include "orion/segments.h"

namespace orion {

/// The head in parts of equal size (the last may be smaller), as few as `limits` let be. DeviceError if a
/// single token's logits are too much.
std::vector<SegmentShape> head_parts(const ModelConfig& config, const ProgramLimits& limits);

class EngineHead {
 public:
  /// `program` compiles one part.
  EngineHead(const ModelConfig& config, const ProgramLimits& limits,
             const std::function<std::unique_ptr<Program>(const SegmentShape&)>& program);

  /// rows fp16 (B, C) -> logits fp32 (B, V)
  void predict(const Tensor& rows, const Tensor& logits);

 private:
  struct Part {
    std::int64_t first = 0;
    std::unique_ptr<Program> program;
  };

  std::vector<Part> parts_;
  Tensor x_;  // (1, C, 1, S), read by every part
};

}  // namespace orion
