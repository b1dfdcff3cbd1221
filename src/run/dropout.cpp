#include "run/dropout.h"

#include "base/f16.h"
#include "base/split_mix.h"
#include "base/threads.h"

#include <algorithm>
#include <vector>

namespace orion {
namespace {

// A mask's elements in memory are `outer` runs of `inner`.
struct MaskShape {
  bool columns;
  std::int64_t tokens, channels;

  explicit MaskShape(const Shape& shape)
      : columns(shape.rank() == 4), tokens(columns ? shape[3] : shape[0]), channels(shape[1]) {}
  std::int64_t outer() const { return columns ? channels : tokens; }
  std::int64_t inner() const { return columns ? tokens : channels; }
};

// Of each window of the micro-batch, where its sequence of numbers begins.
std::vector<std::uint64_t> keys_of(std::int64_t batch, const Dropout& dropout, const MaskPlace& place) {
  const std::int64_t first = (place.micro_batch * dropout.processes + dropout.process) * batch;
  std::vector<std::uint64_t> keys;
  for (std::int64_t window = first; window < first + batch; ++window) {
    std::uint64_t key = dropout.seed;
    for (const std::uint64_t number :
         {static_cast<std::uint64_t>(place.step), static_cast<std::uint64_t>(window), place.module})
      key = split_mix_at(key + number, 0);
    keys.push_back(key);
  }
  return keys;
}

template <class T>
void fill(const Tensor& mask, std::span<const std::uint64_t> keys, std::uint64_t threshold, T kept) {
  const MaskShape shape(mask.shape());
  const std::int64_t window = shape.tokens / std::ssize(keys);
  T* const data = mask.as<T>().data();
  const auto value = [&](std::int64_t token, std::int64_t channel) {
    const auto place = static_cast<std::uint64_t>(token % window * shape.channels + channel);
    const std::uint64_t key = keys[static_cast<std::size_t>(token / window)];
    return split_mix_at(key, place) < threshold ? T{} : kept;
  };
  shared_pool().split(shape.outer(), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o)
      for (std::int64_t i = 0; i < shape.inner(); ++i)
        data[o * shape.inner() + i] = shape.columns ? value(i, o) : value(o, i);
  });
}

}  // namespace

void draw_mask(const Tensor& mask, std::int64_t batch, const Dropout& dropout, const MaskPlace& place) {
  const std::vector<std::uint64_t> keys = keys_of(batch, dropout, place);
  const auto threshold = static_cast<std::uint64_t>(dropout.probability * 0x1p64);
  const auto kept = static_cast<float>(1.0 / (1.0 - dropout.probability));
  if (mask.dtype() == DType::fp16)
    fill<std::uint16_t>(mask, keys, threshold, float_to_half(kept));
  else
    fill<float>(mask, keys, threshold, kept);
}

void open_mask(const Tensor& mask) {
  if (mask.dtype() == DType::fp16)
    std::ranges::fill(mask.as<std::uint16_t>(), float_to_half(1.0F));
  else
    std::ranges::fill(mask.as<float>(), 1.0F);
}

}  // namespace orion
