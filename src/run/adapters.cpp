#include "orion/adapters.h"

#include "orion/error.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace orion {
namespace {

constexpr std::int64_t least_rank = 8;

void check_tensor(const TensorMap& tensors, const std::string& name, const Shape& shape) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail("adapter: no tensor '", name, "', which is ", shape);
  const Tensor& value = found->second;
  if (!is_float(value.dtype()) || value.shape() != shape)
    fail("adapter: '", name, "' is ", value.type(), ", a float of ", shape, " is needed");
  const Tensor wide = convert(value, DType::fp32);
  for (const float element : wide.as<float>())
    if (!std::isfinite(element)) fail("adapter: '", name, "' holds ", element);
}

// Copies rows of `from` (rows, cols) into the corner of `to`, times `factor`.
void place(const Tensor& from, const Tensor& to, float factor) {
  const std::int64_t cols = from.shape()[1], stride = to.shape()[1];
  for (std::int64_t i = 0; i < from.shape()[0]; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      to.as<float>()[static_cast<std::size_t>(i * stride + j)] =
          from.as<float>()[static_cast<std::size_t>(i * cols + j)] * factor;
}

// In the programs' width; a value beyond fp16's range would become infinite.
Tensor narrowed(const Tensor& value, DType dtype, const std::string& name) {
  const Tensor result = convert(value, dtype);
  if (dtype == DType::fp32) return result;
  for (std::int64_t i = 0; i < result.shape().size(); ++i)
    if (!std::isfinite(result.at(i)))
      fail("adapter: '", name, "' times its scale is ", value.at(i), " at element ", i,
           ", beyond fp16's range");
  return result;
}

}  // namespace

Adapter make_adapter(const ModelConfig& config, const LoraShape& shape, const TensorMap& tensors) {
  if (!std::isfinite(shape.scale)) fail("adapter: a scale of ", shape.scale);
  Adapter adapter{.shape = shape, .modules = lora_modules(config, shape), .tensors = {}};
  for (const LoraModule& module : adapter.modules) {
    check_tensor(tensors, module.a(), {shape.rank, module.in});
    check_tensor(tensors, module.b(), {module.out, shape.rank});
    for (const std::string& name : {module.a(), module.b()})
      adapter.tensors.emplace(name, convert(tensors.find(name)->second, DType::fp32));
  }
  for (const auto& [name, value] : tensors)
    if (!adapter.tensors.contains(name))
      fail("adapter: '", name, "' belongs to no module that the adapter's targets name in this model");
  return adapter;
}

Tensor merged_weight(const Adapter& adapter, const LoraModule& module, const Tensor& weight) {
  const Tensor& a = adapter.tensors.find(module.a())->second;
  const Tensor& b = adapter.tensors.find(module.b())->second;
  const Tensor result = convert(weight, DType::fp32).clone();
  const bool transposed = module.transposed;
  const Shape wanted = transposed ? Shape{module.in, module.out} : Shape{module.out, module.in};
  if (weight.shape() != wanted)
    fail("adapter: weight '", module.name, ".weight' is ", weight.type(), ", ", wanted, " is needed");
  const auto rank = static_cast<std::size_t>(adapter.shape.rank);
  const auto in = static_cast<std::size_t>(module.in), out = static_cast<std::size_t>(module.out);
  std::vector<double> row(in);  // of B A
  for (std::size_t o = 0; o < out; ++o) {
    std::ranges::fill(row, 0.0);
    for (std::size_t r = 0; r < rank; ++r) {
      const double factor = adapter.shape.scale * static_cast<double>(b.as<float>()[o * rank + r]);
      for (std::size_t i = 0; i < in; ++i) row[i] += factor * static_cast<double>(a.as<float>()[r * in + i]);
    }
    for (std::size_t i = 0; i < in; ++i)
      result.as<float>()[transposed ? i * out + o : o * in + i] += static_cast<float>(row[i]);
  }
  return result;
}

Graph with_adapter_inputs(const Graph& graph, const LoraShape& capacity, std::vector<WeightPort>& ports) {
  if (capacity.targets.empty()) return graph;
  std::vector<LoraModule> modules;
  const Graph adapted = with_lora(graph, capacity, modules);
  return weights_as_inputs(adapted, ports, [&](std::string_view weight) {
    return std::ranges::any_of(modules,
                               [&](const LoraModule& m) { return weight == m.a() || weight == m.b(); });
  });
}

