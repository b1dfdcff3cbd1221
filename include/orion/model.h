// Language models: what a configuration means, and the graphs that compute it.
//
// Sizes: B sequences, T new tokens each, S rows of key/value cache, C width, H query heads, G key/value
// heads, D head size, V vocabulary.
#pragma once

#include "orion/device.h"
#include "orion/graph.h"
#include "orion/lora.h"
#include "orion/stages.h"

#include <atomic>
#include <compare>
#include <functional>
#include <list>
#include <mutex>

namespace orion {

/// A JSON value of a config.json. Null is monostate.
using ConfigValue = std::variant<std::monostate, bool, std::int64_t, double, std::string>;
/// A config.json with its nested objects and lists flattened: "rope_parameters.rope_theta", "layer_types.0".
using ConfigMap = std::map<std::string, ConfigValue, std::less<>>;

/// The content of a config.json. Error unless it is a JSON object.
ConfigMap read_config(std::string_view json);

enum class Activation : std::uint8_t { relu, gelu, gelu_tanh, silu };

/// Rotary position embedding: pair i of a head turns by position * theta^(-2i/D), scaled.
struct Rope {
  enum class Scaling : std::uint8_t { none, linear, llama3 };

  double theta = 10000.0;
  bool interleaved = false;  // pairs (2i, 2i+1) instead of (i, i+D/2)
  Scaling scaling = Scaling::none;
  double factor = 1.0;
  // llama3 only: wavelengths are kept below original_context / high_freq_factor positions, scaled
  // above original_context / low_freq_factor, blended between.
  double low_freq_factor = 1.0;
  double high_freq_factor = 1.0;
  double original_context = 0.0;
};

struct ModelConfig {
  std::string model_type;
  std::int64_t vocab = 0;
  std::int64_t context = 0;  // positions the model was made for
  std::int64_t width = 0;
  std::int64_t inner = 0;  // width inside the feed-forward block
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  double norm_epsilon = 1e-5;
  Activation activation = Activation::silu;
  bool tied_head = false;  // the head is the token embedding

  Rope rope = {};
  bool qkv_bias = false;
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;

  bool scale_scores = true;            // by 1 / sqrt(D)
  bool scale_scores_by_layer = false;  // and by 1 / (layer + 1)
};

enum class Head : std::uint8_t { every_position, last_position };

struct ForwardShape {
  std::int64_t batch = 1;
  std::int64_t tokens = 1;
  std::int64_t cache = 0;  // 0: no cache, the T tokens are the whole text
  Head head = Head::every_position;

  auto operator<=>(const ForwardShape&) const = default;
};

struct SegmentDef;  // segments.h

/// One architecture: everything that depends on config.json's "model_type".
struct ModelDef {
  std::string_view model_type;
  std::string_view doc;
  /// Error naming the key if one is missing, has a wrong type, or asks for what is not supported.
  ModelConfig (*configure)(const ConfigMap& map);
  /// The graph for a checked shape. Weights have the names and layouts of Hugging Face's checkpoints.
  ///
  /// inputs   ids int32 (B, T); with a cache: position int32 (B,), where the first new token stands,
  ///          and per layer k_cache_<i>, v_cache_<i> (B, G, S, D)
  /// outputs  logits fp32 (B, T, V), or (B, V) for the last position; with a cache: every cache again, under
  ///          its input's name, with the new rows written at position .. position + T - 1
  Graph (*build)(const ModelConfig& config, const ForwardShape& shape, DType dtype);
  /// The same in programs that fit the engine.
  const SegmentDef& (*segments)();
};

std::span<const ModelDef* const> all_models();
/// Error listing the known types for any other.
const ModelDef& find_model(std::string_view model_type);
/// The configuration for the type that the map's own "model_type" names.
ModelConfig configure(const ConfigMap& map);
/// Checks the shape against the configuration, then builds. Weights and activations are of `dtype`.
Graph forward(const ModelConfig& config, const ForwardShape& shape, DType dtype);
/// The weights that `forward` uses, in the order of use.
std::vector<Port> model_weights(const ModelConfig& config, DType dtype);
/// The type of every cache of a `forward` graph.
TensorType cache_type(const ModelConfig& config, std::int64_t batch, std::int64_t rows, DType dtype);

/// Names of the program's ports.
std::string key_cache_name(std::int64_t layer);
std::string value_cache_name(std::int64_t layer);

/// A port and the memory it reads or writes during one run.
struct Binding {
  std::string_view port;
  Tensor memory;
};

/// Gives the value of one weight, of any float width.
using WeightSource = std::function<Tensor(const std::string& name)>;

struct AdapterValues;  // adapters.h

/// Tokens to read into a key/value cache.
struct CacheStep {
  Tensor ids;                      // int32 (B, T)
  Tensor positions;                // int32 (B,): where the first token of each sequence stands
  std::span<const Tensor> caches;  // (B, G, S, D) each: keys and values of layer 0, of layer 1, ...
  Tensor logits;                   // fp32 (B, V), written: what follows the last token of each sequence
  /// The adapter of each sequence; none given: the one that is active. See adapters.h.
  std::span<const std::shared_ptr<const AdapterValues>> adapters = {};
};

class AdapterSet;  // adapters.h

/// A model that can continue texts, wherever it runs. Calls from several threads take turns.
class TextModel {
 public:
  TextModel();
  virtual ~TextModel();
  TextModel(const TextModel&) = delete;
  TextModel& operator=(const TextModel&) = delete;
  virtual const ModelConfig& config() const = 0;
  /// Of caches.
  virtual DType dtype() const = 0;
  /// Where it runs: "cpu".
  virtual std::string_view device() const = 0;
  virtual std::int64_t parameters() const = 0;
  /// Spent compiling programs so far; they are compiled when a shape is first asked for.
  virtual double compile_seconds() const = 0;
  /// What went otherwise than asked for so far, such as a prompt read elsewhere: sentences for people.
  virtual std::vector<std::string> notes() const { return {}; }
  /// Programs compiled so far.
  virtual std::int64_t compiles() const = 0;

