// Any file of packed weights is refused with an Error, or all that its layout names lies inside it and a
// device takes matrices only in the size that it reads.
#include "orion/device.h"
#include "orion/error.h"
#include "orion/packed_weights.h"
#include "run/packed_layout.h"

#include <cstdlib>
#include <cstring>
#include <optional>

using namespace orion;

namespace {

std::optional<PackedLayout> layout_of(std::span<const std::byte> file) {
  try {
    return read_packed_layout(file, "file");
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Aligned, as a mapped file is.
Tensor copy_of(std::span<const std::byte> file) {
  Tensor copy(TensorType{DType::boolean, {static_cast<std::int64_t>(file.size()) + 1}});
  std::memcpy(copy.data(), file.data(), file.size());
  return copy;
}

void read_through_device(const PackedEntry& entry, std::byte* content) {
  PackedWeights weights;
  const TensorType bytes{DType::boolean, {static_cast<std::int64_t>(entry.bytes)}};
  weights.matrices["w"] = {entry.type, entry.form->format, entry.form->transposed,
                           Tensor::view(bytes, content)};
  try {
    static_cast<void>(find_device("cpu").load_packed(weights)->read("w"));
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Tensor file = copy_of(std::as_bytes(std::span(data, size)));
  const std::optional<PackedLayout> layout = layout_of({file.data(), size});
  if (!layout) return 0;
  for (const PackedEntry& entry : layout->entries) {
    if (layout->data + entry.begin + entry.bytes > size) std::abort();
    if (entry.form) read_through_device(entry, file.data() + layout->data + entry.begin);
  }
  const std::string again = packed_layout_text(*layout);
  const std::string rest(size - layout->data, '\0');
  const std::string whole = again + rest;
  if (packed_layout_text(read_packed_layout(std::as_bytes(std::span(whole.data(), whole.size())), "again")) !=
      again)
    std::abort();
  return 0;
}
