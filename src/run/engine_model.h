// A language model in segments: layers on the engine, the head if asked for; embedding and attention over the
// cache on the host.
#pragma once

#include "orion/adapters.h"
#include "run/engine_head.h"

#include <set>

namespace orion {

/// What the engine does; the host does the rest.
enum class EngineUse : std::uint8_t { prefill_and_decode, prefill, prefill_decode_and_head };
/// "engine", "engine-prefill" or "engine-and-head"; Error listing them for any other name.
EngineUse engine_use(std::string_view name);

/// A program with adapters among its inputs.
struct AdaptedProgram {
  std::unique_ptr<Program> program;
  std::vector<PackedLora> ports = {};
  std::vector<Tensor> memory = {};  // of each
  LoraShape capacity = {};
};

/// The graph with room for adapters of that capacity; as it is if there are no targets.
Graph with_room(const Graph& graph, const LoraShape& capacity, std::vector<PackedLora>& ports);

/// What an engine model is made of.
struct EngineParts {
  std::vector<std::int64_t> buckets;  // columns of the segments that read prompts, ascending
  /// Compiles, or opens, one segment on the engine, with room for adapters.
  std::function<std::unique_ptr<Program>(const SegmentShape& shape, const LoraShape& capacity,
                                         std::vector<PackedLora>& ports)>
      program;
  std::shared_ptr<DeviceWeights> host_weights;
  std::unique_ptr<LanguageModel> host_model;  // decodes, if the engine does not
};

/// From a checkpoint: takes every weight once. With `prefill`, `host` runs the whole model for all but the
/// prompt.
EngineParts engine_parts(const ModelConfig& config, const WeightSource& weights, Device& engine, Device& host,
                         EngineUse use);

/// The segments of every layer for one number of columns and one capacity for adapters, with the memory
/// between them.
struct SegmentSet {
  std::int64_t columns = 0;
  bool decodes = false;
  std::vector<AdaptedProgram> before;  // attention, or projection
  std::vector<AdaptedProgram> after;   // feed_forward, or output
  std::unique_ptr<Program> embedding;  // on the host
  AdapterInputs adapter;               // what the programs are bound to
  TensorMap planes;                    // x, hidden, q, k, v, attended, cos, sin: (1, n, 1, S)
};

/// fp16 throughout. Prompts are read in the smallest bucket that holds them, what goes beyond the largest and
/// every token that follows in columns of the decode segments: a column for each sequence of a batch, or for
/// each token of one sequence. When the engine's budget of compiles does not pay for one more bucket, prompts
/// are read in one that exists, what goes beyond it as above, and a note says so.
class EngineModel final : public TextModel {
 public:
  EngineModel(ModelConfig config, Device& engine, Device& host, EngineUse use, EngineParts parts);
  /// From a checkpoint.
  EngineModel(ModelConfig config, const WeightSource& weights, Device& engine, Device& host, EngineUse use);

  const ModelConfig& config() const override { return config_; }
  DType dtype() const override { return DType::fp16; }
  /// "sim:macos26", or "sim:macos26 for prompts, cpu".
  std::string_view device() const override { return where_; }
  std::int64_t parameters() const override { return parameters_; }
  double compile_seconds() const override;
  std::vector<std::string> notes() const override;
  std::int64_t compiles() const override;
  Tensor logits(std::span<const std::int32_t> ids) override;
  void extend(const CacheStep& step) override;

 private:
  // Column j of x follows from what was read; the first `count` columns are tokens.
  using Receive = std::function<void(const Tensor& x, std::int64_t count)>;

  // Columns, whether they decode, and the capacity for adapters.
  using SetKey = std::tuple<std::int64_t, bool, std::int64_t, std::vector<std::string>>;
  using MakeAdapted =
      std::function<std::unique_ptr<Program>(const LoraShape& capacity, std::vector<PackedLora>& ports)>;

  SetKey set_key(std::int64_t columns, bool decodes) const;
  std::int64_t programs_of_set() const { return 2 * config_.layers; }
  bool is_affordable(std::int64_t columns, bool decodes) const;
  SegmentSet* starting_set(std::int64_t tokens);
  void note_bucket(std::int64_t wanted, const SegmentSet* used);
  void note_host(const SegmentSet* start);
  void note(std::string sentence);
  SegmentSet& segments(std::int64_t columns, bool decodes);
  std::unique_ptr<SegmentSet> compiled(std::int64_t columns, bool decodes);
  std::int64_t bucket_for(std::int64_t tokens) const;
  AdaptedProgram on_engine(const SegmentShape& shape);
  std::unique_ptr<Program> on_host(const Graph& graph, const std::shared_ptr<DeviceWeights>& weights);
  Program& cache_step(const CacheStepShape& shape);
  AdaptedProgram adapted(const MakeAdapted& make);
  AdaptedProgram& head(std::int64_t batch);
  EngineHead& engine_head();
  std::int64_t head_programs() const;

  void embed(SegmentSet& set, std::span<const std::int32_t> ids, std::span<const std::int32_t> positions);
  const Tensor& prefill(SegmentSet& set, std::span<const std::int32_t> ids, std::span<const Tensor> caches);
  const Tensor& decode(const CacheStep& step);
  void read(std::span<const std::int32_t> ids, std::int64_t position, std::span<const Tensor> caches,
            const Receive& receive);
  void predict(const Tensor& rows, const Tensor& logits);
  void extend_with_host(const CacheStep& step);
  void extend_part(const CacheStep& step);
  void extend_one(const CacheStep& step);
  void extend_batch(const CacheStep& step);

  ModelConfig config_;
  Device& engine_;
  Device& host_;
  EngineUse use_;
  std::string where_;
  EngineParts parts_;
  std::int64_t parameters_ = 0;
  RotaryTable rotary_;
  std::list<std::unique_ptr<SegmentSet>> sets_;  // most recently used first
  std::set<SetKey> paid_;                        // of sets ever compiled
  std::unique_ptr<EngineHead> engine_head_;      // if asked for, from its first use on
  std::map<CacheStepShape, std::unique_ptr<Program>> cache_steps_;
  std::map<std::int64_t, AdaptedProgram> heads_;
  mutable std::mutex notes_turn_;
  std::vector<std::string> notes_;
  std::mutex turn_;
  AdapterInputs adapter_;  // of the turn
  std::atomic<double> compile_seconds_ = 0.0;
  std::atomic<std::int64_t> compiles_ = 0;
};

}  // namespace orion
