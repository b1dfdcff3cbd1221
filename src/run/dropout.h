// Masks of dropout: a function of where in a run an element is, so that a resumed run draws the same.
#pragma once

#include "orion/train.h"

namespace orion {

/// The micro-batch that masks are for.
struct MaskPlace {
  std::int64_t step = 0;         // steps taken before
  std::int64_t micro_batch = 0;  // of the step, on this process
  std::uint64_t module = 0;      // of the model, counted in the order of use
};

/// Fills a mask (B S, C) or, as columns, (1, C, 1, B S), fp32 or fp16: 0 with the probability given, else
/// what keeps the mean, 1 / (1 - p).
///
/// Whether channel c of token s is 0 follows from the step, its window's number among all windows of the
/// step, the module, and s C + c: neither from how windows are shared out over micro-batches and processes,
/// nor from the layout.
void draw_mask(const Tensor& mask, std::int64_t batch, const Dropout& dropout, const MaskPlace& place);
/// All ones, as for evaluation.
void open_mask(const Tensor& mask);

}  // namespace orion
