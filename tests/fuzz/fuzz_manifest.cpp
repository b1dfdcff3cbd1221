// Any manifest is refused with an Error or names files inside the package only; its ports are refused or can
// be copied to and from without leaving their memory.
#include "ane/packed_program.h"
#include "orion/error.h"
#include "run/manifest.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>

using namespace orion;

namespace {

// Two inputs, one of them wider than what it holds, and an output in two shares.
constexpr std::string_view text = R"(program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 4, 1, 8]> a, tensor<fp16, [1, 2, 3, 8]> b) {
            tensor<fp16, [1, 4, 1, 1]> w = const()[name = string("w"), val = tensor<fp16, [1, 4, 1, 1]>(BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64(64)))];
            tensor<fp16, [1, 4, 1, 8]> y = mul(x = a, y = w)[name = string("y")];
            tensor<fp16, [1, 2, 3, 8]> z = relu(x = b)[name = string("z")];
        } -> (y, z);
}
)";

std::optional<Manifest> manifest_of(std::string_view json) {
  try {
    return read_manifest(json, "manifest");
  } catch (const Error&) {
    return std::nullopt;
  }
}

void check_inside(std::string_view path) {
  const std::filesystem::path place(path);
  const bool climbs = std::ranges::any_of(place, [](const auto& part) { return part == ".."; });
  if (place.empty() || place.is_absolute() || climbs) std::abort();
}

TensorType source_type(std::string_view name) {
  return name.size() % 2 == 0 ? TensorType{DType::fp32, {4, 5}} : TensorType{DType::fp16, {1, 8, 1, 8}};
}

void copy_ports(const PackedSegment& segment) {
  PackedProgram packed{std::string(text), segment.weights, segment.inputs, segment.outputs};
  for (auto* uses : {&packed.inputs, &packed.outputs})
    for (ane::PortUse& use : *uses) use.source_type = source_type(use.source);
  try {
    const ane::LegalProgram program = ane::unpack(packed).program;
    for (const ane::PortUse& use : program.inputs) write_port(use, Tensor(use.source_type), Tensor(use.type));
    for (const ane::PortUse& use : program.outputs) read_port(use, Tensor(use.type), Tensor(use.source_type));
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::optional<Manifest> manifest = manifest_of({reinterpret_cast<const char*>(data), size});
  if (!manifest) return 0;
  for (const PackageFile& file : manifest->files) check_inside(file.path);
  for (const PackedSegment& program : manifest->programs) copy_ports(program);
  if (manifest_text(read_manifest(manifest_text(*manifest), "again")) != manifest_text(*manifest))
    std::abort();
  return 0;
}
