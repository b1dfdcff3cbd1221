#include "orion/error.h"
#include "orion/segments.h"
#include "orion/train.h"
#include "run/freshness.h"
#include "run/optimizer.h"
#include "run/work_queue.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

namespace orion {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int32_t ignored_target = -100;
// Layers whose gradients may wait for the host while the device goes on.
constexpr std::size_t most_waiting = 4;
constexpr std::int64_t updates_always_checked = 2;
constexpr double default_half_scale = 16384.0;
constexpr double least_scale = 1.0 / 1024.0;
constexpr double most_scale = 1 << 24;

// Adds the time of its life to a number.
class Timed {
 public:
  explicit Timed(double& total) : total_(total), start_(Clock::now()) {}
  ~Timed() { total_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  double& total_;
  Clock::time_point start_;
};

void check_options(const ModelConfig& config, const TrainOptions& options) {
  if (options.batch < 1) fail("train: a batch of ", options.batch, ", at least 1 is needed");
  if (options.sequence < 1 || options.sequence > config.context)
    fail("train: a sequence of ", options.sequence, " tokens, from 1 to the model's context of ",
         config.context, " is needed");
  const AdamW& adamw = options.adamw;
  for (const double beta : {adamw.beta1, adamw.beta2})
    if (!(beta >= 0.0 && beta < 1.0)) fail("train: a beta of ", beta, ", from 0 to below 1 is needed");
  if (!(adamw.epsilon > 0.0)) fail("train: an epsilon of ", adamw.epsilon, ", a positive number is needed");
  if (!(adamw.weight_decay >= 0.0)) fail("train: a weight decay of ", adamw.weight_decay, " is negative");
  if (!(options.clip >= 0.0)) fail("train: gradients cannot be clipped to ", options.clip);
  if (!(options.loss_scale.scale >= 0.0) || options.loss_scale.growth_interval < 1)
    fail("train: a loss scale of ", options.loss_scale.scale, " that grows every ",
         options.loss_scale.growth_interval, " steps; positive numbers are needed");
}

bool is_finite(const Tensor& tensor) {
  const Tensor wide = convert(tensor, DType::fp32);
  return std::ranges::all_of(wide.as<float>(), [](float x) { return std::isfinite(x); });
}

std::vector<std::int32_t> positions_of(const TrainOptions& options) {
  std::vector<std::int32_t> positions;
  for (std::int64_t b = 0; b < options.batch; ++b)
    for (std::int64_t s = 0; s < options.sequence; ++s) positions.push_back(static_cast<std::int32_t>(s));
  return positions;
}

// On the CPU these take next to no time, and their results are a third of what a layer keeps.
bool cheap(const Node& node) {
  return node.is("silu") || node.is("gelu") || node.is("mul") || node.is("rms_norm") || node.is("layer_norm");
}

/// Half a layer: its programs, and the values that its backward pass reads.
struct Segment {
  std::string name;
  StageProgram forward, backward, weights;
  std::vector<GradientPort> gradients;
  TensorMap taps;  // and, where gradients wait, cuts
};

/// What stands before or after the layers.
struct End {
  StageProgram forward, backward;
  std::vector<GradientPort> gradients;
  std::size_t plane = 0;  // of x
};

}  // namespace

struct Trainer::Impl {
  ModelConfig config;
  TrainOptions options;
  Device& device;
  Device& host;
  bool in_place;  // the device works on the host's memory: weights are inputs, gradients do not wait
  Layout layout;
  DType dtype;

  std::vector<Parameter> parameters;
  std::map<std::string, std::size_t, std::less<>> by_name;
  TensorMap frozen;                         // weights beside which adapters are trained
  TensorMap halves;                         // adapters as the device takes them
  std::vector<std::string> held_by_device;  // weights of the layers, where they have to be brought over
  std::shared_ptr<DeviceWeights> device_weights;
  std::optional<StageCompiler> on_device, on_host;

  End embedding, loss;
  std::vector<Segment> segments;
  TensorMap shared;        // planes of all segments alike: cos, sin, ids, cuts that do not wait
  std::vector<Tensor> x;   // before each segment, and after the last
  std::vector<Tensor> dx;  // the same for gradients
  std::optional<WorkQueue> queue;

