// Parts of tensors moved: slices, and what is put side by side or padded.
#include "cpu/kernel_work.h"
#include "cpu/lower.h"
#include "ops/slice.h"

#include <algorithm>

namespace orion::cpu {
namespace {

// A slice of one tensor and all of another, 4 bytes an element. Axes that lie side by side in both are one.
struct Copy {
  struct Axis {
    std::int64_t size = 1, sliced = 1, dense = 1;
  };
  std::vector<Axis> axes;  // outermost first, at least one
  std::int64_t start = 0;  // of the slice
};

Copy copy_of(const Shape& whole, const Slice& slice) {
  Copy copy;
  std::int64_t dense = 1;
  for (const AxisSlice& s : slice) dense *= s.count;
  for (int axis = 0; axis < whole.rank(); ++axis) {
    const AxisSlice& s = slice[static_cast<std::size_t>(axis)];
    copy.start += s.begin * whole.stride(axis);
    dense /= s.count;
    if (s.count == 1) continue;
    const Copy::Axis next{s.count, s.stride * whole.stride(axis), dense};
    if (!copy.axes.empty() && copy.axes.back().sliced == next.sliced * next.size)
      copy.axes.back() = {copy.axes.back().size * next.size, next.sliced, next.dense};
    else
      copy.axes.push_back(next);
  }
  if (copy.axes.empty()) copy.axes.emplace_back();
  return copy;
}

std::int64_t lines_of(const Copy& copy) {
  std::int64_t lines = 1;
  for (std::size_t i = 0; i + 1 < copy.axes.size(); ++i) lines *= copy.axes[i].size;
  return lines;
}

/// Calls body(sliced, dense) with the offsets where each line along the last axis starts.
template <class Body>
void each_line(ThreadPool& pool, const Copy& copy, const Body& body) {
  const std::int64_t grain = ceil_div(elements_at_once, copy.axes.back().size);
  pool.split(lines_of(copy), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t line = begin; line < end; ++line) {
      std::int64_t sliced = copy.start, dense = 0, rest = line;
      for (std::size_t i = copy.axes.size() - 1; i-- > 0;) {
        const Copy::Axis& axis = copy.axes[i];
        sliced += rest % axis.size * axis.sliced;
        dense += rest % axis.size * axis.dense;
        rest /= axis.size;
      }
      body(sliced, dense);
    }
  });
}

/// Elements one by one, `from_step` and `to_step` apart.
void copy_line(const std::uint32_t* from, std::int64_t from_step, std::uint32_t* to, std::int64_t to_step,
               std::int64_t size) {
  if (from_step == 1 && to_step == 1) {
    std::copy_n(from, size, to);
    return;
  }
  for (std::int64_t i = 0; i < size; ++i) to[i * to_step] = from[i * from_step];
}

void take(ThreadPool& pool, const Copy& copy, const std::uint32_t* sliced, std::uint32_t* dense) {
  const Copy::Axis last = copy.axes.back();
  each_line(pool, copy, [&](std::int64_t from, std::int64_t to) {
    copy_line(sliced + from, last.sliced, dense + to, 1, last.size);
  });
}

void put(ThreadPool& pool, const Copy& copy, const std::uint32_t* dense, std::uint32_t* sliced) {
  const Copy::Axis last = copy.axes.back();
  each_line(pool, copy, [&](std::int64_t to, std::int64_t from) {
    copy_line(dense + from, 1, sliced + to, last.sliced, last.size);
  });
}

bool has_words(const Node& node) {
  return dtype_size(memory_dtype(node.type.dtype)) == sizeof(std::uint32_t);
}

}  // namespace

void lower_slice(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (!has_words(node)) return lower_reference(p, id);
  const Shape& shape = p.shape(node.inputs[0]);
  const Copy copy = copy_of(shape, resolve_slice(node, shape, node.list("begin"), node.list("end")));
  const Slot x = p.wide(node.inputs[0]);
  const Slot y = p.result(id);
  p.add_step({.label = label(node), .reads = {x}, .writes = y, .run = [=](const Run& run) {
                take(run.pool, copy, run.at<std::uint32_t>(x), run.at<std::uint32_t>(y));
              }});
}

void lower_concat(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (!has_words(node)) return lower_reference(p, id);
  std::vector<Shape> shapes;
  std::vector<Slot> reads;
  for (const NodeId input : node.inputs) {
    shapes.push_back(p.shape(input));
    reads.push_back(p.wide(input));
  }
  std::vector<std::pair<Slot, Copy>> parts;
  for (std::size_t i = 0; i < reads.size(); ++i)
    parts.emplace_back(reads[i], copy_of(node.type.shape, place_in_concat(node, shapes, i)));
  const Slot y = p.result(id);
  p.add_step({.label = label(node), .reads = std::move(reads), .writes = y, .run = [=](const Run& run) {
                for (const auto& [x, copy] : parts)
                  put(run.pool, copy, run.at<std::uint32_t>(x), run.at<std::uint32_t>(y));
              }});
}

void lower_pad(Planner& p, NodeId id) {
  const Node& node = p.node(id);
  const Copy copy = copy_of(node.type.shape, place_in_pad(node, p.shape(node.inputs[0])));
  const auto value = static_cast<float>(node.number("constant_val"));
  const std::int64_t count = node.type.shape.size();
  const Slot x = p.wide(node.inputs[0]);
  const Slot y = p.result(id);
  p.add_step({.label = label(node), .reads = {x}, .writes = y, .run = [=](const Run& run) {
                std::fill_n(run.at<float>(y), count, value);
                put(run.pool, copy, run.at<std::uint32_t>(x), run.at<std::uint32_t>(y));
              }});
}

}  // namespace orion::cpu
