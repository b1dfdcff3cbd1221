// MIL text and weight files.
#include "python/bindings.h"
#include "python/convert.h"

#include "orion/error.h"
#include "orion/mil.h"

#include <pybind11/stl/filesystem.h>

namespace py = pybind11;

namespace orion {
namespace {

using Path = std::filesystem::path;

// -- weight files ---------------------------------------------------------------------------------

std::span<const std::byte> bytes_of(const py::buffer_info& info) {
  return {static_cast<const std::byte*>(info.ptr), static_cast<std::size_t>(info.size * info.itemsize)};
}

// The bytes of some buffers, which stay alive and in place as long as this.
class Buffers {
 public:
  std::span<const std::byte> add(const py::buffer& buffer) {
    infos_.push_back(buffer.request());
    const py::buffer_info& info = infos_.back();
    py::ssize_t dense = info.itemsize;
    for (py::ssize_t axis = info.ndim; axis-- > 0;) {
      const auto i = static_cast<std::size_t>(axis);
      if (info.shape[i] > 1 && info.strides[i] != dense) fail("weight file: the memory of a buffer has gaps");
      dense *= info.shape[i];
    }
    return bytes_of(info);
  }

 private:
  std::vector<py::buffer_info> infos_;
};

std::vector<std::uint64_t> write_weights(const Path& path, const py::list& rows) {
  Buffers buffers;
  std::vector<weights::Entry> entries;
  for (const py::handle row : rows) {
    const auto [name, type, shape, data] =
        row.cast<std::tuple<std::string, std::string, std::vector<std::int64_t>, py::buffer>>();
    entries.push_back({name, weights::type_from_name(type), shape, buffers.add(data)});
  }
  const py::gil_scoped_release release;
  return weights::write(path, entries);
}

void patch_weights(const Path& path, const py::list& rows) {
  Buffers buffers;
  std::vector<weights::Change> changes;
  for (const py::handle row : rows) {
    const auto [key, data] = row.cast<std::pair<weights::Key, py::buffer>>();
    changes.push_back({key, buffers.add(data)});
  }
  const py::gil_scoped_release release;
  weights::patch(path, changes);
}

py::array_t<std::uint8_t> pack(const std::string& type, const py::array_t<std::uint8_t>& values) {
  const auto dense = py::array_t<std::uint8_t, py::array::c_style>::ensure(values);
  const std::vector<std::byte> packed =
      weights::pack(weights::type_from_name(type), {dense.data(), static_cast<std::size_t>(dense.size())});
  return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(packed.size()),
                                   reinterpret_cast<const std::uint8_t*>(packed.data()));
}

const weights::Chunk& chunk_at(const weights::WeightFile& file, std::uint64_t offset) {
  const weights::Chunk* chunk = file.find(offset);
  if (chunk == nullptr) fail(file.path().string(), ": no chunk at byte ", offset);
  return *chunk;
}

// Not copied, read-only.
py::array payload(const weights::WeightFile& file, std::uint64_t offset) {
  const std::span<const std::byte> data = chunk_at(file, offset).data;
  auto* held = new std::shared_ptr<const void>(file.owner());
  const py::capsule owner(held, [](void* p) { delete static_cast<std::shared_ptr<const void>*>(p); });
  py::array array(py::dtype::of<std::uint8_t>(), {static_cast<py::ssize_t>(data.size())}, data.data(), owner);
  array.attr("setflags")(py::arg("write") = false);
  return array;
}

py::array_t<std::uint8_t> unpacked(const weights::WeightFile& file, std::uint64_t offset) {
  const weights::Chunk& chunk = chunk_at(file, offset);
  const std::vector<std::uint8_t> values = weights::unpack(chunk.type, chunk.elements, chunk.data);
  return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::list chunks(const weights::WeightFile& file) {
  py::list rows;
  for (const weights::Chunk& chunk : file.chunks())
    rows.append(py::make_tuple(chunk.offset, chunk.name, weights::type_name(chunk.type),
                               py::tuple(py::cast(chunk.shape))));
  return rows;
}

void bind_weight_file(py::module_& m) {
  py::class_<weights::WeightFile>(m, "WeightFile", "A mapped weight file, checked when opened.")
      .def(py::init<Path>(), py::arg("path"), py::call_guard<py::gil_scoped_release>())
      .def("chunks", chunks, "(offset, name or \"\", type, shape) of each chunk, by ascending offset.")
      .def("payload", payload, py::arg("offset"), "A chunk's bytes, not copied, read-only.")
      .def("unpacked", unpacked, py::arg("offset"),
           "The elements of a chunk of a type narrower than a byte, one per byte.");
  m.def("write_weights", write_weights, py::arg("path"), py::arg("rows"),
        "Writes (name, type, shape, payload) rows; returns their offsets.");
  m.def("patch_weights", patch_weights, py::arg("path"), py::arg("rows"),
        "Replaces the payloads of (name or offset, payload) rows, all or none.");
  m.def("pack_weights", pack, py::arg("type"), py::arg("values"),
        "Packs elements of a type narrower than a byte.");
}

// -- MIL text -------------------------------------------------------------------------------------

GraphPtr parse(const std::string& text, const std::optional<std::string>& function) {
  const py::gil_scoped_release release;
  return std::make_shared<Graph>(mil::parse(text, function.value_or("")));
}

void write_program(const Graph& graph, const py::dict& weights, const Path& directory) {
  const TensorMap tensors = tensors_of(weights);
  const py::gil_scoped_release release;
  mil::write_program(graph, tensors, directory);
}

py::list blob_entries(const Graph& graph) {
  py::list rows;
  for (const mil::BlobEntry& entry : mil::blob_entries(graph))
    rows.append(
        py::make_tuple(entry.name, entry.offset, dtype_name(entry.type.dtype), tuple_of(entry.type.shape)));
  return rows;
}

}  // namespace

void bind_mil(py::module_& m) {
  m.def("emit_mil", mil::emit, py::arg("graph"), "The graph as MIL text.");
  m.def("parse_mil", parse, py::arg("text"), py::arg("function") = py::none(), "A function of a MIL text.");
  m.def("diff_mil", mil::diff, py::arg("a"), py::arg("b"), "How two graphs differ, a line each.");
  m.def(
      "lower_to_mil", [](const Graph& g) { return std::make_shared<Graph>(mil::lower_to_mil(g)); },
      py::arg("graph"), "The graph as `emit_mil` writes it.");
  m.def("blob_entries", blob_entries, py::arg("graph"),
        "(name, offset, dtype, shape) of what the program's weight file holds.");
  m.def("write_program", write_program, py::arg("graph"), py::arg("weights"), py::arg("directory"),
        "Writes model.mil and weights/weight.bin.");
  bind_weight_file(m);
}

}  // namespace orion