  std::vector<SegmentShape> shapes;
  std::map<std::size_t, Freshness> freshness;
  std::map<std::size_t, Answers> unproved;  // before the first update that a check has to prove

  TrainState state;
  TrainTimes times;
  Accumulated accumulated;
  std::int64_t updates = 0, checks = 0;

  Impl(ModelConfig wanted_config, const WeightSource& weights, Device& layers, Device& rest,
       TrainOptions wanted)
      : config(std::move(wanted_config)),
        options(wanted),
        device(layers),
        host(rest),
        in_place(layers.shares_host_memory()),
        layout(in_place ? Layout::rows : Layout::columns),
        dtype(in_place ? DType::fp32 : DType::fp16) {
    check_options(config, options);
    if (!host.shares_host_memory()) fail("train: the host device is ", host.name(), ", cpu is needed");
    if (options.products != MatrixFormat::exact && (options.products != MatrixFormat::bf16 || !in_place))
      fail("train: products in ", options.products, ": on cpu exact or bf16, elsewhere exact is needed");
    state.loss_scale = options.loss_scale.scale != 0.0 ? options.loss_scale.scale
                       : in_place                      ? 1.0
                                                       : default_half_scale;
    load(weights);
    make_ends();
    make_segments();
    make_planes();
    if (!in_place) queue.emplace(most_waiting);
  }

  std::int64_t tokens() const { return options.batch * options.sequence; }
  EndShape end_shape() const {
    return {.tokens = options.sequence, .batch = options.batch, .layout = layout, .dtype = dtype};
  }

  // -- making -------------------------------------------------------------------------------------

  void load(const WeightSource& weights) {
    for (const Port& wanted : model_weights(config, DType::fp32)) {
      const Tensor value = load_weight(weights, wanted);
      if (options.lora)
        frozen.emplace(wanted.name, value);
      else
        add_parameter(wanted.name, value);
    }
    if (options.lora) load_adapters(weights);
    on_host.emplace(host, options.products);
    if (in_place) return void(on_device.emplace(device, options.products));
    list_device_weights();
    device_weights = device.load(layer_weights());
    on_device.emplace(device, device_weights, options.lora ? trained() : WeightTest());
    copy_adapters();
  }

  void add_parameter(const std::string& name, const Tensor& value) {
    by_name[name] = parameters.size();
    parameters.push_back({name, value.clone(), Tensor(value.type()), Tensor(value.type()),
                          Tensor(value.type()), value.shape().rank() > 1});
  }

  void load_adapters(const WeightSource& weights) {
    for (const LoraModule& module : lora_modules(config, *options.lora))
      for (const Port& port : {Port{module.a(), {DType::fp32, {options.lora->rank, module.in}}},
                               Port{module.b(), {DType::fp32, {module.out, options.lora->rank}}}})
        add_parameter(port.name, load_weight(weights, port));
  }

  WeightTest trained() const {
    return [this](std::string_view weight) { return by_name.contains(weight); };
  }

  // Adapters are inputs of the device's programs, in its own width.
  void copy_adapters() {
    if (in_place || !options.lora) return;
    for (const Parameter& parameter : parameters)
      halves[parameter.name] = convert(parameter.value, DType::fp16);
  }

  Tensor value_of(const std::string& weight) const {
    const auto found = by_name.find(weight);
    return found == by_name.end() ? frozen.at(weight) : parameters[found->second].value;
  }
  Tensor half_value_of(const std::string& weight) const { return convert(value_of(weight), DType::fp16); }

  Graph with_adapters(Graph graph) const {
    std::vector<LoraModule> modules;
    return options.lora ? with_lora(graph, *options.lora, modules) : std::move(graph);
  }
  Graph layer_graph(const SegmentShape& shape) const { return with_adapters(training_layer(config, shape)); }

  void list_device_weights() {
    for (std::int64_t layer = 0; layer < config.layers; ++layer)
      for (const SegmentKind kind : {SegmentKind::attention, SegmentKind::feed_forward})
        for (const Port& weight : weight_ports(training_layer(config, shape_of(kind, layer))))
          held_by_device.push_back(weight.name);
  }

  // What the device holds itself.
  TensorMap layer_weights() const {
    TensorMap result;
    for (const std::string& name : held_by_device) result.emplace(name, half_value_of(name));
    return result;
  }

