// Token files and datasets.
#include "python/bindings.h"
#include "python/convert.h"

#include "orion/dataset.h"
#include "orion/error.h"

#include <pybind11/stl/filesystem.h>

namespace py = pybind11;

namespace orion {
namespace {

using Path = std::filesystem::path;

py::array slice_of(const TokenFile& file, std::int64_t begin, std::int64_t end) {
  if (begin >= end) return py::array(numpy_dtype(DType::int32), std::vector<py::ssize_t>{0});
  const Tensor ids(TensorType{DType::int32, {end - begin}});
  file.copy(begin, ids.as<std::int32_t>());
  return numpy_view(ids);
}

py::object facts_of(const TokenFile& file) {
  if (!file.facts()) return py::none();
  const TokenFacts& facts = *file.facts();
  py::dict dict;
  dict["vocab"] = facts.vocab;
  dict["separator"] = facts.separator >= 0 ? py::object(py::int_(facts.separator)) : py::none();
  dict["tokenizer"] = facts.tokenizer.empty() ? py::object(py::none()) : py::str(facts.tokenizer);
  dict["documents"] = facts.documents;
  dict["text_bytes"] = facts.text_bytes;
  return dict;
}

void write_tokens(TokenWriter& writer, const py::array& ids) {
  if (ids.size() == 0) return;
  const Tensor tensor = tensor_from_numpy(ids, {DType::int32, {ids.size()}}, "tokens");
  const py::gil_scoped_release release;
  writer.write(tensor.as<std::int32_t>());
}

py::tuple arrays_of(const Batch& batch) {
  return py::make_tuple(numpy_view(batch.ids), numpy_view(batch.targets));
}

py::tuple next_batch(Dataset& dataset, std::int64_t batch) {
  Batch filled;
  {
    const py::gil_scoped_release release;
    filled = dataset.next(batch);
  }
  return arrays_of(filled);
}

std::unique_ptr<Dataset> make_dataset(std::shared_ptr<TokenFile> file, std::int64_t sequence,
                                      std::uint64_t seed, double validation, std::int64_t vocab, bool shuffle,
                                      int rank, int ranks) {
  const py::gil_scoped_release release;
  return std::make_unique<Dataset>(std::move(file),
                                   DatasetOptions{sequence, seed, validation, vocab, shuffle, rank, ranks});
}

void bind_token_file(py::module_& m) {
  py::class_<TokenFile, std::shared_ptr<TokenFile>>(m, "TokenFile", "A mapped file of token ids.")
      .def(py::init([](const Path& path, const std::string& format) {
             return std::make_shared<TokenFile>(path, token_format(format));
           }),
           py::arg("path"), py::arg("format") = "auto")
      .def("__len__", &TokenFile::size)
      .def("slice", slice_of, py::arg("begin"), py::arg("end"), "Tokens [begin, end) as int32.")
      .def_property_readonly("path", &TokenFile::path)
      .def_property_readonly("width", &TokenFile::width, "Bytes per token.")
      .def_property_readonly("kind", &TokenFile::kind, "Whose header it has: raw, llm.c or orion.")
      .def_property_readonly("facts", facts_of, "What Orion's header says; None for any other file.")
      .def_property_readonly(
          "max_token", py::cpp_function(&TokenFile::max_token, py::call_guard<py::gil_scoped_release>()),
          "The largest id.")
      .def_property_readonly("hash",
                             py::cpp_function(&TokenFile::hash, py::call_guard<py::gil_scoped_release>()),
                             "SHA-256 of the tokens' bytes.");
  py::class_<TokenWriter>(m, "TokenWriter", "Writes a token file with Orion's header, all or nothing.")
      .def(py::init([](const Path& path, std::int64_t vocab, std::optional<std::int64_t> separator,
                       const std::string& tokenizer) {
             const py::gil_scoped_release release;  // it may wait for another writer
             return std::make_unique<TokenWriter>(
                 path,
                 TokenFacts{.vocab = vocab, .separator = separator.value_or(-1), .tokenizer = tokenizer});
           }),
           py::arg("path"), py::arg("vocab"), py::arg("separator") = py::none(), py::arg("tokenizer") = "")
      .def("__len__", &TokenWriter::size)
      .def_property_readonly("width", &TokenWriter::width, "Bytes per token.")
      .def("write", write_tokens, py::arg("ids"), "Appends int32 ids.")
      .def("commit", &TokenWriter::commit, py::arg("documents"), py::arg("text_bytes"),
           py::call_guard<py::gil_scoped_release>(), "Puts the file in its place.")
      .def("discard", &TokenWriter::discard, "Leaves everything as it was.");
}

}  // namespace

void bind_dataset(py::module_& m) {
  bind_token_file(m);
  py::class_<Dataset>(m, "Dataset", "Batches of windows of a token file.")
      .def(py::init(&make_dataset), py::arg("file"), py::kw_only(), py::arg("sequence") = 256,
           py::arg("seed") = 0, py::arg("validation") = 0.0, py::arg("vocab") = 0, py::arg("shuffle") = true,
           py::arg("rank") = 0, py::arg("ranks") = 1)
      .def_property_readonly("windows", &Dataset::windows, "Windows of an epoch.")
      .def_property_readonly("validation_windows", &Dataset::validation_windows)
      .def("next", next_batch, py::arg("batch"), "The next (ids, targets), int32 (B, S).")
      .def(
          "validation",
          [](const Dataset& dataset, std::int64_t begin, std::int64_t batch) {
            return arrays_of(dataset.validation(begin, batch));
          },
          py::arg("begin"), py::arg("batch"),
          "Validation windows [begin, begin + batch) in the file's order.")
      .def_property_readonly(
          "cursor",
          [](const Dataset& dataset) { return std::pair(dataset.cursor().epoch, dataset.cursor().window); },
          "(epoch, window): where the next batch comes from.")
      .def(
          "seek",
          [](Dataset& dataset, std::int64_t epoch, std::int64_t window) { dataset.seek({epoch, window}); },
          py::arg("epoch"), py::arg("window"))
      .def_property_readonly("hash", &Dataset::hash, "Identifies tokens, windows and order.");
}

}  // namespace orion
