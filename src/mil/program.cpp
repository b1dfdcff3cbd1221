// A program's directory: its text and its weight file.
#include "base/file.h"
#include "base/narrow.h"
#include "mil/lowered.h"
#include "orion/error.h"

namespace orion::mil {
namespace {

// The value to store for an entry, in the entry's type.
Tensor stored(const BlobEntry& entry, const TensorMap& weights) {
  if (!entry.value.empty()) return entry.value;
  const auto found = weights.find(entry.name);
  if (found == weights.end()) fail("weight '", entry.name, "' is not given: ", entry.type, " is needed");
  const Tensor& given = found->second;
  const bool convertible = is_float(given.dtype()) && is_float(entry.type.dtype);
  if (given.shape() != entry.type.shape || (given.dtype() != entry.type.dtype && !convertible))
    fail("weight '", entry.name, "' is ", given.type(), ", ", entry.type, " is needed");
  return narrowed(given, entry.type.dtype, entry.name, "declare the weight as fp32");
}

weights::Entry file_entry(const BlobEntry& entry, const Tensor& value) {
  return {.name = entry.name,
          .type = blob_type(entry.type.dtype),
          .shape = {entry.type.shape.begin(), entry.type.shape.end()},
          .data = {value.data(), value.bytes()}};
}

}  // namespace

bool is_blob(const Node& node) {
  if (node.is("weight")) return true;
  return node.is("const") && node.type.dtype != DType::boolean &&
         node.type.shape.size() > most_inline_elements;
}

weights::BlobType blob_type(DType dtype) {
  switch (dtype) {
    case DType::fp16:
      return weights::BlobType::fp16;
    case DType::fp32:
      return weights::BlobType::fp32;
    case DType::int32:
      return weights::BlobType::int32;
    case DType::boolean:
      break;
  }
  fail("a weight file holds no bool tensors");
}

std::vector<BlobEntry> blob_entries_of_lowered(const Graph& graph) {
  std::vector<BlobEntry> entries;
  std::vector<std::uint64_t> sizes;
  for (const Node& node : graph.nodes()) {
    if (!is_blob(node)) continue;
    if (node.type.dtype == DType::boolean)
      fail("weight '", node.name, "' is ", node.type, ": a weight file holds no bool, use int32 and cast");
    entries.push_back({node.name, node.type, node.value, 0});
    sizes.push_back(node.type.bytes());
  }
  const std::vector<std::uint64_t> offsets = weights::layout(sizes);
  for (std::size_t i = 0; i < entries.size(); ++i) entries[i].offset = offsets[i];
  return entries;
}

std::vector<BlobEntry> blob_entries(const Graph& graph) {
  return blob_entries_of_lowered(lower_to_mil(graph));
}

void write_program(const Graph& graph, const TensorMap& weights, const std::filesystem::path& directory) {
  const Graph lowered = lower_to_mil(graph);
  const std::string text = emit_lowered(lowered);
  std::vector<Tensor> values;
  std::vector<weights::Entry> entries;
  for (const BlobEntry& entry : blob_entries_of_lowered(lowered)) {
    values.push_back(stored(entry, weights));
    entries.push_back(file_entry(entry, values.back()));
  }
  const std::filesystem::path weight_path = directory / weight_file;
  std::error_code error;
  std::filesystem::create_directories(weight_path.parent_path(), error);
  if (error) fail(weight_path.parent_path().string(), ": cannot create the directory: ", error.message());
  weights::write(weight_path, entries);
  replace_file(directory / model_file, text);
}

}  // namespace orion::mil