  SegmentShape shape_of(SegmentKind kind, std::int64_t layer) const {
    return {.kind = kind,
            .layer = layer,
            .tokens = options.sequence,
            .batch = options.batch,
            .layout = layout,
            .dtype = dtype};
  }

  void make_ends() {
    const Graph first = training_embedding(config, end_shape());
    const Graph last = with_adapters(training_loss(config, end_shape()));
    const Differentiated d_first = differentiate(first, {}, {}, trained());
    const std::string x_name = "x";
    const Differentiated d_last = differentiate(last, std::span(&x_name, 1), {}, trained());
    embedding = {.forward = on_host->compile(first),
                 .backward = compile_gradients(in_stages(d_first)),
                 .gradients = d_first.gradients,
                 .plane = 0};
    loss = {.forward = on_host->compile(last),
            .backward = on_host->compile(accumulating(d_last)),
            .gradients = d_last.gradients,
            .plane = 2 * static_cast<std::size_t>(config.layers)};
  }

  // Nothing if there is no weight to train.
  StageProgram compile_gradients(const Stages& stages) {
    return stages.gradients.empty() ? StageProgram() : on_host->compile(stages.weights);
  }

  void make_segments() {
    for (std::int64_t layer = 0; layer < config.layers; ++layer)
      for (const SegmentKind kind : {SegmentKind::attention, SegmentKind::feed_forward}) {
        shapes.push_back(shape_of(kind, layer));
        segments.push_back(make_segment(shapes.back()));
      }
  }

  Segment make_segment(const SegmentShape& shape) {
    const std::string x_name = "x";
    const Differentiated whole = differentiate(layer_graph(shape), std::span(&x_name, 1),
                                               in_place ? NodeTest() : shared_parts, trained());
    const Stages stages = in_stages(whole, in_place ? cheap : std::function<bool(const Node&)>());
    return {.name = str("layer ", shape.layer, ' ', segment_name(shape.kind)),
            .forward = on_device->compile(stages.forward),
            .backward = on_device->compile(stages.backward),
            .weights = compile_gradients(stages),
            .gradients = stages.gradients,
            .taps = {}};
  }

  void make_planes() {
    const TensorType plane{dtype, activation_shape(layout, config.width, tokens())};
    for (std::size_t i = 0; i <= segments.size(); ++i) {
      x.emplace_back(plane);
      // Gradients that wait keep what they read; others need two planes, to and fro.
      dx.push_back(in_place && i >= 2 ? dx[i - 2] : Tensor(plane));
    }
    const RotaryAngles angles = rotary_angles(config, shape_of(SegmentKind::attention, 0));
    if (!angles.cos.empty()) {
      shared["cos"] = angles.cos;
      shared["sin"] = angles.sin;
    }
    shared["positions"] = Tensor::from_ints(positions_of(options)).clone();
    shared["loss"] = Tensor({DType::fp32, {1}});
    shared["d_loss"] = Tensor({DType::fp32, {1}});
    for (Segment& segment : segments) {
      for (const Port& port : segment.forward.program->outputs())
        if (port.name != "hidden") segment.taps.emplace(port.name, Tensor(port.type));
      for (const Port& port : segment.backward.program->outputs())
        if (port.name != "d_x")
          (in_place ? shared : segment.taps).emplace(cut_name(segment, port), Tensor(port.type));
    }
  }

  // Segments of the same program share cuts where nothing waits.
  std::string cut_name(const Segment& segment, const Port& port) const {
    return in_place ? str(port.name, '@', segment.backward.program.get()) : port.name;
  }

  // -- running ------------------------------------------------------------------------------------

  Tensor gradient_memory(const std::vector<GradientPort>& gradients, const Port& port) const {
    const auto found = std::ranges::find(gradients, port.name, &GradientPort::port);
    return found == gradients.end() ? Tensor() : parameters[by_name.at(found->weight)].gradient;
  }

  std::function<Tensor(const std::string&)> values() const {
    return [this](const std::string& weight) { return value_of(weight); };
  }

  // The same as the device takes them.
  std::function<Tensor(const std::string&)> device_values() const {
    if (in_place) return values();
    return [this](const std::string& weight) { return halves.at(weight); };
  }

