#include "mil/lexer.h"

#include "base/utf8.h"

#include <algorithm>

namespace orion::mil {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
bool is_sign(char c) {
  return c == '+' || c == '-';
}

}  // namespace

std::string shown(const Token& token) {
  constexpr std::size_t longest = 40;
  if (token.kind == TokenKind::end) return "the end of the text";
  std::size_t length = 0;
  while (length < std::min(token.text.size(), longest)) length += utf8_length(token.text.substr(length));
  const std::string text(token.text.substr(0, length));
  const char* more = length < token.text.size() ? "..." : "";
  return token.kind == TokenKind::string ? '"' + text + more + '"' : "'" + text + more + "'";
}

Token Lexer::next() {
  const Token token = token_;
  advance();
  return token;
}

bool Lexer::accept(std::string_view symbol) {
  if (!token_.is(symbol)) return false;
  advance();
  return true;
}

Token Lexer::expect(std::string_view symbol, std::string_view what) {
  if (!token_.is(symbol)) fail_at(token_.place, "'", symbol, "' ", what, " expected, found ", shown(token_));
  return next();
}

Token Lexer::expect(TokenKind kind, std::string_view what) {
  if (token_.kind != kind) fail_at(token_.place, what, " expected, found ", shown(token_));
  return next();
}

void Lexer::advance() {
  skip_blanks();
  if (at_ == text_.size()) return take(TokenKind::end, 0);
  const char c = text_[at_];
  if (c == '"') return take(TokenKind::string, string_length());
  if (const std::size_t length = number_length(); length > 0) return take(TokenKind::number, length);
  const std::string_view rest = text_.substr(at_);
  if (is_letter(c)) {
    const auto end = std::ranges::find_if(rest, [](char d) { return !is_letter(d) && !is_digit(d); });
    return take(TokenKind::word, static_cast<std::size_t>(end - rest.begin()));
  }
  if (rest.starts_with("->")) return take(TokenKind::symbol, 2);
  if (std::string_view("()[]{}<>=,;?:*.").find(c) != std::string_view::npos)
    return take(TokenKind::symbol, 1);
  fail_at(place_, "a character (code ", int{static_cast<unsigned char>(c)}, ") that MIL text does not have");
}

void Lexer::skip_blanks() {
  while (at_ < text_.size()) {
    if (is_blank(text_[at_]))
      move(1);
    else if (text_.substr(at_).starts_with("//") || text_.substr(at_).starts_with("/*"))
      skip_comment();
    else
      return;
  }
}

void Lexer::skip_comment() {
  const bool is_line = text_[at_ + 1] == '/';
  const std::string_view close = is_line ? "\n" : "*/";
  const std::size_t end = text_.find(close, at_ + 2);
  if (end == std::string_view::npos && !is_line) fail_at(place_, "a comment that does not end");
  move(end == std::string_view::npos ? text_.size() - at_ : end + close.size() - at_);
}

// Of the string at the current place, quotes included.
std::size_t Lexer::string_length() const {
  std::size_t end = at_ + 1;
  while (true) {
    if (end >= text_.size()) fail_at(place_, "a string that does not end");
    if (text_[end] == '"') return end + 1 - at_;
    if (static_cast<unsigned char>(text_[end]) < 0x20) fail_at(place_, "a string with a control character");
    const bool escape = text_[end] == '\\' && end + 1 < text_.size();
    end += escape ? 1 : 0;
    const std::size_t length = utf8_length(text_.substr(end));
    if (length == 0) fail_at(place_, "a string that is not UTF-8");
    end += length;
  }
}

// Of the number at the current place, 0 if there is none. A sign belongs to it, so do the words inf
// and nan after one. Whether it is well formed is seen when it is read.
std::size_t Lexer::number_length() const {
  const std::string_view rest = text_.substr(at_);
  std::size_t i = is_sign(rest[0]) ? 1 : 0;
  if (i == 1 && (rest.substr(1).starts_with("inf") || rest.substr(1).starts_with("nan"))) return 4;
  const std::size_t point = i < rest.size() && rest[i] == '.' ? 1 : 0;
  if (i + point >= rest.size() || !is_digit(rest[i + point])) return 0;
  const bool is_hex = rest.substr(i).starts_with("0x") || rest.substr(i).starts_with("0X");
  const std::string_view exponents = is_hex ? "pP" : "eE";
  for (; i < rest.size(); ++i) {
    const bool signed_exponent = is_sign(rest[i]) && exponents.find(rest[i - 1]) != std::string_view::npos;
    if (!is_digit(rest[i]) && !is_letter(rest[i]) && rest[i] != '.' && !signed_exponent) break;
  }
  return i;
}

void Lexer::take(TokenKind kind, std::size_t length) {
  const std::size_t quote = kind == TokenKind::string ? 1 : 0;
  token_ = {kind, text_.substr(at_ + quote, length - 2 * quote), place_};
  move(length);
}

void Lexer::move(std::size_t count) {
  for (const char c : text_.substr(at_, count)) {
    if (c == '\n')
      place_ = {place_.line + 1, 1};
    else
      ++place_.column;
  }
  at_ += count;
}

}  // namespace orion::mil
