#include "cpu/weights.h"

#include "base/memory.h"
#include "base/narrow.h"
#include "orion/error.h"

#include <algorithm>
#include <cmath>

namespace orion::cpu {
namespace {

constexpr std::string_view wider = "use fp32";  // what to do about a weight beyond fp16

bool is_panels(Form form) {
  return form == Form::panels_nk || form == Form::panels_kn;
}

// The panels of a weight: N outputs, K inputs, no address yet.
Panels panels_of(const TensorType& type, Form form, MatrixFormat format) {
  const std::int64_t first = type.shape[0];
  const std::int64_t rest = type.shape.size() / first;
  const bool nk = form == Form::panels_nk;
  return {.dtype = type.dtype, .n = nk ? first : rest, .k = nk ? rest : first, .format = format};
}

// The weight as the matrix (N, K) that a panel form packs.
MatrixView matrix_of(const Tensor& weight, const Panels& panels, Form form) {
  const bool nk = form == Form::panels_nk;
  return {weight.data(), weight.dtype(), nk ? panels.k : 1, nk ? 1 : panels.n};
}

bool is_aligned(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address) % memory_alignment == 0;
}

Form form_of(const PackedMatrix& matrix) {
  return matrix.transposed ? Form::panels_nk : Form::panels_kn;
}

TensorType row_major(const TensorType& type, Form form) {
  return {form == Form::wide && is_float(type.dtype) ? DType::fp32 : type.dtype, type.shape};
}

template <class T, class Test>
std::int64_t first_of(const Tensor& value, const Test& test) {
  const std::span<T> elements = value.as<T>();
  return std::ranges::find_if(elements, test) - elements.begin();
}

void check_levels(const Tensor& value, std::string_view name, MatrixFormat format) {
  if (format != MatrixFormat::int8 && format != MatrixFormat::int4) return;
  constexpr std::uint16_t exponent = 0x7C00;
  const std::int64_t bad =
      value.dtype() == DType::fp16
          ? first_of<std::uint16_t>(value, [](std::uint16_t x) { return (x & exponent) == exponent; })
          : first_of<float>(value, [](float x) { return !std::isfinite(x); });
  if (bad < value.shape().size())
    fail("weight '", name, "': element ", bad, " is ", value.at(bad), ", which ", format,
         " cannot hold; use fp32, fp16 or bf16");
}

// The panels of a matrix that somebody else packed.
Panels checked_panels(const PackedMatrix& matrix, std::string_view name) {
  const Shape& shape = matrix.type.shape;
  const Tensor& content = matrix.content;
  const auto what = [&] { return str("packed weight '", name, "', ", matrix.type, " in ", matrix.format); };
  if (!is_float(matrix.type.dtype) || shape.rank() < 2) fail(what(), ": a float matrix is needed");
  // A weight takes at least 4 bits: a shape with more is refused before its size is computed.
  if (static_cast<std::uint64_t>(shape.size()) / 2 > content.bytes())
    fail(what(), ": ", content.bytes(), " bytes are too few");
  Panels panels = panels_of(matrix.type, form_of(matrix), matrix.format);
  if (content.bytes() != panels.bytes())
    fail(what(), ": ", content.bytes(), " bytes, ", panels.bytes(), " are needed");
  if (!is_aligned(content.data())) fail(what(), ": is not at a multiple of ", memory_alignment, " bytes");
  panels.data = content.data();
  return panels;
}

}  // namespace

CpuWeights::CpuWeights(const TensorMap& weights, MatrixFormat format) : format_(format) {
  for (const auto& [name, tensor] : weights)
    entries_[name] = {.type = tensor.type(), .given = tensor, .forms = {}};
}

CpuWeights::CpuWeights(const PackedWeights& weights) : format_(weights.format) {
  for (const auto& [name, tensor] : weights.tensors)
    entries_[name] = {.type = tensor.type(), .given = tensor, .forms = {}, .lent = true};
  for (const auto& [name, matrix] : weights.matrices) {
    if (entries_.contains(name)) fail("packed weight '", name, "' is there as a tensor too");
    Entry& entry = entries_[name] = {.type = matrix.type, .given = {}, .forms = {}, .lent = true};
    entry.forms[form_of(matrix)] = {matrix.content, checked_panels(matrix, name)};
  }
}

std::vector<Port> CpuWeights::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Port> ports;
  for (const auto& [name, entry] : entries_) ports.push_back({name, entry.type});
  return ports;
}

Tensor CpuWeights::read(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const Entry& found = entry(name);
  if (found.given.empty()) return value_of(found);
  return narrowed(found.given, found.type.dtype, name, wider).clone();
}

void CpuWeights::update(const TensorMap& changes) {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<Entry*, Tensor>> checked;
  for (const auto& [name, tensor] : changes) {
    Entry& found = entry(name);
    if (found.lent) fail("weight '", name, "' is packed, so it does not change: load what it was made from");
    if (tensor.shape() != found.type.shape || is_float(tensor.dtype()) != is_float(found.type.dtype))
      fail("weight '", name, "' is ", found.type, ", the new value is ", tensor.type());
    checked.emplace_back(&found, narrowed(tensor, found.type.dtype, name, wider));
    for (const auto& [form, room] : found.forms)
      if (is_panels(form)) check_levels(checked.back().second, name, room.panels.format);
  }
  for (const auto& [found, tensor] : checked) {
    if (found->forms.empty()) found->given = tensor.clone();
    for (const auto& [form, room] : found->forms) fill(tensor, form, room);
  }
}

