// MIL text as a stream of tokens.
#pragma once

#include "orion/error.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace orion::mil {

/// Where in the text, counted from 1.
struct Place {
  std::size_t line = 1;
  std::size_t column = 1;
};

template <class... Parts>
[[noreturn]] void fail_at(Place place, const Parts&... parts) {
  fail("MIL line ", place.line, ", column ", place.column, ": ", parts...);
}

enum class TokenKind : std::uint8_t { end, word, number, string, symbol };

struct Token {
  TokenKind kind = TokenKind::end;
  std::string_view text;  // of a string: what stands between the quotes
  Place place;

  bool is(std::string_view symbol) const {
    return (kind == TokenKind::symbol || kind == TokenKind::word) && text == symbol;
  }
};

/// For messages: the token as written, shortened.
std::string shown(const Token& token);

/// Words are [a-zA-Z_][a-zA-Z0-9_]*, symbols single characters or ->. Comments // and /* */ are skipped.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) { advance(); }

  const Token& peek() const { return token_; }
  Token next();
  /// Takes the token if it is that word or symbol.
  bool accept(std::string_view symbol);
  Token expect(std::string_view symbol, std::string_view what);
  Token expect(TokenKind kind, std::string_view what);

 private:
  void advance();
  void skip_blanks();
  void skip_comment();
  std::size_t string_length() const;
  std::size_t number_length() const;
  void take(TokenKind kind, std::size_t length);
  void move(std::size_t count);

  std::string_view text_;
  std::size_t at_ = 0;
  Place place_;
  Token token_;
};

}  // namespace orion::mil
