#include "base/memory.h"
#include "base/threads.h"
#include "orion/adapters.h"
#include "orion/error.h"
#include "orion/model.h"
#include "run/planes.h"

#include <algorithm>
#include <utility>

namespace orion {

TextModel::TextModel() = default;
TextModel::~TextModel() = default;

AdapterSet& TextModel::adapters() {
  std::call_once(adapters_made_, [this] { adapters_ = std::make_unique<AdapterSet>(config(), dtype()); });
  return *adapters_;
}

Tensor TextModel::cache_memory(std::size_t bytes) {
  Tensor block;
  {
    const std::lock_guard lock(kept_mutex_);
    block = std::exchange(kept_, Tensor());
  }
  if (block.empty() || block.bytes() < bytes || block.bytes() / 4 > bytes) return memory_block(bytes);
  constexpr std::int64_t at_once = 1 << 16;
  shared_pool().split(static_cast<std::int64_t>(bytes), at_once, [&](std::int64_t begin, std::int64_t end) {
    std::fill(block.data() + begin, block.data() + end, std::byte{0});
  });
  return block;
}

void TextModel::keep_cache_memory(Tensor block) {
  const std::lock_guard lock(kept_mutex_);
  kept_ = std::move(block);
}

void TextModel::by_adapter(const CacheStep& step, const std::function<void(const CacheStep& part)>& read) {
  const std::int64_t batch = step.ids.shape()[0];
  if (step.adapters.empty()) {
    const std::vector<AdapterInputs> active(static_cast<std::size_t>(batch), adapters().inputs());
    CacheStep whole = step;
    whole.adapters = active;
    return read(whole);
  }
  for (std::int64_t begin = 0, end = 0; begin < batch; begin = end) {
    const auto& adapter = step.adapters[static_cast<std::size_t>(begin)];
    for (end = begin; end < batch && step.adapters[static_cast<std::size_t>(end)] == adapter;) ++end;
    std::vector<Tensor> caches;
    for (const Tensor& cache : step.caches) caches.push_back(first_axis(cache, begin, end - begin));
    read({.ids = first_axis(step.ids, begin, end - begin),
          .positions = first_axis(step.positions, begin, end - begin),
          .caches = caches,
          .logits = first_axis(step.logits, begin, end - begin),
          .adapters =
              step.adapters.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin))});
  }
}

void TextModel::check_ids(std::span<const std::int32_t> ids, std::string_view what) const {
  if (ids.empty()) fail(what, ": no token ids given, at least one is needed");
  if (static_cast<std::int64_t>(ids.size()) > config().context)
    fail(what, ": ", ids.size(), " tokens, the model's context holds ", config().context);
  check_vocabulary(ids, what);
}

void TextModel::check_vocabulary(std::span<const std::int32_t> ids, std::string_view what) const {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= config().vocab)
      fail(what, ": token id ", ids[i], " at index ", i, " is outside the vocabulary of ", config().vocab);
}

}  // namespace orion
