// Growing a key/value cache.
//
// Shapes: cache (B, G, S, D), update (B, G, T, D), position (B,): rows position[b] ... position[b] + T - 1
// of sequence b are replaced.
#include "ops/composite.h"
#include "ops/rules.h"
#include "orion/ops.h"

namespace orion {
namespace {

using Values = std::vector<Value>;

TensorType cache_update_type(const Graph& graph, Node& node) {
  require_float(graph, node, 0);
  require_same_dtype(graph, node, 0, 1);
  require_dtype(graph, node, 2, DType::int32);
  const TensorType& cache = operand(graph, node, 0);
  const Shape& update = operand(graph, node, 1).shape;
  if (cache.shape.rank() != 4 || update.rank() != 4)
    fail("cache_update: cache ", cache.shape, " and update ", update,
         " must be (B, G, S, D) and (B, G, T, D)");
  Shape wanted = cache.shape;
  wanted.set(2, update[2]);
  if (update != wanted || update[2] > cache.shape[2])
    fail("cache_update: update ", update, " does not fit into cache ", cache.shape,
         "; only the third axis may be smaller");
  if (operand(graph, node, 2).shape != Shape{cache.shape[0]})
    fail("cache_update: position is ", operand(graph, node, 2).shape, ", ", Shape{cache.shape[0]},
         " is needed, one row for each sequence");
  return cache;
}

void cache_update_kernel(const KernelCall& call) {
  const View& update = call.in[1];
  const Shape& shape = call.out.shape;
  const std::int64_t rows = update.shape[2];
  const std::int64_t width = shape[3];
  copy_elements(call.in[0], 0, call.out, 0, shape.size());
  for (std::int64_t head = 0; head < shape[0] * shape[1]; ++head) {
    const std::int64_t first = call.in[2].as<std::int32_t>()[head / shape[1]];
    if (first < 0 || first + rows > shape[2])
      fail("cache_update: rows ", first, " to ", first + rows, " of a cache of ", shape[2]);
    copy_elements(update, head * rows * width, call.out, (head * shape[2] + first) * width, rows * width);
  }
}

// int32 (B, T): the rows that are replaced.
Value rows_of(Value position, std::int64_t count) {
  const Value column = reshaped(position, {position.shape().size(), 1});
  return ops::add(column, counting(position.owner(), count));
}

Values cache_update_gradient(const GradientCall& c) {
  const Value rows = rows_of(c.in[2], c.in[1].shape()[2]);
  return {
      ops::cache_update(c.dy, zeros(c.graph, c.in[1].type()), c.in[2]), ops::gather(c.dy, rows, 2, 1), {}};
}

// One slice_update for each sequence. Its begin is (b, 0, position[b], 0).
Value expand_cache_update(const ExpandCall& c) {
  const Shape cache = c.in[0].shape();
  const Shape update = c.in[1].shape();
  Value result = c.in[0];
  for (std::int64_t b = 0; b < cache[0]; ++b) {
    const Value row = ops::slice_by_index(c.in[2], {b}, {b + 1});
    const Value one = ops::slice_by_index(c.in[1], {b, 0, 0, 0}, {b + 1, update[1], update[2], update[3]});
    const auto corner = [&](std::int64_t batch, std::int64_t head, Value at, std::int64_t feature) {
      const std::int64_t before[] = {batch, head};
      const std::int64_t after[] = {feature};
      return ops::concat({ints(c.graph, before), at, ints(c.graph, after)}, 0);
    };
    const Value last = ops::add(row, c.graph.scalar(DType::int32, static_cast<double>(update[2])));
    result = ops::slice_update(result, one, corner(b, 0, row, 0), corner(b + 1, cache[1], last, cache[3]));
  }
  return result;
}

}  // namespace

OpDef cache_update_op() {
  return {.name = "cache_update",
          .doc =
              "A key/value cache with new rows written into it.\n\ncache (B, G, S, D), update (B, G, T, D), "
              "position int32 (B,): rows position[b] to position[b] + T of sequence b are replaced. Rows "
              "outside the cache are an error. Where the result is an output named like the input cache, "
              "devices write in place.",
          .args = {{"cache"}, {"update"}, {"position"}},
          .infer = cache_update_type,
          .kernel = cache_update_kernel,
          .gradient = cache_update_gradient,
          .expand = expand_cache_update,
          .in_mil = not_in_mil};
}

}  // namespace orion
