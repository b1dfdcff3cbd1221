// What a trainer is made of: parameters, programs for the layers and the ends, and the memory between them.
#pragma once

#include "orion/segments.h"
#include "orion/train.h"
#include "run/train_stages.h"

namespace orion {

/// What dropout multiplies the input of a module's A with.
struct Mask {
  std::string port;
  std::uint64_t module = 0;  // counted through the model in the order of use
  Tensor value;
};

/// Half a layer: its programs, and the values that its backward pass reads.
struct Segment {
  std::string name;
  SegmentShape shape;
  StageProgram forward;
  GradientStage backward;
  GradientStage weights;  // none where the backward stage gives the weights' gradients
  std::vector<Mask> masks;
  TensorMap taps;  // and, where gradients wait, cuts
};

/// What stands before or after the layers, for some of the tokens.
struct End {
  std::size_t plane = 0;  // of x
  std::int64_t first = 0, count = 0;
  StageProgram forward;
  GradientStage backward;
};

struct TrainerParts {
  TrainerParts(ModelConfig config, const WeightSource& weights, Device& device, Device& host,
               TrainOptions options);

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

  End embedding;
  std::vector<Segment> segments;
  std::vector<End> losses;       // one after the other: logits are large
  std::vector<Mask> loss_masks;  // of all tokens
  TensorMap shared;              // planes of all segments alike: cos, sin, positions
  std::vector<Tensor> x;         // before each segment, and after the last
  std::vector<Tensor> dx;        // the same for gradients

  /// B S
  std::int64_t tokens() const { return options.batch * options.sequence; }
  Tensor value_of(const std::string& weight) const;
  Tensor half_value_of(const std::string& weight) const { return convert(value_of(weight), DType::fp16); }
  /// A weight where the host's programs, or the device's, take it as an input.
  std::function<Tensor(const std::string&)> values() const;
  std::function<Tensor(const std::string&)> device_values() const;
  /// The memory of the ports of segment i, or of an end.
  Memory memory_of(std::size_t i) const;
  Memory memory_of(const End& end, const Tensor& ids, const Tensor& targets) const;
  /// New values of the parameters onto the device.
  void bring_over();
  std::size_t activation_bytes() const;

 private:
  void load(const WeightSource& weights);
  void add_parameter(const std::string& name, const Tensor& value);
  void load_adapters(const WeightSource& weights);
  void copy_adapters();
  TensorMap layer_weights() const;
  void list_device_weights();
  WeightTest trained() const;

  EndShape end_shape(std::int64_t count) const;
  SegmentShape shape_of(SegmentKind kind, std::int64_t layer) const;
  Graph with_adapters(Graph graph, std::vector<Mask>& masks) const;
  void make_embedding();
  void make_losses();
  End make_loss(std::int64_t first, std::int64_t count);
  void make_segments();
  Segment make_segment(const SegmentShape& shape);
  GradientStage compile_gradients(const Stages& stages);
  void make_planes();

  Tensor end_plane(const End& end, const Port& port, const Tensor& ids, const Tensor& targets) const;
  Tensor gradient_memory(const GradientStage& stage, const Port& port) const;
};

}  // namespace orion
