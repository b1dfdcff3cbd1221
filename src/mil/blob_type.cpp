// Element types of weight files, and the packing of those narrower than a byte.
#include "orion/error.h"
#include "orion/weight_file.h"

#include <array>
#include <limits>

namespace orion::weights {
namespace {

struct TypeInfo {
  BlobType type;
  std::string_view name;
  unsigned bits;
};

constexpr std::array<TypeInfo, 17> types = {{
    {BlobType::fp16, "fp16", 16},
    {BlobType::fp32, "fp32", 32},
    {BlobType::uint8, "uint8", 8},
    {BlobType::int8, "int8", 8},
    {BlobType::bf16, "bf16", 16},
    {BlobType::int16, "int16", 16},
    {BlobType::uint16, "uint16", 16},
    {BlobType::int4, "int4", 4},
    {BlobType::uint1, "uint1", 1},
    {BlobType::uint2, "uint2", 2},
    {BlobType::uint4, "uint4", 4},
    {BlobType::uint3, "uint3", 3},
    {BlobType::uint6, "uint6", 6},
    {BlobType::int32, "int32", 32},
    {BlobType::uint32, "uint32", 32},
    {BlobType::fp8e4m3fn, "fp8e4m3fn", 8},
    {BlobType::fp8e5m2, "fp8e5m2", 8},
}};

const TypeInfo& info(BlobType type) {
  return types[static_cast<std::size_t>(type) - 1];
}

// The low bits that stand for `value`, one element as a byte.
unsigned field(BlobType type, std::uint8_t value) {
  const unsigned width = bits(type);
  const auto as_signed = static_cast<std::int8_t>(value);
  if (type == BlobType::int4 ? as_signed < -8 || as_signed > 7 : value >> width != 0)
    fail("weight file: value ", type == BlobType::int4 ? as_signed : int{value}, " does not fit ",
         type_name(type));
  return value & ((1U << width) - 1U);
}

void require_packed(BlobType type) {
  if (bits(type) >= 8)
    fail("weight file: ", type_name(type), " elements fill whole bytes, they are not packed");
}

}  // namespace

std::string_view type_name(BlobType type) {
  return info(type).name;
}

BlobType type_from_name(std::string_view name) {
  std::string known;
  for (const TypeInfo& type : types) {
    if (type.name == name) return type.type;
    known += str(known.empty() ? "" : ", ", type.name);
  }
  fail("weight file: no type '", name, "' (", known, ")");
}

unsigned bits(BlobType type) {
  return info(type).bits;
}

std::uint64_t payload_bytes(BlobType type, std::uint64_t elements) {
  if (elements > std::numeric_limits<std::uint64_t>::max() / 64)
    fail("weight file: ", elements, " elements are more than a file can hold");
  return (elements * bits(type) + 7) / 8;
}

std::vector<std::byte> pack(BlobType type, std::span<const std::uint8_t> values) {
  require_packed(type);
  std::vector<std::byte> packed;
  packed.reserve(static_cast<std::size_t>(payload_bytes(type, values.size())));
  unsigned pending = 0;
  unsigned pending_bits = 0;
  for (const std::uint8_t value : values) {
    pending |= field(type, value) << pending_bits;
    pending_bits += bits(type);
    if (pending_bits < 8) continue;
    packed.push_back(static_cast<std::byte>(pending & 0xFFU));
    pending >>= 8U;
    pending_bits -= 8;
  }
  if (pending_bits > 0) packed.push_back(static_cast<std::byte>(pending));
  return packed;
}

std::vector<std::uint8_t> unpack(BlobType type, std::uint64_t elements, std::span<const std::byte> payload) {
  require_packed(type);
  if (payload.size() != payload_bytes(type, elements))
    fail("weight file: ", elements, " ", type_name(type), " elements take ", payload_bytes(type, elements),
         " bytes, ", payload.size(), " given");
  const unsigned mask = (1U << bits(type)) - 1U;
  std::vector<std::uint8_t> values;
  values.reserve(static_cast<std::size_t>(elements));
  unsigned pending = 0;
  unsigned pending_bits = 0;
  std::size_t next = 0;
  while (values.size() < elements) {
    if (pending_bits < bits(type)) {
      pending |= std::to_integer<unsigned>(payload[next++]) << pending_bits;
      pending_bits += 8;
    }
    const unsigned value = pending & mask;
    const bool negative = type == BlobType::int4 && (value & 8U) != 0;
    values.push_back(static_cast<std::uint8_t>(negative ? value | 0xF0U : value));
    pending >>= bits(type);
    pending_bits -= bits(type);
  }
  return values;
}

std::uint64_t element_count(std::span<const std::int64_t> shape) {
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  std::uint64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0) fail("weight file: a shape with the size ", size);
    const auto factor = static_cast<std::uint64_t>(size);
    if (factor != 0 && count > most / factor) fail("weight file: a shape with more than ", most, " elements");
    count *= factor;
  }
  return count;
}

}  // namespace orion::weights
