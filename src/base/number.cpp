#include "base/number.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <locale>
#include <sstream>

namespace orion {
namespace {

constexpr int fraction_bits = 52;
constexpr int exponent_bias = 1023;
constexpr std::string_view hex_digits = "0123456789abcdef";

// Takes the sign off; -1 or 1.
double take_sign(std::string_view& text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  return negative ? -1.0 : 1.0;
}

bool is_decimal(std::string_view text) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t first = i;
    while (i < text.size() && is_digit(text[i])) ++i;
    return i - first;
  };
  std::size_t mantissa = digits();
  if (i < text.size() && text[i] == '.') {
    ++i;
    mantissa += digits();
  }
  if (mantissa == 0) return false;
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (digits() == 0) return false;
  }
  return i == text.size();
}

std::optional<double> read_decimal(std::string_view text) {
  if (!is_decimal(text)) return std::nullopt;
  std::istringstream in{std::string(text)};
  in.imbue(std::locale::classic());
  double value = 0;
  if (!(in >> value) || std::isinf(value)) return std::nullopt;
  return value;
}

// Digits of a hexadecimal mantissa as `bits` * 2^`exponent`. Bits beyond the 60 kept are or'ed into
// the lowest one, so that rounding to a double still goes the right way.
struct Mantissa {
  std::uint64_t bits = 0;
  int exponent = 0;
  std::size_t digits = 0;

  void take(int digit, bool after_point) {
    ++digits;
    if (bits >> 56U == 0) {
      bits = bits << 4U | static_cast<std::uint64_t>(digit);
      exponent -= after_point ? 4 : 0;
    } else {
      bits |= digit != 0 ? 1U : 0U;
      exponent += after_point ? 0 : 4;
    }
  }
};

// 1.8p-3, after the 0x.
std::optional<double> read_hex(std::string_view text) {
  constexpr std::size_t longest = 1 << 20;  // keeps the exponent an int
  if (text.size() > longest) return std::nullopt;
  Mantissa mantissa;
  bool after_point = false;
  std::size_t i = 0;
  for (; i < text.size(); ++i) {
    if (text[i] == '.' && !after_point)
      after_point = true;
    else if (hex_value(text[i]) >= 0)
      mantissa.take(hex_value(text[i]), after_point);
    else
      break;
  }
  if (mantissa.digits == 0) return std::nullopt;
  int exponent = 0;
  if (i < text.size()) {
    if (text[i] != 'p' && text[i] != 'P') return std::nullopt;
    std::string_view power = text.substr(i + 1);
    const bool negative = take_sign(power) < 0;
    const auto [end, error] = std::from_chars(power.data(), power.data() + power.size(), exponent);
    if (error != std::errc{} || end != power.data() + power.size() || exponent < 0 || exponent > 100000)
      return std::nullopt;
    if (negative) exponent = -exponent;
  }
  const double value = std::ldexp(static_cast<double>(mantissa.bits), mantissa.exponent + exponent);
  return std::isinf(value) ? std::nullopt : std::optional(value);
}

std::string hex_fraction(std::uint64_t fraction) {
  std::string digits;
  for (int shift = fraction_bits - 4; shift >= 0; shift -= 4)
    digits += hex_digits[(fraction >> shift) & 0xFU];
  digits.erase(digits.find_last_not_of('0') + 1);
  return digits.empty() ? digits : "." + digits;
}

}  // namespace

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string hex_float(double value) {
  if (std::isnan(value)) return "nan";
  const std::string sign = std::signbit(value) ? "-" : "";
  if (std::isinf(value)) return sign + "inf";
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const std::uint64_t fraction = bits & ((std::uint64_t{1} << fraction_bits) - 1);
  const int stored = static_cast<int>((bits >> fraction_bits) & 0x7FFU);
  if (stored == 0 && fraction == 0) return sign + "0x0p+0";
  const int exponent = stored == 0 ? 1 - exponent_bias : stored - exponent_bias;
  return sign + (stored == 0 ? "0x0" : "0x1") + hex_fraction(fraction) + "p" + (exponent < 0 ? "" : "+") +
         std::to_string(exponent);
}

std::optional<double> read_float(std::string_view text) {
  const double sign = take_sign(text);
  if (text == "inf") return sign * std::numeric_limits<double>::infinity();
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  const bool is_hex = text.starts_with("0x") || text.starts_with("0X");
  const std::optional<double> value = is_hex ? read_hex(text.substr(2)) : read_decimal(text);
  return value ? std::optional(sign * *value) : std::nullopt;
}

std::optional<std::int64_t> read_integer(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace orion
