#include "base/stopwatch.h"
#include "orion/error.h"
#include "run/dropout.h"
#include "run/freshness.h"
#include "run/optimizer.h"
#include "run/trainer_parts.h"
#include "run/work_queue.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace orion {
namespace {

using Timed = Stopwatch<double>;

constexpr std::int32_t ignored_target = -100;
// Layers whose gradients may wait for the host while the device goes on.
constexpr std::size_t most_waiting = 4;
constexpr std::int64_t updates_always_checked = 2;
constexpr double default_half_scale = 16384.0;
constexpr double least_scale = 1.0 / 1024.0;
constexpr double most_scale = 1 << 24;

bool is_finite(const Tensor& tensor) {
  const Tensor wide = convert(tensor, DType::fp32);
  return std::ranges::all_of(wide.as<float>(), [](float x) { return std::isfinite(x); });
}

}  // namespace

struct Trainer::Impl : TrainerParts {
  std::optional<WorkQueue> queue;  // of weights' gradients, where they wait
  std::map<std::size_t, Freshness> freshness;
  std::map<std::size_t, Answers> unproved;  // before the first update that a check has to prove

  TrainState state;
  TrainTimes times;
  Accumulated accumulated;
  std::vector<bool> has_gradient;  // of the parameters: whether theirs is of this step
  std::int64_t micro_batches = 0;  // since the last step
  std::int64_t updates = 0, checks = 0;

  Impl(ModelConfig wanted_config, const WeightSource& weights, Device& layers, Device& rest,
       TrainOptions wanted)
      : TrainerParts(std::move(wanted_config), weights, layers, rest, std::move(wanted)) {
    state.loss_scale = options.loss_scale.scale != 0.0 ? options.loss_scale.scale
                       : in_place                      ? 1.0
                                                       : default_half_scale;
    if (!in_place) queue.emplace(most_waiting);
    has_gradient.resize(parameters.size());
  }

  // -- gradients ----------------------------------------------------------------------------------

  // The stage's program for the gradients that there are, which it then has given: the first of a step are
  // written over those of the last one.
  const StageProgram& program_of(const GradientStage& stage) {
    const bool first = std::ranges::none_of(stage.gradients, [this](const GradientPort& gradient) {
      return has_gradient[by_name.at(gradient.weight)];
    });
    const StageProgram& chosen = first ? stage.overwriting : stage.adding;
    for (const GradientPort& gradient : stage.gradients) {
      const std::size_t i = by_name.at(gradient.weight);
      if (has_port(chosen.program->inputs(), gradient.port)) need_gradient(i);
      has_gradient[i] = true;
    }
    return chosen;
  }

  static bool has_port(const std::vector<Port>& ports, std::string_view name) {
    return std::ranges::find(ports, name, &Port::name) != ports.end();
  }

  // Zero, if there is none yet.
  void need_gradient(std::size_t i) {
    if (!has_gradient[i]) clear_gradient(parameters[i]);
    has_gradient[i] = true;
  }
  void need_gradients() {
    for (std::size_t i = 0; i < parameters.size(); ++i) need_gradient(i);
  }

  // -- running ------------------------------------------------------------------------------------

  void check_batch(const Tensor& ids, const Tensor& targets) const {
    const TensorType wanted{DType::int32, {options.batch, options.sequence}};
    if (ids.type() != wanted || targets.type() != wanted)
      fail("train: ids are ", ids.type(), " and targets ", targets.type(), ", ", wanted, " is needed");
    const auto check = [&](const Tensor& tensor, std::string_view what, bool may_be_ignored) {
      for (const std::int32_t id : tensor.as<std::int32_t>())
        if ((id < 0 || id >= config.vocab) && !(may_be_ignored && id == ignored_target))
          fail("train: ", what, ' ', id, " is outside the vocabulary of ", config.vocab);
    };
    check(ids, "token id", false);
    check(targets, "target", true);
  }

  template <class Fill>
  void fill_masks(const Fill& fill) {
    const Timed timed(times.host);
    for (const Segment& segment : segments)
      for (const Mask& mask : segment.masks) fill(mask);
    for (const Mask& mask : loss_masks) fill(mask);
  }
  void draw_masks() {
    fill_masks([this](const Mask& mask) {
      draw_mask(mask.value, options.batch, options.dropout, {state.step, micro_batches, mask.module});
    });
  }

  std::int64_t count(const Tensor& targets) const {
    const auto all = targets.as<std::int32_t>();
    return std::ssize(all) - std::ranges::count(all, ignored_target);
  }

  void run_forward(const Tensor& ids, const Tensor& targets) {
    {
      const Timed timed(times.host);
      run_stage(embedding.forward, memory_of(embedding, ids, targets), values());
    }
    const Timed timed(times.device);
    for (std::size_t i = 0; i < segments.size(); ++i)
      run_stage(segments[i].forward, memory_of(i), device_values());
  }

