// The host's side of a legal program's inputs and outputs.
#include "ane/legal_program.h"
#include "orion/error.h"

#include <algorithm>
#include <cstring>

namespace orion::ane {
namespace {

// Calls body(offset in the source, offset in the part, bytes) for every run of neighbouring elements.
template <class Body>
void for_each_run(const PortUse& use, Body&& body) {
  const TensorType part = part_type(use);
  const auto size = dtype_size(part.dtype);
  if (use.count == 0) return body(std::size_t{0}, std::size_t{0}, part.bytes());
  const auto inner = static_cast<std::size_t>(part.shape.stride(use.axis)) * size;
  const std::size_t run = inner * static_cast<std::size_t>(use.count);
  const std::size_t line = inner * static_cast<std::size_t>(use.source_type.shape[use.axis]);
  for (std::size_t i = 0; i * run < part.bytes(); ++i)
    body(i * line + static_cast<std::size_t>(use.begin) * inner, i * run, run);
}

// Calls body(offset in the port, offset in the dense part, bytes) for every row.
template <class Body>
void for_each_row(const PortUse& use, Body&& body) {
  const std::size_t size = dtype_size(use.type.dtype);
  const auto row = static_cast<std::size_t>(use.shape[3]) * size;
  std::size_t dense = 0;
  for (std::int64_t c = 0; c < use.shape[1]; ++c) {
    for (std::int64_t h = 0; h < use.shape[2]; ++h, dense += row) {
      const std::int64_t at = c * use.type.shape.stride(1) + h * use.type.shape.stride(2);
      body(static_cast<std::size_t>(at) * size, dense, row);
    }
  }
}

bool is_padded(const PortUse& use) {
  return use.shape != use.type.shape;
}

void check(const PortUse& use, const Tensor& source, const Tensor& port) {
  if (source.type() != use.source_type)
    fail("port '", use.source, "': ", source.type(), " given, ", use.source_type, " is needed");
  if (port.type() != use.type)
    fail("port '", use.name, "': ", port.type(), " given, ", use.type, " is needed");
}

}  // namespace

TensorType part_type(const PortUse& use) {
  TensorType type = use.source_type;
  if (use.count > 0) type.shape.set(use.axis, use.count);
  return type;
}

std::vector<Port> source_ports(std::span<const PortUse> uses) {
  std::vector<Port> ports;
  for (const PortUse& use : uses)
    if (std::ranges::find(ports, use.source, &Port::name) == ports.end())
      ports.push_back({use.source, use.source_type});
  return ports;
}

Shape four_axes(const Shape& shape) {
  if (shape.rank() == 0) return Shape::ones(4);
  if (shape.rank() >= 4) {
    const std::int64_t height = shape[shape.rank() - 2];
    return {1, shape.size() / height / shape.back(), height, shape.back()};
  }
  return {1, shape.size() / shape.back(), 1, shape.back()};
}

void write_port(const PortUse& use, const Tensor& source, const Tensor& port) {
  check(use, source, port);
  Tensor part = source;
  if (use.count > 0) {
    part = Tensor(part_type(use));
    for_each_run(use, [&](std::size_t from, std::size_t to, std::size_t bytes) {
      std::memcpy(part.data() + to, source.data() + from, bytes);
    });
  }
  if (part.dtype() != use.type.dtype) part = convert(part, use.type.dtype);
  if (!is_padded(use)) {
    std::memcpy(port.data(), part.data(), port.bytes());
    return;
  }
  std::memset(port.data(), 0, port.bytes());
  for_each_row(use, [&](std::size_t at, std::size_t dense, std::size_t bytes) {
    std::memcpy(port.data() + at, part.data() + dense, bytes);
  });
}

void read_port(const PortUse& use, const Tensor& port, const Tensor& source) {
  check(use, source, port);
  Tensor part = port;
  if (is_padded(use)) {
    part = Tensor({use.type.dtype, use.shape});
    for_each_row(use, [&](std::size_t at, std::size_t dense, std::size_t bytes) {
      std::memcpy(part.data() + dense, port.data() + at, bytes);
    });
  }
  if (part.dtype() != use.source_type.dtype) part = convert(part, use.source_type.dtype);
  for_each_run(use, [&](std::size_t to, std::size_t from, std::size_t bytes) {
    std::memcpy(source.data() + to, part.data() + from, bytes);
  });
}

}  // namespace orion::ane
