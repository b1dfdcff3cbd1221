#include "orion/dataset.h"

#include "base/sha256.h"
#include "orion/error.h"
#include "run/permutation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace orion {
namespace {

constexpr std::int64_t any_id = std::int64_t{1} << 31;

void check(const DatasetOptions& options) {
  constexpr std::int64_t longest = std::numeric_limits<std::int32_t>::max();
  if (options.sequence < 1 || options.sequence > longest)
    fail("dataset: sequence is ", options.sequence, ", at least 1 is needed");
  if (!(options.validation >= 0.0 && options.validation < 1.0))
    fail("dataset: validation is ", options.validation, ", a share from 0 to below 1 is needed");
  if (options.vocab < 0) fail("dataset: vocab is ", options.vocab, ", at least 0 is needed");
  if (options.ranks < 1 || options.rank < 0 || options.rank >= options.ranks)
    fail("dataset: rank ", options.rank, " of ", options.ranks,
         ", from 0 to below the number of ranks is needed");
}

std::int64_t checked_vocab(const TokenFile& file, std::int64_t wanted) {
  const std::int64_t stated = file.facts() ? file.facts()->vocab : any_id;
  const std::int64_t vocab = wanted > 0 ? wanted : stated;
  file.check_ids(vocab);
  return vocab;
}

std::int64_t count_windows(const TokenFile& file, std::int64_t sequence) {
  const std::int64_t windows = (file.size() - 1) / sequence;
  if (windows < 1)
    fail(file.path().string(), ": ", file.size(), " tokens are fewer than one window of sequence ", sequence,
         " + 1 (use a shorter sequence or more text)");
  return windows;
}

std::int64_t count_validation(const TokenFile& file, std::int64_t windows, double share) {
  if (share == 0.0) return 0;
  const auto count = static_cast<std::int64_t>(std::llround(static_cast<double>(windows) * share));
  if (count < 1 || count >= windows)
    fail(file.path().string(), ": a validation share of ", share, " is ", count, " of ", windows,
         " windows; validation and training need at least one each");
  return count;
}

Batch empty_batch(std::int64_t batch, std::int64_t sequence) {
  if (batch < 1) fail("dataset: a batch of ", batch, ", at least 1 is needed");
  const TensorType type{DType::int32, {batch, sequence}};
  return {Tensor(type), Tensor(type)};
}

std::int64_t checked_batch(const Tensor& ids, const Tensor& targets, std::int64_t sequence) {
  if (ids.type() != targets.type() || ids.dtype() != DType::int32 || ids.shape().rank() != 2 ||
      ids.shape()[1] != sequence)
    fail("dataset: a batch into ", ids.type(), " and ", targets.type(), ", int32 (B, ", sequence,
         ") is needed for both");
  return ids.shape()[0];
}

std::span<std::int32_t> row_of(const Tensor& tensor, std::int64_t row) {
  const auto length = static_cast<std::size_t>(tensor.shape()[1]);
  return tensor.as<std::int32_t>().subspan(static_cast<std::size_t>(row) * length, length);
}

}  // namespace

Dataset::Dataset(std::shared_ptr<const TokenFile> file, DatasetOptions options)
    : file_(std::move(file)), options_(options) {
  check(options_);
  const std::int64_t all = count_windows(*file_, options_.sequence);
  validation_windows_ = count_validation(*file_, all, options_.validation);
  windows_ = all - validation_windows_;
  vocab_ = checked_vocab(*file_, options_.vocab);
}

Batch Dataset::next(std::int64_t batch) {
  Batch filled = empty_batch(batch, options_.sequence);
  next_into(filled.ids, filled.targets);
  return filled;
}

void Dataset::next_into(const Tensor& ids, const Tensor& targets) {
  const std::int64_t batch = checked_batch(ids, targets, options_.sequence);
  for (std::int64_t row = 0; row < batch; ++row)
    copy_window(window_at(moved(options_.rank * batch + row)), ids, targets, row);
  cursor_ = moved(options_.ranks * batch);
}

void Dataset::seek(DataCursor cursor) {
  constexpr std::int64_t last_epoch = std::int64_t{1} << 62;
  if (cursor.epoch < 0 || cursor.epoch > last_epoch || cursor.window < 0 || cursor.window >= windows_)
    fail("dataset: cursor (epoch ", cursor.epoch, ", window ", cursor.window, ") does not exist in ",
         file_->path().string(), " with ", windows_, " windows (other data or another sequence length?)");
  cursor_ = cursor;
}

Batch Dataset::validation(std::int64_t begin, std::int64_t batch) const {
  if (begin < 0 || batch < 1 || batch > validation_windows_ || begin > validation_windows_ - batch)
    fail("dataset: validation windows ", begin, " to ", begin, " + ", batch, " of ", validation_windows_,
         " do not exist");
  Batch filled = empty_batch(batch, options_.sequence);
  for (std::int64_t row = 0; row < batch; ++row)
    copy_window(windows_ + begin + row, filled.ids, filled.targets, row);
  return filled;
}

std::string Dataset::hash() const {
  return sha256_hex(str("orion dataset 1\ntokens ", file_->hash(), "\nsequence ", options_.sequence,
                        "\nwindows ", windows_, "\nshuffle ", options_.shuffle, "\nseed ", options_.seed,
                        '\n'));
}

std::int64_t Dataset::window_at(DataCursor cursor) const {
  if (!options_.shuffle) return cursor.window;
  return Permutation(windows_, options_.seed, static_cast<std::uint64_t>(cursor.epoch))(cursor.window);
}

// `by` is at most the ranks' rows of one batch, far from overflow.
DataCursor Dataset::moved(std::int64_t by) const {
  const std::int64_t window = cursor_.window + by;
  return {cursor_.epoch + window / windows_, window % windows_};
}

// All ids were checked at the start; somebody may have written into the file since.
void Dataset::check_unchanged(std::span<const std::int32_t> ids) const {
  const std::int32_t most = *std::ranges::max_element(ids);
  if (most >= vocab_)
    fail(file_->path().string(), ": the file has changed since it was opened, and now holds id ", most,
         ", outside the vocabulary of ", vocab_);
}

void Dataset::copy_window(std::int64_t window, const Tensor& ids, const Tensor& targets,
                          std::int64_t row) const {
  const std::int64_t begin = window * options_.sequence;
  for (const auto& [tensor, shift] : {std::pair(&ids, 0), std::pair(&targets, 1)}) {
    const std::span<std::int32_t> into = row_of(*tensor, row);
    file_->copy(begin + shift, into);
    check_unchanged(into);
  }
}

}  // namespace orion
