#include "ane/image.h"

#include "mil/lowered.h"
#include "orion/error.h"

namespace orion::ane {
Blueprint make_blueprint(const Graph& legal) {
  return {mil::emit(legal), mil::blob_entries(legal)};
}

Image make_image(const Blueprint& blueprint, const std::function<Tensor(const mil::BlobEntry&)>& value_of) {
  Image image{blueprint.text, {}};
  if (blueprint.entries.empty()) return image;
  std::vector<Tensor> values;
  std::vector<weights::Entry> entries;
  for (const mil::BlobEntry& entry : blueprint.entries) {
    values.push_back(entry.value.empty() ? value_of(entry) : entry.value);
    const Tensor& value = values.back();
    if (value.type() != entry.type)
      fail("weight '", entry.name, "' is ", value.type(), ", the program wants ", entry.type);
    entries.push_back({.name = {},
                       .type = mil::blob_type(entry.type.dtype),
                       .shape = {entry.type.shape.begin(), entry.type.shape.end()},
                       .data = {value.data(), value.bytes()}});
  }
  image.weights = weights::file_bytes(entries);
  return image;
}

}  // namespace orion::ane
