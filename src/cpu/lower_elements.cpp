// Functions of elements, one node at a time.
#include "cpu/lower.h"

#include "orion/error.h"

#include <algorithm>
#include <array>

namespace orion::cpu {
namespace {

constexpr std::pair<std::string_view, Unary> unary_ops[] = {
    {"relu", Unary::relu}, {"silu", Unary::silu}, {"sigmoid", Unary::sigmoid}, {"tanh", Unary::tanh},
    {"exp", Unary::exp},   {"log", Unary::log},   {"sqrt", Unary::sqrt},       {"rsqrt", Unary::rsqrt},
    {"erf", Unary::erf},   {"neg", Unary::neg},   {"abs", Unary::abs},         {"square", Unary::square},
    {"clip", Unary::clip}};

constexpr std::pair<std::string_view, Binary> binary_ops[] = {
    {"add", Binary::add},         {"sub", Binary::sub},
    {"mul", Binary::mul},         {"real_div", Binary::real_div},
    {"maximum", Binary::maximum}, {"minimum", Binary::minimum},
    {"pow", Binary::pow},         {"silu_gradient", Binary::silu_gradient}};

template <class Table>
auto* entry_of(const Table& table, const Node& node) {
  const auto* found = std::ranges::find(table, node.op->name,
                                        [](const auto& entry) { return std::string_view(entry.first); });
  return found == std::end(table) ? nullptr : found;
}

}  // namespace

std::optional<Binary> binary_of(const Node& node) {
  if (node.is("gelu_gradient")) {
    if (node.text("mode") == "EXACT") return Binary::gelu_erf_gradient;
    return node.text("mode") == "TANH_APPROXIMATION" ? Binary::gelu_tanh_gradient
                                                     : Binary::gelu_sigmoid_gradient;
  }
  const auto* entry = entry_of(binary_ops, node);
  return entry == nullptr ? std::nullopt : std::optional(entry->second);
}

namespace {

std::optional<Unary> unary_of(const Node& node) {
  if (node.is("gelu")) {
    if (node.text("mode") == "EXACT") return Unary::gelu_erf;
    return node.text("mode") == "TANH_APPROXIMATION" ? Unary::gelu_tanh : Unary::gelu_sigmoid;
  }
  const auto* entry = entry_of(unary_ops, node);
  return entry == nullptr ? std::nullopt : std::optional(entry->second);
}

}  // namespace

std::optional<UnaryCall> unary_call(const Node& node) {
  const std::optional<Unary> op = unary_of(node);
  if (!op) return std::nullopt;
  UnaryCall call{.op = *op, .count = node.type.shape.size()};
  if (node.op->attr_index("epsilon")) call.alpha = static_cast<float>(node.number("epsilon"));
  if (node.is("clip")) {
    call.alpha = static_cast<float>(node.number("alpha"));
    call.beta = static_cast<float>(node.number("beta"));
  }
  return call;
}

void lower_unary(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (!is_float(node.type.dtype)) return lower_reference(p, id);
  const UnaryCall call = *unary_call(node);
  const Slot x = p.wide(node.inputs[0]);
  const Slot y = p.result(id);
  p.add_step({.label = label(node),
              .reads = {x},
              .writes = y,
              .run =
                  [=](const Run& run) {
                    UnaryCall now = call;
                    now.x = run.at<float>(x);
                    now.y = run.at<float>(y);
                    unary(run.pool, now);
                  },
              .in_place = true});
}

namespace {

// How an operand of a binary op moves through a result seen as (rows, cols).
struct Stride {
  std::int64_t row = 0;
  std::int64_t col = 0;
};

// The operand's strides if it fits the (rows, cols) view with that many columns.
std::optional<Stride> stride_in(const Shape& operand, const Shape& result, std::int64_t cols) {
  if (operand.size() == 1) return Stride{0, 0};
  if (operand == result) return Stride{cols, 1};
  Shape padded = Shape::ones(result.rank() - operand.rank());
  for (const std::int64_t size : operand) padded.append(size);
  // The axes inside a row, then those over rows, must each be all there or all broadcast.
  int split = result.rank();
  for (std::int64_t inside = 1; inside < cols; inside *= result[split]) --split;
  const auto covers = [&](int from, int to) {
    bool all = true, none = true;
    for (int axis = from; axis < to; ++axis) {
      all = all && padded[axis] == result[axis];
      none = none && padded[axis] == 1;
    }
    return std::pair(all, none);
  };
  const auto [rows_all, rows_none] = covers(0, split);
  const auto [cols_all, cols_none] = covers(split, result.rank());
  if ((!rows_all && !rows_none) || (!cols_all && !cols_none)) return std::nullopt;
  const std::int64_t width = cols_all ? cols : 1;
  return Stride{rows_all ? width : 0, cols_all ? 1 : 0};
}

// A result seen as (rows, cols), and how each operand moves through it.
struct RowView {
  std::int64_t rows = 0, cols = 0;
  std::array<Stride, 3> strides;
};

// Tries each way of cutting the result into rows until all operands fit.
std::optional<RowView> row_view(const Planner& p, const Node& node) {
  const Shape& result = node.type.shape;
  RowView view{.rows = 1, .cols = result.size(), .strides = {}};
  for (int axis = 0; axis <= result.rank(); ++axis) {
    bool fits = true;
    for (std::size_t i = 0; i < node.inputs.size() && fits; ++i) {
      const auto stride = stride_in(p.shape(node.inputs[i]), result, view.cols);
      fits = stride.has_value();
      if (fits) view.strides[i] = *stride;
    }
    if (fits) return view;
    if (axis == result.rank()) break;
    view.cols /= result[axis];
    view.rows *= result[axis];
  }
  return std::nullopt;
}

}  // namespace

void lower_binary(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const auto view = row_view(p, node);
  if (!is_float(node.type.dtype) || !view) return lower_reference(p, id);
  const BinaryCall call{.op = *binary_of(node),
                        .rows = view->rows,
                        .cols = view->cols,
                        .a_row = view->strides[0].row,
                        .a_col = view->strides[0].col,
                        .b_row = view->strides[1].row,
                        .b_col = view->strides[1].col};
  const Slot a = p.wide(node.inputs[0]);
  const Slot b = p.wide(node.inputs[1]);
  const bool over_first = p.shape(node.inputs[0]) == node.type.shape;
  const Slot y = over_first ? p.result_over(id, node.inputs[0]) : p.result(id);
  p.add_step({.label = label(node),
              .reads = {a, b},
              .writes = y,
              .run =
                  [=](const Run& run) {
                    BinaryCall now = call;
                    now.a = run.at<float>(a);
                    now.b = run.at<float>(b);
                    now.y = run.at<float>(y);
                    binary(run.pool, now);
                  },
              .in_place = over_first});
}

void lower_select(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const auto view = row_view(p, node);
  if (!is_float(node.type.dtype) || !view) return lower_reference(p, id);
  const auto& strides = view->strides;
  const SelectCall call{.rows = view->rows,
                        .cols = view->cols,
                        .where_row = strides[0].row,
                        .where_col = strides[0].col,
                        .a_row = strides[1].row,
                        .a_col = strides[1].col,
                        .b_row = strides[2].row,
                        .b_col = strides[2].col};
  const Slot where = p.wide(node.inputs[0]), a = p.wide(node.inputs[1]), b = p.wide(node.inputs[2]);
  const Slot y = p.result(id);
  p.add_step({.label = label(node),
              .reads = {a, where, b},
              .writes = y,
              .run =
                  [=](const Run& run) {
                    SelectCall now = call;
                    now.where = run.at<std::uint8_t>(where);
                    now.a = run.at<float>(a);
                    now.b = run.at<float>(b);
                    now.y = run.at<float>(y);
                    select(run.pool, now);
                  },
              .in_place = p.shape(node.inputs[1]) == node.type.shape});
}

// fp32 -> fp16 rounds, through fp16 memory; other casts are the table's.
void lower_cast(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (node.type.dtype != DType::fp16 || p.node(node.inputs[0]).type.dtype != DType::fp32)
    return lower_reference(p, id);
  const Slot x = p.wide(node.inputs[0]);
  const Slot y = p.result(id);
  const std::int64_t count = node.type.shape.size();
  p.add_step({.label = label(node),
              .reads = {x},
              .writes = y,
              .run =
                  [=](const Run& run) {
                    auto* halves = reinterpret_cast<std::uint16_t*>(run.scratch.data());
                    narrow(run.pool, run.at<float>(x), halves, count);
                    widen(run.pool, halves, run.at<float>(y), count);
                  },
              .scratch = static_cast<std::size_t>(count) * sizeof(std::uint16_t),
              .in_place = true});
}

}  // namespace orion::cpu
