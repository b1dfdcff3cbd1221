// All kernels for one vector type.
#pragma once

#include "cpu/kernels_attention.h"
#include "cpu/kernels_bf16.h"
#include "cpu/kernels_ceiling.h"
#include "cpu/kernels_panels.h"
#include "cpu/kernels_quantised.h"
#include "cpu/kernels_rows.h"
#include "cpu/kernels_training.h"

#include <limits>

namespace orion::cpu {

template <class V>
constexpr Kernels make_kernels(std::string_view name) {
  return {
      .name = name,
      .dots_pairs = V::dots_pairs,
      .multiplies_tiles = V::multiplies_tiles,
      .streams = V::streams,
      .linear_vectors = linear_vectors_of_any_format<V>,
      .pack_vectors = pack_vectors<V>,
      .fp32 = {Fp32Unit<V>::rows, Fp32Unit<V>::packed_row, pack_rows<V>, pack_columns_fp32<V>,
               multiply_fp32<V>},
      .bf16 = {Bf16Unit<V>::rows, Bf16Unit<V>::packed_row, pack_rows_bf16<V>, pack_columns_bf16<V>,
               multiply_bf16<V>},
      .pack_rows_rounded = pack_rows_rounded<V>,
      .store = store_part<V>,
      .multiplies_bytes = V::multiplies_bytes,
      .multiplies_nibbles = V::multiplies_nibbles,
      .most_integer_rows = V::multiplies_tiles ? unit_rows - 1 : std::numeric_limits<std::int64_t>::max(),
      .group_rows = V::group_rows,
      .quantise_rows = quantise_rows<V>,
      .multiply_integers = multiply_integers<V>,
      .attend = attend<V>,
      .attend_scratch = attend_scratch<V>,
      .attend_few = attend_few<V>,
      .pack_panels = pack_panels<V>,
      .pack_panels_quantised = pack_panels_quantised<V>,
      .widen = widen<V>,
      .narrow = narrow<V>,
      .layer_norm = layer_norm<V>,
      .rms_norm = rms_norm<V>,
      .softmax = softmax<V>,
      .layer_norm_gradient = layer_norm_gradient<V>,
      .rms_norm_gradient = rms_norm_gradient<V>,
      .softmax_gradient = softmax_gradient<V>,
      .cross_entropy = cross_entropy<V>,
      .sum_rows = sum_rows<V>,
      .sum_columns = sum_columns<V>,
      .largest_rows = largest_rows<V>,
      .largest_columns = largest_columns<V>,
      .adamw = adamw<V>,
      .square_sum = square_sum<V>,
      .argmax = argmax<V>,
      .rope = rope<V>,
      .unary = unary<V>,
      .binary = binary<V>,
      .multiply_adds = {lanes_of_round<V>, multiply_adds<V>},
      .multiply_adds_bf16 = {products_of_round_bf16<V>, multiply_adds_bf16<V>},
      .multiply_adds_int8 = {products_of_round_int8<V>, multiply_adds_int8<V>},
      .read_stream = read_stream<V>,
  };
}

}  // namespace orion::cpu