  // The sum over all tokens.
  template <class Program>
  double run_losses(const Program& program, const Tensor& ids, const Tensor& targets) {
    const Timed timed(times.host);
    double sum = 0.0;
    for (const End& part : losses) {
      run_stage(program(part), memory_of(part, ids, targets), values());
      sum += static_cast<double>(shared.at("loss").as<float>()[0]);
    }
    return sum;
  }

  double accumulate(const Tensor& ids_in, const Tensor& targets_in) {
    check_batch(ids_in, targets_in);
    const Tensor ids = ids_in.reshaped({tokens()}), targets = targets_in.reshaped({tokens()});
    const std::int64_t counted = count(targets);
    if (counted == 0) fail("train: no target of the micro-batch counts");
    draw_masks();
    run_forward(ids, targets);
    shared.at("d_loss").as<float>()[0] = static_cast<float>(state.loss_scale / static_cast<double>(tokens()));
    const double sum = run_losses(
        [this](const End& part) -> const StageProgram& { return program_of(part.backward); }, ids, targets);
    if (!std::isfinite(sum)) fail_not_finite(sum);
    run_backward();
    if (!embedding.backward.gradients.empty()) {
      const Timed timed(times.host);
      run_stage(program_of(embedding.backward), memory_of(embedding, ids, targets), values());
    }
    accumulated.loss += sum;
    accumulated.targets += counted;
    ++micro_batches;
    return sum / static_cast<double>(counted);
  }

  void run_backward() {
    for (std::size_t i = segments.size(); i-- > 0;) {
      {
        const Timed timed(times.device);
        run_stage(program_of(segments[i].backward), memory_of(i), device_values());
      }
      if (segments[i].weights.gradients.empty()) continue;
      const Timed timed(times.gradients);
      const StageProgram& program = program_of(segments[i].weights);
      const auto gradients = [this, i, &program] { run_stage(program, memory_of(i), values()); };
      if (queue)
        queue->add(gradients);
      else
        gradients();
    }
    const Timed timed(times.gradients);
    if (queue) queue->finish();
  }

  double evaluate(const Tensor& ids_in, const Tensor& targets_in) {
    check_batch(ids_in, targets_in);
    const Tensor ids = ids_in.reshaped({tokens()}), targets = targets_in.reshaped({tokens()});
    const std::int64_t counted = count(targets);
    if (counted == 0) fail("evaluate: no target of the micro-batch counts");
    const TrainTimes before = times;  // of the step that is under way
    fill_masks([](const Mask& mask) { open_mask(mask.value); });
    run_forward(ids, targets);
    const double sum =
        run_losses([](const End& part) -> const StageProgram& { return part.forward; }, ids, targets);
    times = before;
    return sum / static_cast<double>(counted);
  }

  [[noreturn]] void fail_not_finite(double sum) {
    forget_micro_batches();
    fail("train: the loss of step ", state.step + 1, " is ", sum, "; the first value that is not finite is ",
         first_not_finite());
  }

  std::string first_not_finite() const {
    for (const Parameter& parameter : parameters)
      if (!is_finite(parameter.value)) return str("weight '", parameter.name, "'");
    if (!is_finite(x.front())) return "the embedding";
    for (std::size_t i = 0; i < segments.size(); ++i) {
      for (const auto& [name, tap] : segments[i].taps)
        if (name.starts_with("tap_") && !is_finite(tap)) return str(segments[i].name, ", inside");
      if (!is_finite(x[i + 1])) return segments[i].name;
    }
    return "among the logits";
  }

  // -- steps --------------------------------------------------------------------------------------

  StepReport step(double learning_rate) {
    if (accumulated.targets == 0) fail("train: step without a micro-batch before it");
    if (!(learning_rate >= 0.0) || !std::isfinite(learning_rate))
      fail("train: a learning rate of ", learning_rate, " makes no sense");
    StepReport report{.step = ++state.step,
                      .loss = accumulated.loss / static_cast<double>(accumulated.targets),
                      .loss_scale = state.loss_scale,
                      .tokens = accumulated.targets};
    const double factor =
        static_cast<double>(tokens()) / (state.loss_scale * static_cast<double>(accumulated.targets));
    {
      const Timed timed(times.optimizer);
      need_gradients();
      report.gradient_norm = gradient_norm(parameters) * factor;
    }
    report.skipped = !std::isfinite(report.gradient_norm);
    forget_micro_batches();  // whatever comes of them: what follows may fail
    if (report.skipped)
      skip();
    else
      apply(learning_rate, factor * clipping(report.gradient_norm));
    report.times = std::exchange(times, {});
    return report;
  }

  void forget_micro_batches() {
    accumulated = {};
    micro_batches = 0;
    has_gradient.assign(parameters.size(), false);
  }

  double clipping(double norm) const {
    return options.clip > 0.0 && norm > options.clip ? options.clip / (norm + 1e-6) : 1.0;
  }

