#include "run/packed_layout.h"

#include "base/json.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "orion/error.h"
#include "orion/model.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace orion {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

constexpr std::string_view format = "orion packed weights";
constexpr std::string_view version = "1";
constexpr std::string_view metadata = "__metadata__";
constexpr std::string_view bytes_type = "U8";
constexpr std::size_t length_bytes = 8;
// Of a file, hence of anything in it: more than a process can map.
constexpr std::int64_t most = std::int64_t{1} << 48;
constexpr std::size_t most_tensors = 1 << 14;

constexpr MatrixFormat formats[] = {MatrixFormat::exact, MatrixFormat::bf16, MatrixFormat::int8,
                                    MatrixFormat::int4};

std::string_view float_type(DType dtype) {
  return dtype == DType::fp16 ? "F16" : "F32";
}

// -- reading --------------------------------------------------------------------------------------

std::string_view header_of(std::span<const std::byte> file, std::string_view what) {
  std::uint64_t length = 0;
  if (file.size() < length_bytes) fail(what, ": ", file.size(), " bytes are no safetensors file");
  std::memcpy(&length, file.data(), length_bytes);
  if (length > file.size() - length_bytes)
    fail(what, ": a header of ", length, " bytes in a file of ", file.size(),
         ": cut off, or no safetensors file");
  return {reinterpret_cast<const char*>(file.data()) + length_bytes, static_cast<std::size_t>(length)};
}

Shape shape_of(const JsonPlace& place) {
  Shape shape;
  std::int64_t size = 1;
  for (const JsonPlace& axis : place.items()) {
    if (shape.rank() == Shape::max_rank) place.reject(str("a shape of up to ", Shape::max_rank, " sizes"));
    shape.append(axis.integer(1, most / size));
    size *= shape.back();
  }
  return shape;
}

MatrixFormat format_of(const JsonPlace& place) {
  const auto* found = std::ranges::find(formats, place.text(), matrix_format_name);
  if (found == std::end(formats)) place.reject("exact, bf16, int8 or int4");
  return *found;
}

bool is_transposed(const JsonPlace& place) {
  if (place.text() != "nk" && place.text() != "kn") place.reject("nk or kn");
  return place.text() == "nk";
}

// What the metadata say of a tensor.
PackedEntry read_facts(const JsonPlace& facts, std::string_view name, DType dtype) {
  facts.allow({"shape", "matrix", "order", "sha256"});
  PackedEntry entry{
      .name = std::string(name), .type = {dtype, shape_of(facts["shape"])}, .sha256 = facts["sha256"].text()};
  if (facts.has("matrix"))
    entry.form = PackedMatrixForm{format_of(facts["matrix"]), is_transposed(facts["order"])};
  return entry;
}

// What safetensors say of it: its place.
void read_place(const JsonPlace& tensor, PackedEntry& entry) {
  tensor.allow({"dtype", "shape", "data_offsets"});
  const std::string_view type = entry.form ? bytes_type : float_type(entry.type.dtype);
  if (tensor["dtype"].text() != type) tensor["dtype"].reject(type);
  const std::vector<JsonPlace> offsets = tensor["data_offsets"].items();
  if (offsets.size() != 2) tensor["data_offsets"].reject("begin and end");
  const std::int64_t begin = offsets[0].integer(0, most);
  const std::int64_t bytes = offsets[1].integer(begin + 1, most) - begin;
  const Shape stored = entry.form ? Shape{bytes} : entry.type.shape;
  if (shape_of(tensor["shape"]) != stored) tensor["shape"].reject(str(stored));
  entry.begin = static_cast<std::uint64_t>(begin);
  entry.bytes = static_cast<std::uint64_t>(bytes);
}

void check_places(PackedLayout& layout, std::uint64_t available, std::string_view what) {
  std::ranges::sort(layout.entries, {}, &PackedEntry::begin);
  std::uint64_t next = 0;
  for (const PackedEntry& entry : layout.entries) {
    const std::size_t unit = entry.form ? memory_alignment : dtype_size(entry.type.dtype);
    const auto name = [&] { return str(what, ": tensor '", entry.name, '\''); };
    if (entry.begin != next) fail(name(), " begins at byte ", entry.begin, ", ", next, " is wanted");
    if ((layout.data + entry.begin) % unit != 0) fail(name(), " is not at a multiple of ", unit, " bytes");
    if (!entry.form && entry.bytes != entry.type.bytes())
      fail(name(), " has ", entry.bytes, " bytes, ", entry.type, " has ", entry.type.bytes());
    next += entry.bytes;
    if (next > available) fail(name(), " ends at byte ", next, " of ", available, ": the file is cut off");
  }
  if (next != available) fail(what, ": ", available - next, " bytes after the last tensor");
}

