// Numbers in text, whatever the locale.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace orion {

bool is_digit(char c);
/// 0 to 15; -1 if it is no hexadecimal digit.
int hex_value(char c);

/// As C's %a would: 0x1.8p-3, exact; inf, -inf, nan.
std::string hex_float(double value);

/// Hexadecimal (exact up to a double's 53 bits, then rounded), decimal, inf or nan, with or without a
/// sign. None if `text` is no number or a finite one too large for a double.
std::optional<double> read_float(std::string_view text);

/// Decimal. None if `text` is no integer or does not fit.
std::optional<std::int64_t> read_integer(std::string_view text);

}  // namespace orion