  void skip() {
    const std::string first = first_infinite_gradient();
    if (!options.loss_scale.dynamic || in_place || state.loss_scale <= least_scale)
      fail("train: the gradients of step ", state.step, " are not finite, first that of '", first,
           "'; the weights have not changed");
    state.loss_scale /= 2.0;
    state.good_steps = 0;
  }

  std::string first_infinite_gradient() const {
    for (const Parameter& parameter : parameters)
      if (!is_finite(parameter.gradient)) return parameter.name;
    return "all together";
  }

  void apply(double learning_rate, double factor) {
    const std::optional<std::size_t> checked = due_check();
    if (checked && !unproved.contains(*checked)) unproved.emplace(*checked, answers(*checked));
    {
      const Timed timed(times.optimizer);
      adamw_step(parameters, options.adamw, learning_rate, factor, ++state.optimizer_steps);
    }
    grow_scale();
    const Timed timed(times.update);
    bring_over();
    ++updates;
    if (checked) prove(*checked);
  }

  void grow_scale() {
    if (!options.loss_scale.dynamic || in_place) return;
    if (++state.good_steps < options.loss_scale.growth_interval) return;
    state.good_steps = 0;
    state.loss_scale = std::min(state.loss_scale * 2.0, most_scale);
  }

  // -- proof that new weights arrive --------------------------------------------------------------

  // The segment to look at during the coming update, each in its turn.
  std::optional<std::size_t> due_check() const {
    if (in_place || options.lora || options.check_every == 0) return std::nullopt;
    const bool due = updates < updates_always_checked || updates % options.check_every == 0;
    return due ? std::optional(static_cast<std::size_t>(checks) % segments.size()) : std::nullopt;
  }

  Answers answers(std::size_t i) {
    auto found = freshness.find(i);
    if (found == freshness.end()) {
      SegmentShape shape = segments[i].shape;
      shape.dtype = DType::fp32;
      found = freshness.emplace(i, Freshness(training_layer(config, shape), host)).first;
    }
    const Tensor hidden = device_answer(i, found->second.input());
    return {hidden, found->second.answer([this](const std::string& weight) { return half_value_of(weight); },
                                         shared)};
  }

  Tensor device_answer(std::size_t i, const Tensor& input) {
    const Memory usual = memory_of(i);
    const Tensor hidden(input.type());
    run_stage(
        segments[i].forward,
        [&](const Port& port) {
          return port.name == "x" ? input : port.name == "hidden" ? hidden : usual(port);
        },
        values());
    return hidden;
  }

  // Changes that are too small to be seen add up until the next check of the segment.
  void prove(std::size_t i) {
    const std::optional<double> share = moved(unproved.at(i), answers(i));
    if (!share) return;
    ++checks;
    unproved.erase(i);
    if (*share < 0.5)
      throw DeviceError(str("train: after update ", updates, ", ", segments[i].name, " on ", device.name(),
                            " computes with old weights (its output moved by ", *share,
                            " of what the new ones give); choose another update strategy"));
  }
};

Trainer::Trainer(ModelConfig config, const WeightSource& weights, Device& device, Device& host,
                 TrainOptions options)
    : impl_(std::make_unique<Impl>(std::move(config), weights, device, host, options)) {}
Trainer::~Trainer() = default;

double Trainer::accumulate(const Tensor& ids, const Tensor& targets) {
  return impl_->accumulate(ids, targets);
}
StepReport Trainer::step(double learning_rate) {
  return impl_->step(learning_rate);
}
Accumulated Trainer::accumulated() const {
  return impl_->accumulated;
}
void Trainer::set_accumulated(const Accumulated& sum) {
  if (sum.targets < impl_->accumulated.targets)
    fail("train: a sum over ", sum.targets, " targets, and this process has ", impl_->accumulated.targets);
  impl_->accumulated = sum;
}
double Trainer::evaluate(const Tensor& ids, const Tensor& targets) {
  return impl_->evaluate(ids, targets);
}
const ModelConfig& Trainer::config() const {
  return impl_->config;
}
const TrainOptions& Trainer::options() const {
  return impl_->options;
}
std::string_view Trainer::device() const {
  return impl_->device.name();
}
const std::vector<Parameter>& Trainer::parameters() const {
  impl_->need_gradients();
  return impl_->parameters;
}
std::int64_t Trainer::parameter_count() const {
  std::int64_t total = 0;
  for (const Parameter& parameter : impl_->parameters) total += parameter.value.shape().size();
  return total;
}
TrainState Trainer::state() const {
  return impl_->state;
}
void Trainer::restore(const TrainState& state) {
  impl_->state = state;
  impl_->bring_over();
}
std::int64_t Trainer::programs() const {
  return impl_->on_device->programs();
}
double Trainer::compile_seconds() const {
  return impl_->on_device->seconds() + impl_->on_host->seconds();
}
std::size_t Trainer::activation_bytes() const {
  return impl_->activation_bytes();
}
std::int64_t Trainer::checks() const {
  return impl_->checks;
}

}  // namespace orion
