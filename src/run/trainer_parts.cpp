#include "run/trainer_parts.h"

#include "orion/error.h"
#include "run/planes.h"

#include <algorithm>
#include <utility>

namespace orion {
namespace {

// Tokens whose logits are there at once. Fewer cost time, as the head's weights and their gradients are read
// for each part: 128 take 1 % more of a step.
constexpr std::int64_t most_loss_tokens = 256;

void check_dropout(const TrainOptions& options) {
  const Dropout& dropout = options.dropout;
  if (!(dropout.probability >= 0.0 && dropout.probability < 1.0))
    fail("train: a dropout of ", dropout.probability, ", from 0 to below 1 is needed");
  if (dropout.probability > 0.0 && !options.lora) fail("train: dropout is for adapters, and none is trained");
  if (dropout.process < 0 || dropout.process >= dropout.processes)
    fail("train: process ", dropout.process, " of ", dropout.processes);
}

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
  check_dropout(options);
}

std::vector<std::int32_t> positions_of(const TrainOptions& options) {
  std::vector<std::int32_t> positions;
  for (std::int64_t b = 0; b < options.batch; ++b)
    for (std::int64_t s = 0; s < options.sequence; ++s) positions.push_back(static_cast<std::int32_t>(s));
  return positions;
}

Tensor mask_memory(const std::vector<Mask>& masks, std::string_view port) {
  const auto found = std::ranges::find(masks, port, &Mask::port);
  return found == masks.end() ? Tensor() : found->value;
}

}  // namespace

TrainerParts::TrainerParts(ModelConfig wanted_config, const WeightSource& weights, Device& layers,
                           Device& rest, TrainOptions wanted)
    : config(std::move(wanted_config)),
      options(std::move(wanted)),
      device(layers),
      host(rest),
      in_place(layers.shares_host_memory()),
      layout(in_place ? Layout::rows : Layout::columns),
      dtype(in_place ? DType::fp32 : DType::fp16) {
  check_options(config, options);
  if (!host.shares_host_memory()) fail("train: the host device is ", host.name(), ", cpu is needed");
  if (options.products != MatrixFormat::exact && (options.products != MatrixFormat::bf16 || !in_place))
    fail("train: products in ", options.products, ": on cpu exact or bf16, elsewhere exact is needed");
  load(weights);
  make_embedding();
  make_segments();
  make_losses();
  make_planes();
}

// -- weights --------------------------------------------------------------------------------------

void TrainerParts::load(const WeightSource& weights) {
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

void TrainerParts::add_parameter(const std::string& name, const Tensor& value) {
  by_name[name] = parameters.size();
  parameters.push_back({name, value.clone(), Tensor(value.type()), Tensor(value.type()), Tensor(value.type()),
                        value.shape().rank() > 1});
}

void TrainerParts::load_adapters(const WeightSource& weights) {
  for (const LoraModule& module : lora_modules(config, *options.lora))
    for (const Port& port : {Port{module.a(), {DType::fp32, {options.lora->rank, module.in}}},
                             Port{module.b(), {DType::fp32, {module.out, options.lora->rank}}}})
      add_parameter(port.name, load_weight(weights, port));
}

WeightTest TrainerParts::trained() const {
  return [this](std::string_view weight) { return by_name.contains(weight); };
}

// Adapters are inputs of the device's programs, in its own width.
void TrainerParts::copy_adapters() {
  if (in_place || !options.lora) return;
  for (const Parameter& parameter : parameters)
    halves[parameter.name] = convert(parameter.value, DType::fp16);
}

void TrainerParts::bring_over() {
  if (in_place) return;
  if (options.lora)
    copy_adapters();
  else
    device_weights->update(layer_weights());
}

void TrainerParts::list_device_weights() {
  for (std::int64_t layer = 0; layer < config.layers; ++layer)
    for (const SegmentKind kind : {SegmentKind::attention, SegmentKind::feed_forward})
      for (const Port& weight : weight_ports(training_layer(config, shape_of(kind, layer))))
        held_by_device.push_back(weight.name);
}

// What the device holds itself.
TensorMap TrainerParts::layer_weights() const {
  TensorMap result;
  for (const std::string& name : held_by_device) result.emplace(name, half_value_of(name));
  return result;
}

Tensor TrainerParts::value_of(const std::string& weight) const {
  const auto found = by_name.find(weight);
  return found == by_name.end() ? frozen.at(weight) : parameters[found->second].value;
}

std::function<Tensor(const std::string&)> TrainerParts::values() const {
  return [this](const std::string& weight) { return value_of(weight); };
}

std::function<Tensor(const std::string&)> TrainerParts::device_values() const {
  if (in_place) return values();
  return [this](const std::string& weight) { return halves.at(weight); };
}

// -- programs -------------------------------------------------------------------------------------

EndShape TrainerParts::end_shape(std::int64_t count) const {
  return {.tokens = count, .layout = layout, .dtype = dtype};
}

SegmentShape TrainerParts::shape_of(SegmentKind kind, std::int64_t layer) const {
  return {.kind = kind,
          .layer = layer,
          .tokens = options.sequence,
          .batch = options.batch,
          .layout = layout,
          .dtype = dtype};
}

// The graph with adapters, and memory for the masks that it reads, of all tokens. Parameters are A and B in
// turn.
Graph TrainerParts::with_adapters(Graph graph, std::vector<Mask>& masks) const {
  if (!options.lora) return graph;
  const bool masked = options.dropout.probability > 0.0;
  std::vector<LoraModule> modules;
  Graph adapted = with_lora(graph, *options.lora, modules, masked);
  for (std::size_t i = 0; masked && i < modules.size(); ++i) {
    const std::string port = str("mask_", i);
    if (!mask_memory(masks, port).empty()) continue;
    TensorType type = adapted.node(*adapted.find(port)).type;
    if (layout == Layout::rows) type.shape.set(0, tokens());
    masks.push_back({port, by_name.at(modules[i].a()) / 2, Tensor(type)});
  }
  return adapted;
}

void TrainerParts::make_embedding() {
  const Graph graph = training_embedding(config, end_shape(tokens()));
  const Differentiated whole = differentiate(graph, {}, {}, trained());
  embedding = {.plane = 0,
               .first = 0,
               .count = tokens(),
               .forward = on_host->compile(graph),
               .backward = compile_gradients(in_stages(whole))};
}

void TrainerParts::make_losses() {
  const std::int64_t most = in_place ? most_loss_tokens : tokens();
  const std::int64_t parts = (tokens() + most - 1) / most;
  const std::int64_t size = (tokens() + parts - 1) / parts;
  for (std::int64_t first = 0; first < tokens(); first += size)
    losses.push_back(make_loss(first, std::min(size, tokens() - first)));
}

End TrainerParts::make_loss(std::int64_t first, std::int64_t count) {
  const Graph graph = with_adapters(training_loss(config, end_shape(count)), loss_masks);
  const std::string x_name = "x";
  const Differentiated whole = differentiate(graph, std::span(&x_name, 1), {}, trained());
  return {.plane = segments.size(),
          .first = first,
          .count = count,
          .forward = on_host->compile(graph),
          .backward = on_host->compile(accumulating(whole), whole.gradients)};
}

// Nothing if there is no weight to train, or if the backward stage gives its gradient.
GradientStage TrainerParts::compile_gradients(const Stages& stages) {
  if (stages.weights.outputs().empty()) return {};
  return on_host->compile(stages.weights, stages.gradients);
}

void TrainerParts::make_segments() {
  for (std::int64_t layer = 0; layer < config.layers; ++layer)
    for (const SegmentKind kind : {SegmentKind::attention, SegmentKind::feed_forward})
      segments.push_back(make_segment(shape_of(kind, layer)));
}

Segment TrainerParts::make_segment(const SegmentShape& shape) {
  Segment segment;
  segment.name = str("layer ", shape.layer, ' ', segment_name(shape.kind));
  segment.shape = shape;
  const Graph graph = with_adapters(training_layer(config, shape), segment.masks);
  const Stages stages = layer_stages(graph, in_place, trained());
  segment.forward = on_device->compile(stages.forward);
  segment.weights = compile_gradients(stages);
  const bool apart = !segment.weights.gradients.empty();
  segment.backward =
      on_device->compile(stages.backward, apart ? std::vector<GradientPort>() : stages.gradients);
  return segment;
}

// -- memory ---------------------------------------------------------------------------------------

void TrainerParts::make_planes() {
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
    for (const Port& port : segment.backward.adding.program->outputs())
      if (port.name.starts_with("cut_")) segment.taps.emplace(port.name, Tensor(port.type));
  }
}