  /// fp32 (T, V): row t is what follows ids[0..t]. Error if there are no ids, more than the context
  /// holds, or one outside the vocabulary.
  virtual Tensor logits(std::span<const std::int32_t> ids) = 0;
  /// Reads tokens that continue what the caches hold. The caller has checked ids and positions.
  virtual void extend(const CacheStep& step) = 0;

  /// The checks of `logits`, for callers that run programs themselves. `what` begins the message.
  void check_ids(std::span<const std::int32_t> ids, std::string_view what) const;
  /// The last of them alone.
  void check_vocabulary(std::span<const std::int32_t> ids, std::string_view what) const;

  /// The adapters that are resident, and which one is active.
  AdapterSet& adapters();

  /// A block of memory for the caches of a session, its first `bytes` zeros. That of the session that ended
  /// last is used again if it is not much larger: the system takes a while to give new memory.
  Tensor cache_memory(std::size_t bytes);
  /// A session's block, which nobody reads any more.
  void keep_cache_memory(Tensor block);

 protected:
  /// Reads a step's sequences in groups that share an adapter, neighbours together. Each part names it.
  void by_adapter(const CacheStep& step, const std::function<void(const CacheStep& part)>& read);

 private:
  std::once_flag adapters_made_;
  std::unique_ptr<AdapterSet> adapters_;
  std::mutex kept_mutex_;
  Tensor kept_;
};

/// The value of a weight in the type wanted. Error if it is missing, does not fit, is no float, or has
/// another shape.
Tensor load_weight(const WeightSource& weights, const Port& wanted);

/// In what a model is kept and computed: the width of weights, activations and caches, and the format of
/// matrices.
struct Precision {
  DType dtype = DType::fp32;
  MatrixFormat matrices = MatrixFormat::exact;

  Precision(DType width, MatrixFormat format = MatrixFormat::exact) : dtype(width), matrices(format) {}
};
/// "fp32", "fp16", or "bf16", "int8" and "int4": matrices in that format, all else fp16. Error for any other
/// name.
Precision precision_from_name(std::string_view name);

/// A configuration with its weights on a device that runs whole models. The programs used last are kept.
class LanguageModel final : public TextModel {
 public:
  /// Asks for every weight of the model once; Error if it does not fit the precision's width, is no float, or
  /// has another shape. It is kept until the first program has it in its own form.
  LanguageModel(ModelConfig config, const WeightSource& weights, Precision precision, Device& device);
  /// With weights that are packed already, such as a `PackedFile`'s: read where they are. Error unless they
  /// are those of the model, in `dtype` but for what their format has rounded.
  LanguageModel(ModelConfig config, const PackedWeights& weights, DType dtype, Device& device);

  const ModelConfig& config() const override { return config_; }
  DType dtype() const override { return dtype_; }
  std::string_view device() const override { return device_.name(); }
  std::int64_t parameters() const override { return parameters_; }
  double compile_seconds() const override { return compile_seconds_; }
  std::int64_t compiles() const override { return compiles_; }
  std::shared_ptr<DeviceWeights> weights() const { return weights_; }
  /// The weights in the forms that its programs read, to be kept and loaded again. See
  /// `DeviceWeights::packed`.
  PackedWeights packed();
  Tensor logits(std::span<const std::int32_t> ids) override;
  /// The same with another adapter than the active one.
  Tensor logits(std::span<const std::int32_t> ids, const std::shared_ptr<const AdapterValues>& adapter);
  void extend(const CacheStep& step) override;
  /// Runs `forward(config, shape, dtype)` on the memory given, one binding per port.
  void run(const ForwardShape& shape, std::span<const Binding> bindings);

 private:
  struct Compiled {
    ForwardShape shape;
    LoraShape adapters;
    std::unique_ptr<Program> program;
    std::vector<WeightPort> adapter_ports;
  };
  LanguageModel(ModelConfig config, DType dtype, Device& device);
  Compiled& program(const ForwardShape& shape, const LoraShape& adapters);
  void read(const CacheStep& step);
  void run(const ForwardShape& shape, std::span<const Binding> bindings,
           const std::shared_ptr<const AdapterValues>& adapter);

  ModelConfig config_;
  DType dtype_;
  Device& device_;
  std::int64_t parameters_ = 0;
  std::shared_ptr<DeviceWeights> weights_;
  std::vector<std::string> cache_names_;
  std::mutex turn_;
  std::list<Compiled> programs_;  // most recently used first
  std::atomic<double> compile_seconds_ = 0.0;
  std::atomic<std::int64_t> compiles_ = 0;
};

}  // namespace orion