  // What the ports of segment i are bound to.
  Memory memory_of(std::size_t i) {
    return [this, i](const Port& port) -> Tensor {
      const Segment& segment = segments[i];
      if (port.name == "x") return x[i];
      if (port.name == "hidden") return x[i + 1];
      if (port.name == "d_x") return dx[i];
      if (port.name == "d_hidden") return dx[i + 1];
      if (const Tensor gradient = gradient_memory(segment.gradients, port); !gradient.empty())
        return gradient;
      if (const auto tap = segment.taps.find(port.name); tap != segment.taps.end()) return tap->second;
      if (const auto cut = shared.find(cut_name(segment, port)); cut != shared.end()) return cut->second;
      return shared.at(port.name);
    };
  }

  Memory memory_of(const End& end, const Tensor& ids, const Tensor& targets) {
    return [&, this](const Port& port) -> Tensor {
      if (port.name == "ids") return ids;
      if (port.name == "targets") return targets;
      if (port.name == "x") return x[end.plane];
      if (port.name == "d_x") return dx[end.plane];
      if (const Tensor gradient = gradient_memory(end.gradients, port); !gradient.empty()) return gradient;
      return shared.at(port.name);
    };
  }

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

  double accumulate(const Tensor& ids_in, const Tensor& targets_in) {
    check_batch(ids_in, targets_in);
    const Tensor ids = ids_in.reshaped({tokens()}), targets = targets_in.reshaped({tokens()});
    const std::int64_t counted = count(targets);
    if (counted == 0) fail("train: no target of the micro-batch counts");
    run_forward(ids, targets);
    {
      const Timed timed(times.host);
      shared.at("d_loss").as<float>()[0] =
          static_cast<float>(state.loss_scale / static_cast<double>(tokens()));
      run_stage(loss.backward, memory_of(loss, ids, targets), values());
    }
    const auto sum = static_cast<double>(shared.at("loss").as<float>()[0]);
    if (!std::isfinite(sum)) fail_not_finite(sum);
    run_backward();
    if (!embedding.gradients.empty()) {
      const Timed timed(times.host);
      run_stage(embedding.backward, memory_of(embedding, ids, targets), values());
    }
    accumulated.loss += sum;
    accumulated.targets += counted;
    return sum / static_cast<double>(counted);
  }

  void run_backward() {
    for (std::size_t i = segments.size(); i-- > 0;) {
      {
        const Timed timed(times.device);
        run_stage(segments[i].backward, memory_of(i), device_values());
      }
      if (segments[i].gradients.empty()) continue;
      const Timed timed(times.gradients);
      const auto gradients = [this, i] { run_stage(segments[i].weights, memory_of(i), values()); };
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
    run_forward(ids, targets);
    times = before;
    run_stage(loss.forward, memory_of(loss, ids, targets), values());
    return static_cast<double>(shared.at("loss").as<float>()[0]) / static_cast<double>(counted);
  }

  [[noreturn]] void fail_not_finite(double sum) {
    clear_gradients(parameters);
    accumulated = {};
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
      report.gradient_norm = gradient_norm(parameters) * factor;
    }
    report.skipped = !std::isfinite(report.gradient_norm);
    if (report.skipped)
      skip();
    else
      apply(learning_rate, factor * clipping(report.gradient_norm));
    accumulated = {};
    report.times = std::exchange(times, {});
    return report;
  }

  double clipping(double norm) const {
    return options.clip > 0.0 && norm > options.clip ? options.clip / (norm + 1e-6) : 1.0;
  }

  void skip() {
    const std::string first = first_infinite_gradient();
    clear_gradients(parameters);
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

  void bring_over() {
    if (in_place) return;
    if (options.lora)
      copy_adapters();
    else
      device_weights->update(layer_weights());
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
      SegmentShape shape = shapes[i];
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
  std::size_t total = bytes_of(impl_->shared);
  for (const Segment& segment : impl_->segments) total += bytes_of(segment.taps);
  for (const Tensor& plane : impl_->x) total += plane.bytes();
  return total + (impl_->in_place ? 2 : impl_->dx.size()) * impl_->dx.front().bytes();
}
std::int64_t Trainer::checks() const {
  return impl_->checks;
}

}  // namespace orion
