// The CPU device's weights: each kept only in the forms that programs read.
#pragma once

#include "cpu/kernels.h"
#include "orion/device.h"
#include "orion/packed_weights.h"

#include <mutex>

namespace orion::cpu {

/// How a program reads a weight.
enum class Form : std::uint8_t {
  natural,    // as given, row-major, in its own type
  wide,       // row-major fp32 (what the elementwise kernels read); natural for ints and bools
  panels_nk,  // packed for x W^T in the format of the weights; the tensor is W (N, K...)
  panels_kn,  // packed for x W; the tensor is W (K, N)
};

class CpuWeights final : public DeviceWeights {
 public:
  explicit CpuWeights(const TensorMap& weights, MatrixFormat format = MatrixFormat::exact);
  /// Reads them where they are.
  explicit CpuWeights(const PackedWeights& weights);
  MatrixFormat format() const { return format_; }

  std::vector<Port> list() const override;
  Tensor read(std::string_view name) const override;
  void update(const TensorMap& changes) override;
  std::size_t bytes() const override;
  PackedWeights packed() const override;

  /// Declares that a graph uses `name` as `type`, converting it if it was given in another float width.
  void require(std::string_view name, const TensorType& type);
  /// Whether some program already reads the weight in this form.
  bool has(std::string_view name, Form form) const;
  /// The weight row-major, made at first use. The address stays the same through updates.
  const void* rows(std::string_view name, Form form);
  /// The weight in a panel form, likewise. `by_rows`: it is a table of rows as well.
  Panels panels(std::string_view name, Form form, bool by_rows);

 private:
  struct Room {
    Tensor memory;
    Panels panels;  // of a panel form
  };
  struct Entry {
    TensorType type;
    Tensor given;  // until the first form is made; of any float width
    std::map<Form, Room> forms;
    bool lent = false;  // the memory is the caller's: read in place, never written
  };

  Room& made(Entry& entry, std::string_view name, Form form, MatrixFormat format);
  static void fill(const Tensor& value, Form form, const Room& room);
  static Tensor value_of(const Entry& entry);
  Entry& entry(std::string_view name);
  const Entry& entry(std::string_view name) const;

  MatrixFormat format_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace orion::cpu
