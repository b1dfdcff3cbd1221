// JSON: what RFC 8259 allows is read, everything else refused with its place.
#include "base/json.h"
#include "orion/error.h"
#include "orion/model.h"

#include <doctest/doctest.h>

using namespace orion;

TEST_CASE("JSON values") {
  const Json json = parse_json(
      R"( {"a": [1, -2.5e1, true, null, 9223372036854775808], "b": "\u00e9\ud83d\ude00\n\"", "": {}} )", "t");
  const JsonPlace root(json, "t");
  const std::vector<JsonPlace> items = root["a"].items();
  REQUIRE(items.size() == 5);
  CHECK(items[0].integer(0, 1) == 1);
  CHECK(std::get<double>(std::get<JsonList>(std::get<JsonObject>(json.value)[0].value.value)[1].value) ==
        -25.0);
  CHECK(std::get<double>(std::get<JsonList>(std::get<JsonObject>(json.value)[0].value.value)[4].value) ==
        0x1p63);
  CHECK(root["b"].text() == "é😀\n\"");
  CHECK(root.has(""));
  CHECK(std::get<std::string>(parse_json(json_quoted("a\"\\\n\x01é"), "t").value) == "a\"\\\n\x01é");
}

TEST_CASE("what is no JSON is refused") {
  const std::string deep(70, '[');
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"", "t: not JSON: line 1, column 1: a value is needed"},
      {"{} x", "t: not JSON: line 1, column 4: more text after the value"},
      {"[1,]", "t: not JSON: line 1, column 4: a value is needed"},
      {"[01]", "t: not JSON: line 1, column 3: ']' is needed"},
      {"[1.]", "t: not JSON: line 1, column 4: a value is needed"},
      {"+1", "t: not JSON: line 1, column 1: a value is needed"},
      {"NaN", "t: not JSON: line 1, column 1: a value is needed"},
      {"1e999", "t: not JSON: line 1, column 6: a number that no double holds"},
      {"{\"a\":1,\n\"a\":2}", "t: not JSON: line 2, column 7: 'a' occurs twice in the object that ends here"},
      {"\"a", "t: not JSON: line 1, column 3: the string does not end"},
      {"\"\n\"", "t: not JSON: line 1, column 2: a control character in a string"},
      {"\"\xff\"", "t: not JSON: line 1, column 2: not UTF-8"},
      {R"("\x")", "t: not JSON: line 1, column 3: an unknown escape"},
      {R"("\ud800")", "t: not JSON: line 1, column 8: half a surrogate pair"},
      {R"("\u12g4")", "t: not JSON: line 1, column 6: four hexadecimal digits are needed"},
      {deep, "t: not JSON: line 1, column 66: nested deeper than 64"},
  };
  for (const auto& [text, message] : cases)
    CHECK_THROWS_WITH(parse_json(text, "t"), std::string(message).c_str());
}

TEST_CASE("errors name the place of a value") {
  const Json json = parse_json(R"({"a": [{"b": 7}], "c": "text"})", "file");
  const JsonPlace root(json, "file");
  const JsonPlace inner = root["a"].items()[0];
  CHECK_THROWS_WITH(static_cast<void>(inner["x"]), "file: no 'a.0.x'");
  CHECK_THROWS_WITH(static_cast<void>(inner["b"].text()), "file: a.0.b is 7, a string is needed");
  CHECK_THROWS_WITH(static_cast<void>(inner["b"].integer(1, 6)),
                    "file: a.0.b is 7, a whole number from 1 to 6 is needed");
  CHECK_THROWS_WITH(static_cast<void>(root["c"].items()), "file: c is \"text\", a list is needed");
  CHECK_THROWS_WITH(inner.allow({"a"}), "file: 'a.0.b' is not known");
}

TEST_CASE("a config.json is flattened") {
  const ConfigMap map =
      read_config(R"({"model_type": "llama", "rope": {"theta": 1e4, "kinds": ["a", false]}, "x": null})");
  CHECK(map == ConfigMap{{"model_type", std::string("llama")},
                         {"rope.theta", 10000.0},
                         {"rope.kinds.0", std::string("a")},
                         {"rope.kinds.1", false},
                         {"x", std::monostate{}}});
  CHECK_THROWS_WITH(read_config("[]"), "config: an object is needed");
}