void write_packed(const AdapterValues& adapter, const PackedLora& packed, const Tensor& memory) {
  const std::size_t size = dtype_size(memory.dtype());
  const std::size_t stride = static_cast<std::size_t>(packed.width) * size;
  const auto rank = static_cast<std::size_t>(packed.rank);
  for (const PackedLora::Part& part : packed.parts) {
    const Tensor& from = adapter.tensors.at(part.tensor);
    const std::byte* data = from.data();
    std::byte* to = memory.data() + static_cast<std::size_t>(part.begin) * size;
    const auto width = static_cast<std::size_t>(part.width);
    const bool is_a = part.tensor.ends_with(".lora_A.weight");
    for (std::size_t r = 0; r < rank; ++r)
      if (is_a)
        std::memcpy(to + r * stride, data + r * width * size, width * size);
      else
        for (std::size_t o = 0; o < width; ++o)
          std::memcpy(to + r * stride + o * size, data + (o * rank + r) * size, size);
  }
}

void AdapterSet::add(const std::string& name, const LoraShape& shape, const TensorMap& tensors) {
  if (name.empty()) fail("adapter: a name is needed");
  Adapter adapter = make_adapter(config_, shape, tensors);
  const std::lock_guard lock(mutex_);
  if (resident_.contains(name)) fail("adapter '", name, "' is loaded already; unload it first");
  grow(adapter.shape);
  resident_.emplace(name, Resident{std::move(adapter)});
}

void AdapterSet::reserve(const LoraShape& capacity) {
  const std::lock_guard lock(mutex_);
  grow(capacity);
}

void AdapterSet::grow(const LoraShape& needed) {
  const auto rank = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(needed.rank)));
  LoraShape wider = capacity_;
  for (const LoraModule& module : lora_modules(config_, needed))
    if (std::ranges::count(wider.targets, module.name) == 0) wider.targets.push_back(module.name);
  std::ranges::sort(wider.targets);
  wider.rank = std::max({wider.rank, rank, least_rank});
  if (wider == capacity_) return;
  modules_ = lora_modules(config_, wider);
  capacity_ = std::move(wider);
  none_ = nullptr;
  for (auto& [name, resident] : resident_) resident.inputs = nullptr;
}

void AdapterSet::remove(std::string_view name) {
  const std::lock_guard lock(mutex_);
  find(name);
  if (active_.name == name) active_ = {};
  resident_.erase(resident_.find(name));
}

std::vector<std::string> AdapterSet::names() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, resident] : resident_) names.push_back(name);
  return names;
}

AdapterSet::Resident& AdapterSet::find(std::string_view name) {
  const auto found = resident_.find(name);
  if (found != resident_.end()) return found->second;
  std::string known;
  for (const auto& [other, resident] : resident_) known += (known.empty() ? "; loaded: " : ", ") + other;
  fail("no adapter '", name, "'", known.empty() ? "; none is loaded" : known);
}

void AdapterSet::activate(AdapterChoice choice) {
  const std::lock_guard lock(mutex_);
  used(choice);
  active_ = std::move(choice);
}

AdapterChoice AdapterSet::active() const {
  const std::lock_guard lock(mutex_);
  return active_;
}

LoraShape AdapterSet::capacity() const {
  const std::lock_guard lock(mutex_);
  return capacity_;
}

AdapterInputs AdapterSet::inputs() {
  const std::lock_guard lock(mutex_);
  return used(active_);
}

AdapterInputs AdapterSet::inputs(const AdapterChoice& choice) {
  const std::lock_guard lock(mutex_);
  return used(choice);
}

AdapterInputs AdapterSet::used(const AdapterChoice& choice) {
  if (!std::isfinite(choice.scale)) fail("adapter: a scale of ", choice.scale);
  if (!choice.name) return none_ = none_ != nullptr ? none_ : made(nullptr, 1.0);
  Resident& resident = find(*choice.name);
  if (resident.inputs == nullptr || resident.scale != choice.scale) {
    resident.inputs = made(&resident.adapter, choice.scale);
    resident.scale = choice.scale;
  }
  return resident.inputs;
}

AdapterInputs AdapterSet::made(const Adapter* adapter, double scale) const {
  auto inputs = std::make_shared<AdapterValues>();
  inputs->capacity = capacity_;
  for (const LoraModule& module : modules_) {
    const Tensor a({DType::fp32, {capacity_.rank, module.in}});
    const Tensor b({DType::fp32, {module.out, capacity_.rank}});
    if (adapter != nullptr && adapter->tensors.contains(module.a())) {
      place(adapter->tensors.find(module.a())->second, a, 1.0F);
      place(adapter->tensors.find(module.b())->second, b, static_cast<float>(adapter->shape.scale * scale));
    }
    inputs->tensors.emplace(module.a(), narrowed(a, dtype_, module.a()));
    inputs->tensors.emplace(module.b(), narrowed(b, dtype_, module.b()));
  }
  return inputs;
}

}  // namespace orion
