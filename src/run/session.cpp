#include "orion/error.h"
#include "orion/generate.h"

#include <algorithm>

namespace orion {
namespace {

// The part of a cache (B, G, S, D) that belongs to one sequence: (1, G, S, D).
Tensor slice_of(const Tensor& cache, std::int64_t sequence) {
  const Shape& shape = cache.shape();
  const TensorType type{cache.dtype(), {1, shape[1], shape[2], shape[3]}};
  return Tensor::view(type, cache.data() + type.bytes() * static_cast<std::size_t>(sequence));
}

}  // namespace

Session::Session(std::shared_ptr<TextModel> model, std::int64_t batch, std::int64_t rows,
                 std::vector<AdapterInputs> adapters)
    : model_(std::move(model)), batch_(batch), rows_(rows), adapters_(std::move(adapters)) {
  const ModelConfig& config = model_->config();
  if (batch < 1) fail("session: a batch of ", batch, ", at least 1 is needed");
  if (rows < 1 || rows > config.context)
    fail("session: ", rows, " rows, from 1 to the context's ", config.context, " are possible");
  if (!adapters_.empty() && static_cast<std::int64_t>(adapters_.size()) != batch)
    fail("session: ", adapters_.size(), " adapters for a batch of ", batch);
  const TensorType cache = cache_type(config, batch, rows, model_->dtype());
  const auto count = static_cast<std::size_t>(2 * config.layers);
  memory_ = model_->cache_memory(count * cache.bytes());
  const auto owner = std::make_shared<const Tensor>(memory_);
  for (std::size_t i = 0; i < count; ++i)
    caches_.push_back(Tensor::view(cache, memory_.data() + i * cache.bytes(), owner));
  ids_ = Tensor({DType::int32, {batch, 1}});
  positions_ = Tensor({DType::int32, {batch}});
  logits_ = Tensor({DType::fp32, {batch, config.vocab}});
}

Session::~Session() {
  model_->keep_cache_memory(std::move(memory_));
}

Tensor Session::read(std::int64_t sequence, std::span<const std::int32_t> ids, std::int64_t position) {
  if (sequence < 0 || sequence >= batch_) fail("session: sequence ", sequence, " of a batch of ", batch_);
  model_->check_ids(ids, "session");
  check_rows(position, ids.size());
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const std::int32_t start[] = {static_cast<std::int32_t>(position)};
  const Tensor logits({DType::fp32, {1, model_->config().vocab}});
  std::vector<Tensor> caches;
  for (const Tensor& cache : caches_) caches.push_back(slice_of(cache, sequence));
  const std::span<const AdapterInputs> adapters = adapters_;
  model_->extend(
      {.ids = Tensor::from_ints(ids).reshaped({1, tokens}),
       .positions = Tensor::from_ints(start),
       .caches = caches,
       .logits = logits,
       .adapters = adapters.empty() ? adapters : adapters.subspan(static_cast<std::size_t>(sequence), 1)});
  return logits.reshaped({model_->config().vocab});
}

Tensor Session::step(std::span<const std::int32_t> ids, std::span<const std::int32_t> positions) {
  if (ids.size() != static_cast<std::size_t>(batch_) || positions.size() != ids.size())
    fail("session: ", ids.size(), " ids and ", positions.size(), " positions for a batch of ", batch_);
  model_->check_vocabulary(ids, "session");
  for (const std::int32_t position : positions) check_rows(position, 1);
  std::ranges::copy(ids, ids_.as<std::int32_t>().begin());
  std::ranges::copy(positions, positions_.as<std::int32_t>().begin());
  model_->extend(
      {.ids = ids_, .positions = positions_, .caches = caches_, .logits = logits_, .adapters = adapters_});
  return logits_;
}

void Session::check_rows(std::int64_t position, std::size_t count) const {
  if (position < 0 || static_cast<std::int64_t>(count) > rows_ - position)
    fail("session: ", count, " tokens at position ", position, " do not fit its ", rows_, " rows");
}

}  // namespace orion