Tensor TrainerParts::gradient_memory(const GradientStage& stage, const Port& port) const {
  const auto found = std::ranges::find(stage.gradients, port.name, &GradientPort::port);
  return found == stage.gradients.end() ? Tensor() : parameters[by_name.at(found->weight)].gradient;
}

Memory TrainerParts::memory_of(std::size_t i) const {
  return [this, i](const Port& port) -> Tensor {
    const Segment& segment = segments[i];
    if (port.name == "x") return x[i];
    if (port.name == "hidden") return x[i + 1];
    if (port.name == "d_x") return dx[i];
    if (port.name == "d_hidden") return dx[i + 1];
    for (const GradientStage* stage : {&segment.backward, &segment.weights})
      if (const Tensor gradient = gradient_memory(*stage, port); !gradient.empty()) return gradient;
    if (const Tensor mask = mask_memory(segment.masks, port.name); !mask.empty()) return mask;
    if (const auto tap = segment.taps.find(port.name); tap != segment.taps.end()) return tap->second;
    return shared.at(port.name);
  };
}

Memory TrainerParts::memory_of(const End& end, const Tensor& ids, const Tensor& targets) const {
  return [&, this](const Port& port) -> Tensor {
    if (const Tensor plane = end_plane(end, port, ids, targets); !plane.empty())
      return end.count == tokens() ? plane : first_axis(plane, end.first, end.count);
    if (const Tensor gradient = gradient_memory(end.backward, port); !gradient.empty()) return gradient;
    return shared.at(port.name);
  };
}

// What has a row or column for each token of the micro-batch.
Tensor TrainerParts::end_plane(const End& end, const Port& port, const Tensor& ids,
                               const Tensor& targets) const {
  if (port.name == "ids") return ids;
  if (port.name == "targets") return targets;
  if (port.name == "x") return x[end.plane];
  if (port.name == "d_x") return dx[end.plane];
  return mask_memory(loss_masks, port.name);
}

std::size_t TrainerParts::activation_bytes() const {
  std::size_t total = bytes_of(shared) + (in_place ? 2 : dx.size()) * dx.front().bytes();
  for (const Tensor& plane : x) total += plane.bytes();
  for (const Segment& segment : segments) {
    total += bytes_of(segment.taps);
    for (const Mask& mask : segment.masks) total += mask.value.bytes();
  }
  for (const Mask& mask : loss_masks) total += mask.value.bytes();
  return total;
}

}  // namespace orion
