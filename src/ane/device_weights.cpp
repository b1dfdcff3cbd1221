#include "ane/device_weights.h"

#include "ane/program.h"
#include "base/narrow.h"
#include "orion/error.h"

namespace orion::ane {

std::vector<Port> AneWeights::list() const {
  std::vector<Port> ports;
  for (const auto& [name, tensor] : values_) ports.push_back({name, tensor.type()});
  return ports;
}

Tensor AneWeights::read(std::string_view name) const {
  return stored(name).clone();
}

const Tensor& AneWeights::stored(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) fail("no weight '", name, "'");
  return found->second;
}

Tensor AneWeights::value(std::string_view name, const TensorType& type) const {
  const auto found = values_.find(name);
  if (found == values_.end()) fail("no weight '", name, "' was given: ", type, " is needed");
  const TensorType& given = found->second.type();
  if (given.shape != type.shape || is_float(given.dtype) != is_float(type.dtype))
    fail("weight '", name, "' is ", given, ", the graph wants ", type);
  return found->second;
}

std::size_t AneWeights::bytes() const {
  std::size_t total = 0;
  for (const auto& [name, tensor] : values_) total += tensor.bytes();
  return total;
}

TensorMap AneWeights::checked(const TensorMap& changes) const {
  TensorMap result;
  for (const auto& [name, tensor] : changes) {
    const TensorType& type = stored(name).type();
    if (tensor.shape() != type.shape || is_float(tensor.dtype()) != is_float(type.dtype))
      fail("weight '", name, "' is ", type, ", the new value is ", tensor.type());
    if (type.dtype == DType::fp16) check_fits_half(tensor, name, half_is_all);
    result[name] = convert(tensor, type.dtype);
  }
  return result;
}

void AneWeights::update(const TensorMap& changes) {
  TensorMap incoming = checked(changes);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : incoming) names.push_back(name);
  const auto exchange = [&] {
    for (auto& [name, tensor] : incoming) std::swap(values_.at(name), tensor);
  };
  exchange();
  std::size_t done = 0;
  try {
    for (; done < programs_.size(); ++done) programs_[done]->refresh(names);
  } catch (const std::exception& error) {
    exchange();
    give_back(std::span(programs_).first(done), names, error);
    throw;
  }
}

void AneWeights::give_back(std::span<AneProgram* const> programs, std::span<const std::string> names,
                           const std::exception& reason) {
  std::string failures;
  for (AneProgram* program : programs) {
    try {
      program->refresh(names);
    } catch (const std::exception& error) {
      program->mark_stale(names);
      failures += str("; a program that had taken the new weights gets the old ones at its next run, for ",
                      error.what());
    }
  }
  if (!failures.empty()) throw DeviceError(reason.what() + failures);
}

}  // namespace orion::ane
