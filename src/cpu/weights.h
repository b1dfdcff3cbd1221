// The CPU device's weights: each kept only in the forms that programs read.
#pragma once

#include "cpu/kernels.h"
#include "orion/device.h"

#include <mutex>

namespace orion::cpu {

/// How a program reads a weight.
enum class Form : std::uint8_t {
  natural,    // as given, row-major, in its own type
  wide,       // row-major fp32 (what the elementwise kernels read); natural for ints and bools
  panels_nk,  // packed for x W^T; the tensor is W (N, K...)
  panels_kn,  // packed for x W; the tensor is W (K, N)
};

class CpuWeights final : public DeviceWeights {
 public:
  explicit CpuWeights(const TensorMap& weights);

  std::vector<Port> list() const override;
  Tensor read(std::string_view name) const override;
  void update(const TensorMap& changes) override;
  std::size_t bytes() const override;

  /// Declares that a graph uses `name` as `type`, converting it if it was given in another float width.
  void require(std::string_view name, const TensorType& type);
  /// Whether some program already reads the weight in this form.
  bool has(std::string_view name, Form form) const;
  /// The weight in a form, made at first use. The address stays the same through updates.
  const void* form(std::string_view name, Form form);

 private:
  struct Entry {
    TensorType type;
    Tensor given;  // until the first form is made
    std::map<Form, Tensor> forms;
    bool used = false;
  };

  Entry& entry(std::string_view name);
  const Entry& entry(std::string_view name) const;

  mutable std::mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_;
};

/// The panels of a weight of `shape` in a panel form: N outputs, K inputs, no address yet.
Panels panels_of(const TensorType& type, Form form);

}  // namespace orion::cpu
