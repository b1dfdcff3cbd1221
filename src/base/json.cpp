#include "base/json.h"

#include "base/number.h"
#include "base/utf8.h"
#include "orion/error.h"

#include <algorithm>
#include <optional>

namespace orion {
namespace {

constexpr std::size_t most_bytes = std::size_t{16} << 20;
constexpr int most_nested = 64;

void append_utf8(std::string& text, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
  const auto tail = [&](unsigned shift) { put(0x80U | ((code >> shift) & 0x3FU)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) return put(0xC0U | code >> 6U), tail(0);
  if (code < 0x10000) return put(0xE0U | code >> 12U), tail(6), tail(0);
  put(0xF0U | code >> 18U), tail(12), tail(6), tail(0);
}

class Parser {
 public:
  Parser(std::string_view text, std::string_view what) : text_(text), what_(what) {}

  Json document() {
    if (text_.size() > most_bytes) fail(what_, ": ", text_.size(), " bytes, more than ", most_bytes);
    Json json = value(0);
    skip_space();
    if (at_ < text_.size()) reject("more text after the value");
    return json;
  }

 private:
  template <class... Parts>
  [[noreturn]] void reject(const Parts&... parts) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = 1 + std::ranges::count(before, '\n');
    const std::size_t column = before.size() - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
    fail(what_, ": not JSON: line ", line, ", column ", column, ": ", parts...);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!take(c)) reject("'", c, "' is needed");
  }

  void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

  Json value(int depth) {
    if (depth > most_nested) reject("nested deeper than ", most_nested);
    skip_space();
    switch (peek()) {
      case '{':
        return {object(depth)};
      case '[':
        return {list(depth)};
      case '"':
        return {string()};
      case 't':
        return word("true"), Json{true};
      case 'f':
        return word("false"), Json{false};
      case 'n':
        return word("null"), Json{};
      default:
        return number();
    }
  }

  void word(std::string_view name) {
    if (text_.substr(at_, name.size()) != name) reject("a value is needed");
    at_ += name.size();
  }

  // Calls element() for what stands between the brackets, separated by commas.
  template <class Element>
  void sequence(char open, char close, const Element& element) {
    expect(open);
    skip_space();
    if (take(close)) return;
    do element();
    while (skip_space(), take(','));
    expect(close);
  }

  JsonList list(int depth) {
    JsonList items;
    sequence('[', ']', [&] { items.push_back(value(depth + 1)); });
    return items;
  }

  JsonObject object(int depth) {
    JsonObject members;
    sequence('{', '}', [&] {
      skip_space();
      std::string name = string();
      skip_space();
      expect(':');
      members.push_back({std::move(name), value(depth + 1)});
    });
    std::vector<std::string_view> names;
    for (const JsonMember& member : members) names.push_back(member.name);
    std::ranges::sort(names);
    if (const auto twice = std::ranges::adjacent_find(names); twice != names.end())
      reject("'", *twice, "' occurs twice in the object that ends here");
    return members;
  }

  std::string string() {
    expect('"');
    std::string result;
    while (!take('"')) {
      if (take('\\')) {
        escape(result);
        continue;
      }
      const std::size_t length = utf8_length(text_.substr(at_));
      if (at_ >= text_.size()) reject("the string does not end");
      if (length == 0) reject("not UTF-8");
      if (static_cast<unsigned char>(peek()) < 0x20) reject("a control character in a string");
      result += text_.substr(at_, length);
      at_ += length;
    }
    return result;
  }

  void escape(std::string& result) {
    constexpr std::string_view letters = "\"\\/bfnrt";
    constexpr std::string_view meanings = "\"\\/\b\f\n\r\t";
    if (take('u')) return append_utf8(result, code_point());
    const std::size_t which = at_ < text_.size() ? letters.find(peek()) : std::string_view::npos;
    if (which == std::string_view::npos) reject("an unknown escape");
    result += meanings[which];
    ++at_;
  }

  std::uint32_t code_point() {
    const std::uint32_t first = four_digits();
    if (first < 0xD800 || first >= 0xE000) return first;
    if (first >= 0xDC00 || !take('\\') || !take('u')) reject("half a surrogate pair");
    const std::uint32_t second = four_digits();
    if (second < 0xDC00 || second >= 0xE000) reject("half a surrogate pair");
    return 0x10000U + ((first - 0xD800U) << 10U) + (second - 0xDC00U);
  }

