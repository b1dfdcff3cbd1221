// Tensors and NumPy arrays, without copying where the layouts agree.
#pragma once

#include "orion/tensor.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>  // in every binding file: casters must not differ between them

namespace orion {

/// The NumPy dtype of an element type.
pybind11::dtype numpy_dtype(DType dtype);
/// The element type of a NumPy dtype; Error if graphs have none for it.
DType dtype_of(const pybind11::dtype& dtype);

/// A shape from a Python int, list or tuple of ints.
Shape shape_of(const pybind11::handle& sizes);
pybind11::tuple tuple_of(const Shape& shape);

/// The array's memory as a tensor. Copies only if it is not C-contiguous or not aligned. The tensor keeps the
/// array alive and may be released on any thread.
Tensor tensor_from_numpy(const pybind11::array& array);
/// The same for a tensor of a given type: a float of another width and integers that fit are
/// converted, everything else is an Error that starts with `what`.
Tensor tensor_from_numpy(const pybind11::object& value, const TensorType& type, std::string_view what);
/// An array over the tensor's memory, which it keeps alive.
pybind11::array numpy_view(const Tensor& tensor, bool writable = true);

/// A dict of name -> array.
TensorMap tensors_of(const pybind11::dict& arrays);

}  // namespace orion
