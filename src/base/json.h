// JSON as RFC 8259 has it, and nothing more: what is read was written by somebody else.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace orion {

struct JsonMember;
using JsonList = std::vector<struct Json>;
using JsonObject = std::vector<JsonMember>;  // in the order of the text, each name once

struct Json {
  /// Null is monostate. Whole numbers without exponent that fit are int64, all others double.
  std::variant<std::monostate, bool, std::int64_t, double, std::string, JsonList, JsonObject> value;
};

struct JsonMember {
  std::string name;
  Json value;
};

/// Error beginning with `what`, line and column, if the text is no JSON: also if a name occurs twice in an
/// object, a number is beyond a double, values nest deeper than 64, or the text has more than 16 MiB.
Json parse_json(std::string_view text, std::string_view what);

/// The string in quotes, escaped.
std::string json_quoted(std::string_view text);

/// A value and where it stands, so that errors can say `what: programs.3.layer is "x", a number from ...`.
/// Valid as long as the Json.
class JsonPlace {
 public:
  JsonPlace(const Json& json, std::string_view what) : json_(&json), what_(what) {}

  /// A member of an object; Error if there is none.
  JsonPlace operator[](std::string_view name) const;
  bool has(std::string_view name) const;
  /// The names of an object's members, in the order of the text.
  std::vector<std::string_view> names() const;
  /// Error unless every member of the object is one of these.
  void allow(std::initializer_list<std::string_view> names) const;
  /// The elements of a list.
  std::vector<JsonPlace> items() const;
  std::int64_t integer(std::int64_t least, std::int64_t most) const;
  const std::string& text() const;
  /// Throws Error: the value is not what is wanted.
  [[noreturn]] void reject(std::string_view wanted) const;

 private:
  JsonPlace(const Json& json, std::string_view what, std::string place)
      : json_(&json), what_(what), place_(std::move(place)) {}
  const JsonObject& object() const;
  std::string inner(std::string_view name) const;

  const Json* json_;
  std::string_view what_;
  std::string place_;
};

}  // namespace orion
