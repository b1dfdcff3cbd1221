#include "mil/weight_names.h"

#include "base/utf8.h"
#include "orion/error.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace orion::weights {
namespace {

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : ",") + std::to_string(size);
  return text;
}

void check_name(std::string_view name) {
  const bool plain = std::ranges::none_of(name, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  if (!is_utf8(name) || !plain) fail("weight file: a name with control characters or not in UTF-8");
}

// One line, read from the left.
class Line {
 public:
  Line(std::string_view text, std::string_view what, std::size_t number)
      : text_(text), what_(what), number_(number) {}

  template <class... Parts>
  [[noreturn]] void reject(const Parts&... parts) const {
    fail(what_, " line ", number_, ": ", parts...);
  }

  std::string_view field() {
    const std::size_t tab = text_.find('\t');
    if (tab == std::string_view::npos) reject("offset, type, shape and name are needed, separated by tabs");
    const std::string_view field = text_.substr(0, tab);
    text_.remove_prefix(tab + 1);
    return field;
  }

  std::string_view rest() const { return text_; }

  template <class Integer>
  Integer integer(std::string_view digits) const {
    Integer value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size())
      reject("'", digits, "' is not a number");
    return value;
  }

  std::vector<std::int64_t> shape(std::string_view sizes) const {
    std::vector<std::int64_t> shape;
    while (!sizes.empty()) {
      const std::size_t comma = std::min(sizes.find(','), sizes.size());
      shape.push_back(integer<std::int64_t>(sizes.substr(0, comma)));
      sizes.remove_prefix(std::min(comma + 1, sizes.size()));
    }
    return shape;
  }

 private:
  std::string_view text_;
  std::string_view what_;
  std::size_t number_;
};

void read_line(Line line, Chunk& chunk) {
  const auto offset = line.integer<std::uint64_t>(line.field());
  if (offset != chunk.offset) line.reject("offset ", offset, ", the file has a chunk at ", chunk.offset);
  const std::string_view type = line.field();
  if (type != type_name(chunk.type)) line.reject("type ", type, ", the file has ", type_name(chunk.type));
  std::vector<std::int64_t> shape = line.shape(line.field());
  if (element_count(shape) != chunk.elements)
    line.reject("shape (", shape_text(shape), "), the file has ", chunk.elements, " elements");
  if (line.rest().empty()) line.reject("no name");
  check_name(line.rest());
  chunk.shape = std::move(shape);
  chunk.name = line.rest();
}

}  // namespace

std::filesystem::path names_path(const std::filesystem::path& weight_file) {
  std::filesystem::path path = weight_file;
  path += ".names";
  return path;
}

bool are_named(std::span<const Entry> entries) {
  std::set<std::string_view> names;
  for (const Entry& entry : entries) {
    check_name(entry.name);
    if (entry.name.empty() != entries.front().name.empty())
      fail("weight file: either every entry has a name or none");
    if (!entry.name.empty() && !names.insert(entry.name).second)
      fail("weight file: two entries are named '", entry.name, "'");
  }
  return !names.empty();
}

std::string names_text(std::span<const Entry> entries, std::span<const std::uint64_t> offsets) {
  std::string text;
  for (std::size_t i = 0; i < entries.size(); ++i)
    text += str(std::to_string(offsets[i]), '\t', type_name(entries[i].type), '\t',
                shape_text(entries[i].shape), '\t', entries[i].name, '\n');
  return text;
}

void read_names(std::string_view text, std::string_view what, std::span<Chunk> chunks) {
  if (!is_utf8(text)) fail(what, ": not UTF-8 text");
  std::set<std::string_view> names;
  std::size_t count = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) fail(what, " line ", count + 1, ": cut short");
    if (count == chunks.size()) fail(what, ": more lines than the file has chunks (", count, ")");
    const Line line(text.substr(0, end), what, count + 1);
    read_line(line, chunks[count]);
    if (!names.insert(chunks[count].name).second) line.reject("the name '", chunks[count].name, "' again");
    text.remove_prefix(end + 1);
    ++count;
  }
  if (count != chunks.size()) fail(what, ": ", count, " lines for ", chunks.size(), " chunks");
}

}  // namespace orion::weights
