// Training of language models: the layers in segments on a device, embedding, loss and optimizer on the host.
//
// Sizes: B sequences of S tokens in a micro-batch, C width, V vocabulary.
#pragma once

#include "orion/lora.h"
#include "orion/model.h"

namespace orion {

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101) with bias correction, as torch.optim.AdamW computes it:
/// w -= lr decay w; w -= lr m^ / (sqrt(v^) + epsilon). Vectors (norms, biases) do not decay.
struct AdamW {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
};

/// The loss is multiplied by `scale` before it is differentiated, so that small gradients survive in fp16. A
/// step whose gradients are not finite is skipped and the scale halved; after `growth_interval` good steps in
/// a row it doubles.
struct LossScale {
  double scale = 0.0;  // to begin with; 0: 1 where layers compute in fp32, else 16384
  bool dynamic = true;
  std::int64_t growth_interval = 200;
};

/// Dropout of what the A of each adapter reads, in training and not in evaluation: PEFT's lora_dropout. Each
/// module has masks of its own, which follow from the seed and the place in the run.
struct Dropout {
  double probability = 0.0;  // of a 0, from 0 to below 1; what is left grows by 1 / (1 - probability)
  std::uint64_t seed = 0;
  /// This process among those that train together: process p has windows p B .. p B + B - 1 of each
  /// micro-batch.
  std::int64_t process = 0;
  std::int64_t processes = 1;
};

struct TrainOptions {
  std::int64_t batch = 1;       // B
  std::int64_t sequence = 256;  // S
  AdamW adamw = {};
  /// How products are computed where layers run on the CPU: `exact` in fp32, or `bf16`. Weights, gradients
  /// and moments are fp32 either way.
  MatrixFormat products = MatrixFormat::exact;
  double clip = 1.0;  // largest norm of all gradients together; 0: any
  LossScale loss_scale = {};
  /// Steps between proofs that the device computes with the weights it was given; 0: none. The first updates
  /// are always checked. Only where weights have to be brought to the device.
  std::int64_t check_every = 100;
  /// Trains adapters beside weights that stay as they are. They are inputs of the device's programs, so that
  /// no weight has ever to be brought to the device.
  std::optional<LoraShape> lora = std::nullopt;
  Dropout dropout = {};  // of adapters
};

/// Where time went, in seconds.
struct TrainTimes {
  double device = 0.0;     // layers, forward and backward; on the CPU, weights' gradients too
  double host = 0.0;       // embedding, head and loss, forward and backward
  double gradients = 0.0;  // weights' gradients on the host, where the device has to wait for them
  double optimizer = 0.0;
  double update = 0.0;  // new weights onto the device, and proofs that they are there
};

struct StepReport {
  std::int64_t step = 0;       // steps taken, this one included
  double loss = 0.0;           // mean over the target tokens
  double gradient_norm = 0.0;  // before clipping
  double loss_scale = 1.0;     // with which the gradients were computed
  bool skipped = false;        // the gradients were not finite; no weight has changed
  std::int64_t tokens = 0;     // targets that counted
  TrainTimes times = {};
};

/// One tensor in training; all are fp32 and share the trainer's memory.
struct Parameter {
  std::string name;
  Tensor value;
  Tensor gradient;  // of the loss sum since the last step, times the loss scale / (B S)
  Tensor first_moment;
  Tensor second_moment;
  bool decays = false;
};

/// What a resumed run needs besides the parameters.
struct TrainState {
  std::int64_t step = 0;
  std::int64_t optimizer_steps = 0;  // steps that were not skipped
  double loss_scale = 1.0;
  std::int64_t good_steps = 0;  // since the scale last changed
};

/// What the micro-batches since the last step have come to, beside their gradients.
struct Accumulated {
  double loss = 0.0;         // summed over the targets
  std::int64_t targets = 0;  // that counted
};

class Trainer {
 public:
  /// Takes every weight of the model once, and with `lora` those of its adapters, by their names. `device`
  /// runs the layers, `host` (which shares host memory) the rest. Error for an option out of its range, S
  /// beyond the context, or a weight that is missing or does not fit.
  Trainer(ModelConfig config, const WeightSource& weights, Device& device, Device& host,
          TrainOptions options);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Forward and backward of one micro-batch; its gradients are added to those since the last step. ids and
  /// targets int32 (B, S); a target of -100 does not count. Returns the mean loss. Error naming the first
  /// value that is not finite if the loss is not.
  double accumulate(const Tensor& ids, const Tensor& targets);
  /// One step of the optimizer with the gradients so far, which then begin anew, and the new weights onto the
  /// device. DeviceError if the device keeps computing with old ones.
  StepReport step(double learning_rate);
  /// Where several processes train together, each with its own micro-batches: before a step all of them set
  /// this, as they do the gradients, to the sum over the processes.
  Accumulated accumulated() const;
  void set_accumulated(const Accumulated& sum);
  /// The mean loss of a micro-batch, without gradients.
  double evaluate(const Tensor& ids, const Tensor& targets);

  const ModelConfig& config() const;
  const TrainOptions& options() const;
  /// "cpu", "sim:macos26".
  std::string_view device() const;
  /// Every tensor in training, in the order of use: all of the model's, or its adapters'. Gradients without a
  /// micro-batch since the last step are zero when this is called; memory of an earlier call may still hold
  /// that step's.
  const std::vector<Parameter>& parameters() const;
  std::int64_t parameter_count() const;
  TrainState state() const;
  /// For a resumed run; call after the parameters' tensors have been filled. Brings the weights onto the
  /// device.
  void restore(const TrainState& state);
  /// Programs on the device, and the time their compiling took.
  std::int64_t programs() const;
  double compile_seconds() const;
  /// Bytes of activations, gradients and other memory held beside the parameters.
  std::size_t activation_bytes() const;
  /// Proofs so far that new weights had arrived.
  std::int64_t checks() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// How the learning rate moves: a linear rise over `warmup` steps, then as `shape` says down to `floor` times
/// the peak at step `total`.
enum class ScheduleShape : std::uint8_t { constant, linear, cosine };
/// Error listing the names for any other.
ScheduleShape schedule_shape(std::string_view name);

struct Schedule {
  double peak = 3e-4;
  std::int64_t warmup = 0;
  std::int64_t total = 0;
  ScheduleShape shape = ScheduleShape::cosine;
  double floor = 0.1;
};
/// Error for a schedule that makes no sense.
void check_schedule(const Schedule& schedule);
/// For step 0, 1, ...
double learning_rate(const Schedule& schedule, std::int64_t step);

}  // namespace orion
