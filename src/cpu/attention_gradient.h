// What comes back through attention, made of matrix products and rows.
#pragma once

#include "cpu/kernels.h"

namespace orion::cpu {

/// With y = softmax(q k^T * scale) v as AttentionCall has it, all fp32, and dy of it: dq, dk and dv, each of
/// the shape of what it is the gradient of; null: not wanted. The weights are computed again, a block of
/// queries at a time. Threads share out the key heads.
struct AttentionGradientCall {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* dy = nullptr;  // (B, H, T, Dv)
  float* dq = nullptr;
  float* dk = nullptr;
  float* dv = nullptr;
  HeadRows q_rows = {}, k_rows = {}, v_rows = {}, dy_rows = {}, dq_rows = {}, dk_rows = {}, dv_rows = {};
  std::int64_t b = 0, h = 0, g = 0, t = 0, s = 0, d = 0, e = 0;  // e: size of a value
  float scale = 1.0F;
  bool bf16 = false;    // operands of products are rounded to bfloat16
  bool causal = false;  // query i sees keys j <= i
};

void attention_gradient(ThreadPool& pool, const AttentionGradientCall& call, std::span<std::byte> scratch);
std::size_t attention_gradient_scratch(const AttentionGradientCall& call, int threads);

}  // namespace orion::cpu
