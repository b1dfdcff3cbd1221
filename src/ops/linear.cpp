// Matrix products; convolution is in conv.cpp.
#include "ops/conv.h"
#include "ops/families.h"
#include "ops/rules.h"
#include "orion/ops.h"

#include <utility>

namespace orion {
namespace {

// A matrix operand as the product sees it: transposed if the op says so.
struct Matrix {
  Shape batch;  // the leading axes
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t row_stride;
  std::int64_t col_stride;
};

Matrix as_matrix(const Shape& shape, bool transposed) {
  const int rank = shape.rank();
  Matrix m{Shape(std::span(shape.begin(), static_cast<std::size_t>(rank - 2))), shape[rank - 2],
           shape[rank - 1], shape[rank - 1], 1};
  if (transposed) {
    std::swap(m.rows, m.cols);
    std::swap(m.row_stride, m.col_stride);
  }
  return m;
}

TensorType matmul_type(const Graph& graph, Node& node) {
  for (const std::size_t arg : {std::size_t{0}, std::size_t{1}}) {
    require_float(graph, node, arg);
    if (operand(graph, node, arg).shape.rank() < 2)
      fail("matmul: ", arg_name(node, arg), " is ", operand(graph, node, arg),
           ", at least two axes are needed; reshape it to a row or a column");
  }
  require_same_dtype(graph, node, 0, 1);
  const Matrix x = as_matrix(operand(graph, node, 0).shape, node.flag("transpose_x"));
  const Matrix y = as_matrix(operand(graph, node, 1).shape, node.flag("transpose_y"));
  if (x.cols != y.rows) fail("matmul: inner sizes ", x.cols, " and ", y.rows, " differ");
  Shape shape = broadcast(node, x.batch, y.batch);
  shape.append(x.rows);
  shape.append(y.cols);
  return {operand(graph, node, 0).dtype, shape};
}

// x (M, K) @ y (K, N) -> z (M, N)
void multiply(const float* x, const Matrix& xm, const float* y, const Matrix& ym, float* z) {
  for (std::int64_t m = 0; m < xm.rows; ++m) {
    for (std::int64_t n = 0; n < ym.cols; ++n) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < xm.cols; ++k)
        sum += static_cast<double>(x[m * xm.row_stride + k * xm.col_stride]) *
               static_cast<double>(y[k * ym.row_stride + n * ym.col_stride]);
      z[m * ym.cols + n] = static_cast<float>(sum);
    }
  }
}

void matmul_kernel(const KernelCall& call) {
  const Matrix x = as_matrix(call.in[0].shape, call.node.flag("transpose_x"));
  const Matrix y = as_matrix(call.in[1].shape, call.node.flag("transpose_y"));
  const Matrix z = as_matrix(call.out.shape, false);
  const std::array strides = {broadcast_strides(x.batch, z.batch), broadcast_strides(y.batch, z.batch)};
  for_each<2>(z.batch, strides, [&](std::int64_t i, const auto& at) {
    multiply(call.in[0].as<float>() + at[0] * x.rows * x.cols, x,
             call.in[1].as<float>() + at[1] * y.rows * y.cols, y, call.out.as<float>() + i * z.rows * z.cols);
  });
}

// z = x y: dx = dz y^T, dy = x^T dz, each transposed back if its operand was.
std::vector<Value> matmul_gradient(const GradientCall& c) {
  const Value x = c.in[0];
  const Value y = c.in[1];
  const bool tx = c.node.flag("transpose_x");
  const bool ty = c.node.flag("transpose_y");
  const Value dx = tx ? ops::matmul(y, c.dy, ty, true) : ops::matmul(c.dy, y, false, !ty);
  const Value dy = ty ? ops::matmul(c.dy, x, true, tx) : ops::matmul(x, c.dy, !tx, false);
  return {sum_to(dx, x.shape()), sum_to(dy, y.shape())};
}

}  // namespace

std::span<const OpDef> linear_ops() {
  static const std::vector<OpDef> table = {
      {.name = "matmul",
       .doc =
           "Matrix product x @ y over the last two axes; leading axes broadcast.\n\nx (..., M, K), y (..., "
           "K, N) -> (..., M, N). transpose_x and transpose_y swap the last two axes of their operand "
           "first.",
       .args = {{"x"}, {"y"}},
       .attrs = {{"transpose_x", AttrKind::boolean, false}, {"transpose_y", AttrKind::boolean, false}},
       .infer = matmul_type,
       .kernel = matmul_kernel,
       .gradient = matmul_gradient},
      conv_op(),
  };
  return table;
}

}  // namespace orion
