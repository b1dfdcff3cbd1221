#include "run/planes.h"

#include "base/f16.h"

namespace orion {

Tensor rows_of(const Tensor& plane, std::int64_t begin, std::int64_t count) {
  const std::int64_t channels = plane.shape()[1];
  const std::int64_t columns = plane.shape()[3];
  const Tensor rows({plane.dtype(), {count, channels}});
  const std::uint16_t* from = plane.as<std::uint16_t>().data() + begin;
  std::uint16_t* to = rows.as<std::uint16_t>().data();
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t i = 0; i < count; ++i) to[i * channels + c] = from[c * columns + i];
  return rows;
}

void write_columns(const Tensor& rows, std::int64_t begin, std::int64_t count, const Tensor& plane) {
  const std::int64_t channels = plane.shape()[1];
  const std::int64_t columns = plane.shape()[3];
  const std::uint16_t* from = rows.as<std::uint16_t>().data() + begin * channels;
  std::uint16_t* to = plane.as<std::uint16_t>().data();
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t i = 0; i < count; ++i) to[c * columns + i] = from[i * channels + c];
}

void store_logits(const Tensor& plane, std::int64_t count, const Tensor& logits, std::int64_t row,
                  std::int64_t first) {
  const std::int64_t tokens = plane.shape()[1];
  const std::int64_t columns = plane.shape()[3];
  const std::int64_t vocab = logits.shape()[1];
  const std::uint16_t* from = plane.as<std::uint16_t>().data();
  float* to = logits.as<float>().data() + row * vocab + first;
  for (std::int64_t token = 0; token < tokens; ++token)
    for (std::int64_t i = 0; i < count; ++i) to[i * vocab + token] = half_to_float(from[token * columns + i]);
}

void store_columns(const Tensor& plane, std::int64_t count, const Tensor& cache, std::int64_t position) {
  const std::int64_t rows = cache.shape()[2];
  const std::int64_t size = cache.shape()[3];
  const std::int64_t columns = plane.shape()[3];
  for (std::int64_t g = 0; g < cache.shape()[1]; ++g) {
    const std::uint16_t* from = plane.as<std::uint16_t>().data() + g * size * columns;
    std::uint16_t* to = cache.as<std::uint16_t>().data() + (g * rows + position) * size;
    for (std::int64_t d = 0; d < size; ++d)
      for (std::int64_t i = 0; i < count; ++i) to[i * size + d] = from[d * columns + i];
  }
}

Tensor unowned(const Tensor& memory) {
  return Tensor::view(memory.type(), memory.data());
}

Tensor first_axis(const Tensor& tensor, std::int64_t begin, std::int64_t count) {
  TensorType type = tensor.type();
  type.shape.set(0, 1);
  const std::size_t offset = type.bytes() * static_cast<std::size_t>(begin);
  type.shape.set(0, count);
  return Tensor::view(type, tensor.data() + offset);
}

}  // namespace orion