std::size_t CpuWeights::bytes() const {
  const std::lock_guard lock(mutex_);
  std::size_t total = 0;
  for (const auto& [name, entry] : entries_) {
    if (!entry.given.empty()) total += entry.given.bytes();
    for (const auto& [form, room] : entry.forms) total += room.memory.bytes();
  }
  return total;
}

PackedWeights CpuWeights::packed() const {
  const std::lock_guard lock(mutex_);
  PackedWeights result{.format = format_, .matrices = {}, .tensors = {}};
  for (const auto& [name, entry] : entries_) {
    const auto panels =
        std::ranges::find_if(entry.forms, is_panels, [](const auto& made) { return made.first; });
    if (panels == entry.forms.end()) {
      const auto natural = entry.forms.find(Form::natural);
      result.tensors[name] = !entry.given.empty() ? narrowed(entry.given, entry.type.dtype, name, wider)
                             : natural == entry.forms.end() ? value_of(entry)
                                                            : natural->second.memory;
      continue;
    }
    const auto& [form, room] = *panels;
    if (entry.forms.size() > 1)
      fail("weight '", name, "' is read in several forms: it cannot be packed as one");
    result.matrices[name] = {entry.type, room.panels.format, form == Form::panels_nk, room.memory};
  }
  return result;
}

void CpuWeights::require(std::string_view name, const TensorType& type) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail("no weight '", name, "' was given: ", type, " is needed");
  Entry& e = found->second;
  const bool free = e.forms.empty();  // nobody reads it yet, so it may be of another width
  const bool floats = is_float(e.type.dtype) && is_float(type.dtype);
  if (e.type.shape != type.shape || (e.type.dtype != type.dtype && !(free && floats)))
    fail("weight '", name, "' is ", e.type,
         free || e.type.shape != type.shape ? ""
         : e.lent                           ? " as it is packed"
                                            : " in another program",
         ", the graph wants ", type);
  e.type = type;
}

bool CpuWeights::has(std::string_view name, Form form) const {
  const std::lock_guard lock(mutex_);
  return entry(name).forms.contains(form);
}

const void* CpuWeights::rows(std::string_view name, Form form) {
  const std::lock_guard lock(mutex_);
  Entry& found = entry(name);
  if (form == Form::wide && found.type.dtype != DType::fp16) form = Form::natural;
  return made(found, name, form, MatrixFormat::exact).memory.data();
}

Panels CpuWeights::panels(std::string_view name, Form form, bool by_rows) {
  const std::lock_guard lock(mutex_);
  const MatrixFormat format = by_rows && format_ == MatrixFormat::int4 ? MatrixFormat::int8 : format_;
  Entry& found = entry(name);
  if (!found.given.empty()) check_levels(found.given, name, format);
  return made(found, name, form, format).panels;
}

CpuWeights::Room& CpuWeights::made(Entry& entry, std::string_view name, Form form, MatrixFormat format) {
  if (const auto existing = entry.forms.find(form); existing != entry.forms.end()) return existing->second;
  const Tensor value =
      entry.given.empty() ? value_of(entry) : narrowed(entry.given, entry.type.dtype, name, wider);
  Room room;
  if (is_panels(form)) {
    room.panels = panels_of(entry.type, form, format);
    room.memory = memory_block(room.panels.bytes());
    room.panels.data = room.memory.data();
  } else if (entry.lent && value.type() == row_major(entry.type, form) && is_aligned(value.data())) {
    room.memory = value;
  } else {
    room.memory = Tensor(row_major(entry.type, form));
  }
  if (room.memory.data() != value.data()) fill(value, form, room);
  entry.given = Tensor();
  return entry.forms.emplace(form, std::move(room)).first->second;
}

void CpuWeights::fill(const Tensor& value, Form form, const Room& room) {
  if (is_panels(form)) return pack_panels(shared_pool(), matrix_of(value, room.panels, form), room.panels);
  const Tensor same = convert(value, room.memory.dtype());
  std::copy_n(same.data(), same.bytes(), room.memory.data());
}

// From the form that has lost least: row-major ones come first.
Tensor CpuWeights::value_of(const Entry& entry) {
  const auto& [form, room] = *entry.forms.begin();
  if (!is_panels(form)) return convert(room.memory, entry.type.dtype);
  const Tensor value(entry.type);
  unpack_panels(shared_pool(), room.panels, matrix_of(value, room.panels, form));
  return value;
}

CpuWeights::Entry& CpuWeights::entry(std::string_view name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail("no weight '", name, "'");
  return found->second;
}

const CpuWeights::Entry& CpuWeights::entry(std::string_view name) const {
  return const_cast<CpuWeights*>(this)->entry(name);
}

}  // namespace orion::cpu