  std::uint32_t four_digits() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const int digit = hex_value(peek());
      if (digit < 0) reject("four hexadecimal digits are needed");
      code = code << 4U | static_cast<std::uint32_t>(digit);
    }
    return code;
  }

  void digits() {
    if (!is_digit(peek())) reject("a value is needed");
    while (is_digit(peek())) ++at_;
  }

  Json number() {
    const std::size_t begin = at_;
    take('-');
    if (!take('0')) digits();
    const std::size_t whole_end = at_;
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('-')) take('+');
      digits();
    }
    const std::string_view all = text_.substr(begin, at_ - begin);
    if (at_ == whole_end)
      if (const std::optional<std::int64_t> whole = read_integer(all)) return {*whole};
    const std::optional<double> real = read_float(all);
    if (!real) reject("a number that no double holds");
    return {*real};
  }

  std::string_view text_;
  std::string_view what_;
  std::size_t at_ = 0;
};

std::string shown(const Json& json) {
  struct Show {
    std::string operator()(std::monostate) const { return "null"; }
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(std::int64_t i) const { return str(i); }
    std::string operator()(double d) const { return str(d); }
    std::string operator()(const std::string& s) const { return json_quoted(s.substr(0, 80)); }
    std::string operator()(const JsonList& list) const { return str("a list of ", list.size()); }
    std::string operator()(const JsonObject&) const { return "an object"; }
  };
  return std::visit(Show{}, json.value);
}

const Json* find(const JsonObject& object, std::string_view name) {
  const auto found =
      std::ranges::find(object, name, [](const JsonMember& m) { return std::string_view(m.name); });
  return found == object.end() ? nullptr : &found->value;
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what) {
  return Parser(text, what).document();
}

std::string json_quoted(std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') result += '\\';
    if (byte < 0x20)
      result += str("\\u00", hex[byte >> 4U], hex[byte & 0xFU]);
    else
      result += c;
  }
  return result + '"';
}

JsonPlace JsonPlace::operator[](std::string_view name) const {
  const Json* found = find(object(), name);
  if (found == nullptr) fail(what_, ": no '", inner(name), "'");
  return {*found, what_, inner(name)};
}

bool JsonPlace::has(std::string_view name) const {
  return find(object(), name) != nullptr;
}

std::vector<std::string_view> JsonPlace::names() const {
  std::vector<std::string_view> names;
  for (const JsonMember& member : object()) names.push_back(member.name);
  return names;
}

void JsonPlace::allow(std::initializer_list<std::string_view> names) const {
  for (const JsonMember& member : object())
    if (std::ranges::find(names, member.name) == names.end())
      fail(what_, ": '", inner(member.name), "' is not known");
}

std::vector<JsonPlace> JsonPlace::items() const {
  const auto* list = std::get_if<JsonList>(&json_->value);
  if (list == nullptr) reject("a list");
  std::vector<JsonPlace> places;
  for (std::size_t i = 0; i < list->size(); ++i) places.push_back({(*list)[i], what_, inner(str(i))});
  return places;
}

std::int64_t JsonPlace::integer(std::int64_t least, std::int64_t most) const {
  const auto* number = std::get_if<std::int64_t>(&json_->value);
  if (number == nullptr || *number < least || *number > most)
    reject(str("a whole number from ", least, " to ", most));
  return *number;
}

const std::string& JsonPlace::text() const {
  const auto* text = std::get_if<std::string>(&json_->value);
  if (text == nullptr) reject("a string");
  return *text;
}

void JsonPlace::reject(std::string_view wanted) const {
  fail(what_, ": ", place_.empty() ? "the document" : place_, " is ", shown(*json_), ", ", wanted,
       " is needed");
}

const JsonObject& JsonPlace::object() const {
  const auto* object = std::get_if<JsonObject>(&json_->value);
  if (object == nullptr) reject("an object");
  return *object;
}

std::string JsonPlace::inner(std::string_view name) const {
  return place_.empty() ? std::string(name) : str(place_, '.', name);
}

}  // namespace orion
