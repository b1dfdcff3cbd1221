#include "python/convert.h"

#include "orion/error.h"

#include <cmath>
#include <cstring>

namespace py = pybind11;

namespace orion {
namespace {

// Keeps a Python object alive from C++, taking the GIL for the last release.
std::shared_ptr<const void> keep(py::object object) {
  auto* held = new py::object(std::move(object));
  return {held, [](const void* p) {
            py::gil_scoped_acquire gil;
            delete static_cast<const py::object*>(p);
          }};
}

py::array contiguous(const py::array& array) {
  constexpr int dense_and_aligned =
      static_cast<int>(py::array::c_style) | static_cast<int>(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
  return py::array::ensure(array, dense_and_aligned);
}

bool is_kind(const py::array& array, std::string_view kinds) {
  return kinds.find(array.dtype().kind()) != std::string_view::npos;
}

void check_conversion(const py::array& array, const Tensor& converted, std::string_view what) {
  const py::module_ numpy = py::module_::import("numpy");
  const py::array after = numpy_view(converted, false);
  if (converted.dtype() == DType::int32) {
    if (!numpy.attr("array_equal")(array, after).cast<bool>())
      fail(what, ": ", py::str(array.dtype()).cast<std::string>(), " values beyond int32");
    return;
  }
  const py::object lost = numpy.attr("isinf")(after) & ~numpy.attr("isinf")(array).cast<py::array>();
  if (numpy.attr("any")(lost).cast<bool>()) fail(what, ": values beyond ", converted.dtype(), "'s range");
}

}  // namespace

py::dtype numpy_dtype(DType dtype) {
  constexpr const char* codes[] = {"e", "f", "i", "?"};
  return py::dtype(codes[static_cast<std::size_t>(dtype)]);
}

DType dtype_of(const py::dtype& dtype) {
  for (const DType candidate : {DType::fp16, DType::fp32, DType::int32, DType::boolean})
    if (dtype.is(numpy_dtype(candidate)) || dtype.equal(numpy_dtype(candidate))) return candidate;
  fail("arrays of ", py::str(dtype).cast<std::string>(),
       " are not supported: float16, float32, int32 and bool are");
}

Shape shape_of(const py::handle& sizes) {
  if (py::isinstance<py::int_>(sizes)) return Shape{sizes.cast<std::int64_t>()};
  return Shape(sizes.cast<std::vector<std::int64_t>>());
}

py::tuple tuple_of(const Shape& shape) {
  py::tuple sizes(static_cast<std::size_t>(shape.rank()));
  for (int i = 0; i < shape.rank(); ++i) sizes[static_cast<std::size_t>(i)] = shape[i];
  return sizes;
}

Tensor tensor_from_numpy(const py::array& array) {
  const DType dtype = dtype_of(array.dtype());
  py::array dense = contiguous(array);
  const std::vector<std::int64_t> sizes(dense.shape(), dense.shape() + dense.ndim());
  void* data = const_cast<void*>(dense.data());
  return Tensor::view({dtype, Shape(sizes)}, data, keep(std::move(dense)));
}

Tensor tensor_from_numpy(const py::object& value, const TensorType& type, std::string_view what) {
  const py::array array = py::array::ensure(value);
  if (!array) fail(what, ": an array is needed, not ", py::str(py::type::of(value)).cast<std::string>());
  const std::vector<std::int64_t> sizes(array.shape(), array.shape() + array.ndim());
  if (!std::equal(sizes.begin(), sizes.end(), type.shape.begin(), type.shape.end()))
    fail(what, ": the array has shape ", py::str(array.attr("shape")).cast<std::string>(), ", ", type.shape,
         " is needed");
  if (array.dtype().equal(numpy_dtype(type.dtype))) return tensor_from_numpy(array);
  const bool compatible =
      is_float(type.dtype) ? is_kind(array, "f") : type.dtype == DType::int32 && is_kind(array, "iu");
  if (!compatible)
    fail(what, ": the array is ", py::str(array.dtype()).cast<std::string>(), ", ", type.dtype, " is needed");
  py::object warnings = py::module_::import("numpy").attr("errstate")(py::arg("over") = "ignore");
  warnings.attr("__enter__")();
  const py::array cast = array.attr("astype")(numpy_dtype(type.dtype));
  warnings.attr("__exit__")(py::none(), py::none(), py::none());
  const Tensor converted = tensor_from_numpy(cast);
  check_conversion(array, converted, what);
  return converted;
}

py::array numpy_view(const Tensor& tensor, bool writable) {
  auto* held = new Tensor(tensor);
  const py::capsule owner(held, [](void* p) { delete static_cast<Tensor*>(p); });
  const std::vector<py::ssize_t> sizes(tensor.shape().begin(), tensor.shape().end());
  py::array array(numpy_dtype(tensor.dtype()), sizes, tensor.data(), owner);
  if (!writable) array.attr("setflags")(py::arg("write") = false);
  return array;
}

TensorMap tensors_of(const py::dict& arrays) {
  TensorMap tensors;
  for (const auto& [name, value] : arrays) {
    const py::array array = py::array::ensure(value);
    if (!array) fail("'", py::str(name).cast<std::string>(), "' is not an array");
    tensors[name.cast<std::string>()] = tensor_from_numpy(array);
  }
  return tensors;
}

}  // namespace orion
