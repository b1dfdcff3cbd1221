// All kernels for one vector type.
#pragma once

#include "cpu/kernels_attention.h"
#include "cpu/kernels_matmul.h"
#include "cpu/kernels_panels.h"
#include "cpu/kernels_rows.h"

namespace orion::cpu {

template <class V>
constexpr Kernels make_kernels(std::string_view name) {
  return {
      .name = name,
      .tile_rows = V::tile_rows,
      .linear_vectors = linear_vectors<V>,
      .pack_rows = pack_rows<V>,
      .multiply = multiply<V>,
      .store = store_part<V>,
      .attend = attend<V>,
      .attend_scratch = attend_scratch<V>,
      .attend_few = attend_few<V>,
      .pack_panels = pack_panels<V>,
      .widen = widen<V>,
      .narrow = narrow<V>,
      .layer_norm = layer_norm<V>,
      .rms_norm = rms_norm<V>,
      .softmax = softmax<V>,
      .argmax = argmax<V>,
      .rope = rope<V>,
      .unary = unary<V>,
      .binary = binary<V>,
  };
}

}  // namespace orion::cpu
