// Any bytes are refused with an Error or are chunks that can be read to their last element.
#include "orion/error.h"
#include "orion/weight_file.h"

#include <array>
#include <cstdlib>

using namespace orion;

namespace {

void read_file(std::span<const std::byte> file) {
  try {
    for (const weights::Chunk& chunk : weights::read_chunks(file, "file")) {
      if (chunk.data.size() != weights::payload_bytes(chunk.type, chunk.elements)) std::abort();
      if (weights::bits(chunk.type) >= 8) continue;
      if (weights::unpack(chunk.type, chunk.elements, chunk.data).size() != chunk.elements) std::abort();
    }
  } catch (const Error&) {
  }
}

void read_names_of_two_chunks(std::string_view text) {
  std::array<weights::Chunk, 2> chunks;
  chunks[0] = {
      .name = {}, .type = weights::BlobType::fp16, .shape = {6}, .offset = 64, .elements = 6, .data = {}};
  chunks[1] = {
      .name = {}, .type = weights::BlobType::int4, .shape = {1}, .offset = 192, .elements = 1, .data = {}};
  try {
    weights::read_names(text, "names", chunks);
    for (const weights::Chunk& chunk : chunks)
      if (chunk.name.empty() || weights::element_count(chunk.shape) != chunk.elements) std::abort();
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span bytes(data, size);
  read_file(std::as_bytes(bytes));
  read_names_of_two_chunks({reinterpret_cast<const char*>(data), size});
  return 0;
}
