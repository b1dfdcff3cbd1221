#include "run/manifest.h"

#include "base/json.h"
#include "orion/error.h"
#include "run/package_shapes.h"

#include <algorithm>
#include <limits>
#include <set>

namespace orion {
namespace {

constexpr std::string_view format = "orion package";
constexpr std::int64_t format_version = 1;
constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t hash_digits = 64;

// -- reading --------------------------------------------------------------------------------------

bool is_name(std::string_view name) {
  constexpr std::string_view others = "._-";
  const auto plain = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           others.find(c) != std::string_view::npos;
  };
  return !name.empty() && name[0] != '.' && std::ranges::all_of(name, plain);
}

bool is_hash(std::string_view text) {
  const auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == hash_digits && std::ranges::all_of(text, digit);
}

std::vector<std::string> strings(const JsonPlace& list) {
  std::vector<std::string> texts;
  for (const JsonPlace& item : list.items()) texts.push_back(item.text());
  return texts;
}

PackageFile read_file_entry(const JsonPlace& file) {
  file.allow({"path", "bytes", "sha256"});
  PackageFile entry{file["path"].text(), 0, file["sha256"].text()};
  entry.bytes =
      static_cast<std::uint64_t>(file["bytes"].integer(0, std::numeric_limits<std::int64_t>::max()));
  if (!is_package_path(entry.path) || entry.path == manifest_file)
    file["path"].reject("the path of a file in the package");
  if (!is_hash(entry.sha256)) file["sha256"].reject("a SHA-256 of 64 digits");
  return entry;
}

std::vector<ane::PortUse> read_ports(const JsonPlace& list) {
  std::vector<ane::PortUse> uses;
  for (const JsonPlace& port : list.items()) {
    port.allow({"name", "source", "axis", "begin", "count"});
    ane::PortUse use;
    use.name = port["name"].text();
    use.source = port["source"].text();
    if (port.has("count")) {
      use.axis = static_cast<int>(port["axis"].integer(0, Shape::max_rank - 1));
      use.begin = port["begin"].integer(0, most);
      use.count = port["count"].integer(1, most);
    }
    uses.push_back(std::move(use));
  }
  return uses;
}

// The head is the host's.
SegmentKind read_kind(const JsonPlace& place) {
  for (const SegmentKind kind : segment_kinds)
    if (kind != SegmentKind::head && segment_name(kind) == place.text()) return kind;
  place.reject("a segment of a layer");
}

PackedSegment read_program(const JsonPlace& program) {
  program.allow({"segment", "layer", "columns", "text", "weights", "inputs", "outputs"});
  PackedSegment segment;
  segment.shape.kind = read_kind(program["segment"]);
  segment.shape.layer = program["layer"].integer(0, most);
  segment.shape.tokens = program["columns"].integer(1, most_columns);
  segment.text = program["text"].text();
  segment.weights = strings(program["weights"]);
  segment.inputs = read_ports(program["inputs"]);
  segment.outputs = read_ports(program["outputs"]);
  return segment;
}

void check_files(const Manifest& manifest, std::string_view what) {
  std::set<std::string_view> listed;
  for (const PackageFile& file : manifest.files)
    if (!listed.insert(file.path).second) fail(what, ": lists the file '", file.path, "' twice");
  const auto need = [&](std::string_view path) {
    if (!listed.contains(path)) fail(what, ": names the file '", path, "' and does not list it");
  };
  need(config_file);
  for (const std::string& weights : manifest.weights) need(weights), need(names_file(weights));
  for (const PackedSegment& program : manifest.programs) need(program.text);
}

void check_programs(const Manifest& manifest, std::string_view what) {
  std::set<SegmentShape> shapes;
  for (const PackedSegment& program : manifest.programs)
    if (!shapes.insert(program.shape).second)
      fail(what, ": has the program ", program.text, " of layer ", program.shape.layer, " twice");
}

// -- writing --------------------------------------------------------------------------------------

// Elements separated by commas, each at the start of a line.
template <class Items, class Text>
std::string lines(const Items& items, std::string_view indent, const Text& text) {
  std::string result = "[";
  for (const auto& item : items) result += str(result.size() > 1 ? "," : "", '\n', indent, "  ", text(item));
  return str(result, '\n', indent, ']');
}

std::string port_text(const ane::PortUse& use) {
  const std::string share =
      use.count == 0 ? ""
                     : str(", \"axis\": ", use.axis, ", \"begin\": ", use.begin, ", \"count\": ", use.count);
  return str("{\"name\": ", json_quoted(use.name), ", \"source\": ", json_quoted(use.source), share, '}');
}

std::string program_text(const PackedSegment& program) {
  constexpr std::string_view indent = "      ";
  std::ostringstream out;
  out << "{\"segment\": " << json_quoted(segment_name(program.shape.kind))
      << ", \"layer\": " << program.shape.layer << ", \"columns\": " << program.shape.tokens << ",\n"
      << indent << "\"text\": " << json_quoted(program.text) << ",\n"
      << indent << "\"weights\": " << lines(program.weights, indent, json_quoted) << ",\n"
      << indent << "\"inputs\": " << lines(program.inputs, indent, port_text) << ",\n"
      << indent << "\"outputs\": " << lines(program.outputs, indent, port_text) << '}';
  return out.str();
}

std::string file_text(const PackageFile& file) {
  return str("{\"path\": ", json_quoted(file.path), ", \"bytes\": ", file.bytes,
             ", \"sha256\": ", json_quoted(file.sha256), '}');
}

}  // namespace

bool is_package_path(std::string_view path) {
  const std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) return is_name(path);
  return is_name(path.substr(0, slash)) && is_name(path.substr(slash + 1));
}

std::string names_file(std::string_view weight_file) {
  return str(weight_file, ".names");
}

Manifest read_manifest(std::string_view text, std::string_view what) {
  const Json json = parse_json(text, what);
  const JsonPlace root(json, what);
  if (!root.has("format") || root["format"].text() != format) fail(what, ": no manifest of a package");
  if (root["version"].integer(1, most) != format_version)
    fail(what, ": the package has version ", root["version"].integer(1, most), ", this Orion reads version ",
         format_version, "; compile the model again");
  root.allow({"format", "version", "orion", "profile", "weights", "programs", "files"});
  Manifest manifest;
  manifest.version = root["orion"].text();
  manifest.profile = root["profile"].text();
  manifest.weights = strings(root["weights"]);
  for (const JsonPlace& program : root["programs"].items())
    manifest.programs.push_back(read_program(program));
  for (const JsonPlace& file : root["files"].items()) manifest.files.push_back(read_file_entry(file));
  check_files(manifest, what);
  check_programs(manifest, what);
  return manifest;
}

std::string manifest_text(const Manifest& manifest) {
  constexpr std::string_view indent = "  ";
  std::ostringstream out;
  out << "{\n  \"format\": " << json_quoted(format) << ",\n  \"version\": " << format_version
      << ",\n  \"orion\": " << json_quoted(manifest.version)
      << ",\n  \"profile\": " << json_quoted(manifest.profile)
      << ",\n  \"weights\": " << lines(manifest.weights, indent, json_quoted)
      << ",\n  \"programs\": " << lines(manifest.programs, indent, program_text)
      << ",\n  \"files\": " << lines(manifest.files, indent, file_text) << "\n}\n";
  return out.str();
}

}  // namespace orion
