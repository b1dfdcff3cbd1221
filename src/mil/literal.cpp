#include "mil/literal.h"

#include "base/f16.h"

#include <algorithm>

namespace orion::mil {
namespace {

using Ints = std::vector<std::int64_t>;

std::string_view kind_text(AttrKind kind) {
  switch (kind) {
    case AttrKind::boolean:
      return "a bool";
    case AttrKind::integer:
      return "an integer";
    case AttrKind::number:
      return "a number";
    case AttrKind::text:
      return "a string";
    case AttrKind::booleans:
      return "a list of bools";
    case AttrKind::integers:
      return "a list of integers";
  }
  return "";  // unreachable: every kind has a case
}

void store(const Tensor& tensor, const std::vector<double>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<float>(values[i]);
    if (tensor.dtype() == DType::fp16)
      tensor.as<std::uint16_t>()[i] = float_to_half(value);
    else
      tensor.as<float>()[i] = value;
  }
}

void store(const Tensor& tensor, const Ints& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (tensor.dtype() == DType::boolean)
      tensor.as<std::uint8_t>()[i] = values[i] != 0;
    else
      tensor.as<std::int32_t>()[i] = static_cast<std::int32_t>(values[i]);
  }
}

}  // namespace

TensorType tensor_type(const TypeName& type) {
  constexpr std::string_view known[] = {"fp16", "fp32", "int32", "bool"};
  if (std::ranges::find(known, type.element) == std::end(known))
    fail_at(type.place, "a tensor of ", type.element, ": graphs hold fp16, fp32, int32 and bool");
  try {
    return {dtype_from_name(type.element), Shape(type.sizes)};
  } catch (const Error& error) {
    fail_at(type.place, error.what());
  }
}

Tensor tensor_from(const Literal& literal) {
  const Tensor tensor(tensor_type(literal.type));
  if (const auto* floats = std::get_if<std::vector<double>>(&literal.value))
    store(tensor, *floats);
  else if (const auto* ints = std::get_if<Ints>(&literal.value))
    store(tensor, *ints);
  else
    fail_at(literal.type.place, "a tensor written out expected, found one in a file");
  return tensor;
}

Attr attr_from(const Literal& literal, AttrKind kind, std::string_view op, std::string_view attr) {
  const bool is_scalar = literal.type.sizes.empty();
  const bool is_bool = literal.type.element == "bool";
  const auto* ints = std::get_if<Ints>(&literal.value);
  const auto* floats = std::get_if<std::vector<double>>(&literal.value);
  const auto* text = std::get_if<std::string>(&literal.value);
  if (kind == AttrKind::text && text != nullptr) return *text;
  if (kind == AttrKind::number && is_scalar && floats != nullptr) return floats->front();
  const bool wants_bool = kind == AttrKind::boolean || kind == AttrKind::booleans;
  if (ints != nullptr && is_bool == wants_bool && literal.type.sizes.size() <= 1) {
    if (kind == AttrKind::booleans || kind == AttrKind::integers) return *ints;
    if (is_scalar && kind == AttrKind::boolean) return ints->front() != 0;
    if (is_scalar && kind == AttrKind::integer) return ints->front();
    if (is_scalar && kind == AttrKind::number) return static_cast<double>(ints->front());
  }
  fail_at(literal.type.place, op, ": ", attr, " must be ", kind_text(kind), ", not ",
          type_text(literal.type));
}

}  // namespace orion::mil
