// Training data: batches of windows of a token file, in an order that two integers restore.
#pragma once

#include "orion/tensor.h"
#include "orion/token_file.h"

namespace orion {

struct DatasetOptions {
  /// S: tokens that a row predicts.
  std::int64_t sequence = 256;
  /// Chooses the order of each epoch.
  std::uint64_t seed = 0;
  /// Share of the windows, from the end of the file, that is kept for validation.
  double validation = 0.0;
  /// Every id must be below it. 0: below what Orion's header says, if the file has one.
  std::int64_t vocab = 0;
  /// Whether an epoch takes its windows in a new order. If not, in the file's.
  bool shuffle = true;
  /// This process is `rank` of `ranks` that train together, each with the same batch size: their rows, by
  /// ascending rank, are the rows of one process with a batch `ranks` times as large.
  int rank = 0;
  int ranks = 1;
};

/// Where the next batch comes from: a place in an epoch's order, the same for all ranks.
struct DataCursor {
  std::int64_t epoch = 0;
  std::int64_t window = 0;

  bool operator==(const DataCursor&) const = default;
};

/// int32 (B, S); targets[b][s] is the token that follows ids[b][s].
struct Batch {
  Tensor ids;
  Tensor targets;
};

/// Windows of S + 1 tokens, each S after the one before, so that every token but the first is a target
/// once per epoch. What is left at the end of the file, too short for a window, is not used. A
/// batch that reaches the end of an epoch goes on into the next.
class Dataset {
 public:
  /// Reads the file once to check its ids, and its checksum if it states one.
  Dataset(std::shared_ptr<const TokenFile> file, DatasetOptions options);

  const DatasetOptions& options() const { return options_; }
  const TokenFile& file() const { return *file_; }

  /// Windows of an epoch, for all ranks together.
  std::int64_t windows() const { return windows_; }
  /// The next `batch` windows of this rank; the cursor moves on by `batch` windows of every rank.
  Batch next(std::int64_t batch);
  /// The same into int32 tensors of shape (B, S). After an Error the cursor has not moved.
  void next_into(const Tensor& ids, const Tensor& targets);

  DataCursor cursor() const { return cursor_; }
  /// Error unless this dataset can have been there.
  void seek(DataCursor cursor);

  std::int64_t validation_windows() const { return validation_windows_; }
  /// Validation windows `begin` to `begin + batch` in the file's order, whatever the rank.
  Batch validation(std::int64_t begin, std::int64_t batch) const;

  /// Identifies what a cursor means: tokens, windows and order. Ranks and batch sizes may change.
  std::string hash() const;

 private:
  std::int64_t window_at(DataCursor cursor) const;
  DataCursor moved(std::int64_t by) const;
  void copy_window(std::int64_t window, const Tensor& ids, const Tensor& targets, std::int64_t row) const;
  void check_unchanged(std::span<const std::int32_t> ids) const;

  std::shared_ptr<const TokenFile> file_;
  DatasetOptions options_;
  std::int64_t vocab_ = 0;
  std::int64_t windows_ = 0;
  std::int64_t validation_windows_ = 0;
  DataCursor cursor_;
};

}  // namespace orion
