// Memory for intermediate values, reused as soon as the last reader has run.
#include "base/memory.h"
#include "cpu/plan.h"

#include <algorithm>

namespace orion::cpu {
namespace {

struct Life {
  int first = -1;  // step that writes it
  int last = -1;   // last step that touches it
};

std::vector<Life> lives(const std::vector<Step>& steps, std::size_t places) {
  std::vector<Life> result(places);
  for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
    const Step& step = steps[static_cast<std::size_t>(i)];
    const auto touch = [&](Slot slot) {
      if (slot == no_slot) return;
      Life& life = result[static_cast<std::size_t>(slot)];
      if (life.first < 0) life.first = i;
      life.last = i;
    };
    for (const Slot slot : step.reads) touch(slot);
    for (const Slot slot : step.also_writes) touch(slot);
    touch(step.writes);
  }
  return result;
}

// Free ranges of the arena, ordered by offset and never adjacent.
class Free {
 public:
  std::size_t take(std::size_t size) {
    const auto fits = [&](const Range& range) { return range.size >= size; };
    // The smallest that fits: large holes stay for large values.
    auto best = ranges_.end();
    for (auto range = ranges_.begin(); range != ranges_.end(); ++range)
      if (fits(*range) && (best == ranges_.end() || range->size < best->size)) best = range;
    if (best == ranges_.end()) return grow(size);
    const std::size_t offset = best->offset;
    best->offset += size;
    best->size -= size;
    if (best->size == 0) ranges_.erase(best);
    return offset;
  }

  void give(std::size_t offset, std::size_t size) {
    auto next = std::ranges::find_if(ranges_, [&](const Range& range) { return range.offset > offset; });
    next = ranges_.insert(next, {offset, size});
    if (next + 1 != ranges_.end() && next->offset + next->size == (next + 1)->offset) {
      next->size += (next + 1)->size;
      ranges_.erase(next + 1);
    }
    if (next != ranges_.begin() && (next - 1)->offset + (next - 1)->size == next->offset) {
      (next - 1)->size += next->size;
      ranges_.erase(next);
    }
  }

  std::size_t top() const { return top_; }

 private:
  struct Range {
    std::size_t offset;
    std::size_t size;
  };

  // No hole is large enough: extend the arena, starting in a hole at its end if there is one.
  std::size_t grow(std::size_t size) {
    std::size_t offset = top_;
    if (!ranges_.empty() && ranges_.back().offset + ranges_.back().size == top_) {
      offset = ranges_.back().offset;
      ranges_.pop_back();
    }
    top_ = offset + size;
    return offset;
  }

  std::vector<Range> ranges_;
  std::size_t top_ = 0;
};

}  // namespace

std::size_t lay_out_arena(const std::vector<Step>& steps, std::vector<Place>& places) {
  const std::vector<Life> life = lives(steps, places.size());
  Free free;
  std::vector<bool> placed(places.size(), false);
  const auto in_arena = [&](Slot slot) {
    return slot != no_slot && places[static_cast<std::size_t>(slot)].kind == Place::Kind::arena;
  };
  for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
    const Step& step = steps[static_cast<std::size_t>(i)];
    const auto dies = [&](Slot slot) {
      return in_arena(slot) && life[static_cast<std::size_t>(slot)].last == i;
    };
    Slot inherited = no_slot;
    if (in_arena(step.writes) && !placed[static_cast<std::size_t>(step.writes)]) {
      Place& result = places[static_cast<std::size_t>(step.writes)];
      const Slot first = step.reads.empty() ? no_slot : step.reads.front();
      const bool inherits =
          step.in_place && first != step.writes && dies(first) &&
          aligned_bytes(places[static_cast<std::size_t>(first)].bytes) == aligned_bytes(result.bytes);
      if (inherits) inherited = first;
      result.offset =
          inherits ? places[static_cast<std::size_t>(first)].offset : free.take(aligned_bytes(result.bytes));
      placed[static_cast<std::size_t>(step.writes)] = true;
    }
    for (const Slot slot : step.also_writes) {
      if (!in_arena(slot)) continue;
      Place& result = places[static_cast<std::size_t>(slot)];
      result.offset = free.take(aligned_bytes(result.bytes));
      placed[static_cast<std::size_t>(slot)] = true;
    }
    std::vector<Slot> touched = step.reads;
    touched.insert(touched.end(), step.also_writes.begin(), step.also_writes.end());
    touched.push_back(step.writes);
    std::ranges::sort(touched);
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    for (const Slot slot : touched)
      if (dies(slot) && slot != inherited && placed[static_cast<std::size_t>(slot)])
        free.give(places[static_cast<std::size_t>(slot)].offset,
                  aligned_bytes(places[static_cast<std::size_t>(slot)].bytes));
  }
  return free.top();
}

}  // namespace orion::cpu