Precision precision_of(const JsonPlace& place, std::string_view what) {
  try {
    return precision_from_name(place.text());
  } catch (const Error& error) {
    fail(what, ": ", error.what());
  }
}

void check_kind(const JsonPlace& facts, std::string_view what) {
  if (!facts.has("format") || facts["format"].text() != format)
    fail(what, ": no packed weights (its format is not '", format, "')");
  if (facts["version"].text() != version)
    fail(what, ": packed weights of version ", json_quoted(facts["version"].text().substr(0, 20)),
         ", this Orion reads version ", version, "; convert the model again");
  facts.allow({"format", "version", "dtype", "source", "tensors"});
}

// -- writing --------------------------------------------------------------------------------------

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (const std::int64_t size : shape) text += str(text.size() > 1 ? ", " : "", size);
  return text + ']';
}

std::string facts_text(const PackedEntry& entry) {
  const std::string form = entry.form ? str(", \"matrix\": \"", entry.form->format, "\", \"order\": \"",
                                            entry.form->transposed ? "nk" : "kn", '"')
                                      : "";
  return str(json_quoted(entry.name), ": {\"shape\": ", shape_text(entry.type.shape), form,
             ", \"sha256\": \"", entry.sha256, "\"}");
}

}  // namespace

PackedLayout read_packed_layout(std::span<const std::byte> file, std::string_view what) {
  const std::string_view text = header_of(file, what);
  const Json json = parse_json(text, what);
  const JsonPlace header(json, what);
  if (!header.has(metadata)) fail(what, ": no packed weights (a safetensors file without metadata)");
  const JsonPlace facts = header[metadata];
  check_kind(facts, what);
  PackedLayout layout{.dtype = facts["dtype"].text(), .source = facts["source"].text()};
  const DType dtype = precision_of(facts["dtype"], what).dtype;
  layout.data = length_bytes + text.size();
  const std::string inside = str(what, ": tensors");
  const Json tensors_json = parse_json(facts["tensors"].text(), inside);
  const JsonPlace tensors(tensors_json, inside);
  if (header.names().size() > most_tensors) fail(what, ": more than ", most_tensors, " tensors");
  for (const std::string_view name : tensors.names()) {
    layout.entries.push_back(read_facts(tensors[name], name, dtype));
    read_place(header[name], layout.entries.back());
  }
  for (const std::string_view name : header.names())
    if (name != metadata && !tensors.has(name)) fail(what, ": the metadata do not say what '", name, "' is");
  check_places(layout, file.size() - layout.data, what);
  return layout;
}

std::string packed_layout_text(const PackedLayout& layout) {
  std::string tensors, places;
  std::uint64_t end = 0;
  for (const PackedEntry& entry : layout.entries) {
    const std::uint64_t begin = end;
    end += entry.bytes;
    tensors += str(tensors.empty() ? "{" : ", ", facts_text(entry));
    places += str(", ", json_quoted(entry.name), ": {\"dtype\": \"",
                  entry.form ? bytes_type : float_type(entry.type.dtype),
                  "\", \"shape\": ", entry.form ? str('[', entry.bytes, ']') : shape_text(entry.type.shape),
                  ", \"data_offsets\": [", begin, ", ", end, "]}");
  }
  std::string text =
      str("{\"", metadata, "\": {\"format\": \"", format, "\", \"version\": \"", version,
          "\", \"dtype\": ", json_quoted(layout.dtype), ", \"source\": ", json_quoted(layout.source),
          ", \"tensors\": ", json_quoted(tensors + '}'), '}', places, '}');
  text.resize(aligned_bytes(length_bytes + text.size()) - length_bytes, ' ');
  const std::uint64_t length = text.size();
  std::string first(length_bytes, '\0');
  std::memcpy(first.data(), &length, length_bytes);
  return first + text;
}

std::string described(const PackedEntry& entry) {
  const std::string form =
      entry.form ? str(' ', entry.form->format, entry.form->transposed ? " nk" : " kn") : "";
  return str(entry.name, ' ', entry.type, form, '\n');
}

}  // namespace orion
