#include "cpu/weights.h"

#include "base/narrow.h"
#include "orion/error.h"

#include <algorithm>
#include <cmath>

namespace orion::cpu {
namespace {

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

Tensor room_of(std::size_t count) {
  return Tensor(TensorType{DType::boolean, {static_cast<std::int64_t>(count)}});
}

TensorType row_major(const TensorType& type, Form form) {
  return {form == Form::wide && is_float(type.dtype) ? DType::fp32 : type.dtype, type.shape};
}

void check_levels(const Tensor& value, std::string_view name, MatrixFormat format) {
  if (format != MatrixFormat::int8 && format != MatrixFormat::int4) return;
  for (std::int64_t i = 0; i < value.shape().size(); ++i)
    if (!std::isfinite(value.at(i)))
      fail("weight '", name, "': element ", i, " is ", value.at(i), ", which ", format,
           " cannot hold; use fp32, fp16 or bf16");
}

constexpr std::string_view wider = "use fp32";  // what to do about a weight beyond fp16

}  // namespace

CpuWeights::CpuWeights(const TensorMap& weights, MatrixFormat format) : format_(format) {
  for (const auto& [name, tensor] : weights) entries_[name] = {tensor.type(), tensor, {}, false};
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
  return found.given.empty() ? value_of(found) : found.given.clone();
}

void CpuWeights::update(const TensorMap& changes) {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<Entry*, Tensor>> checked;
  for (const auto& [name, tensor] : changes) {
    Entry& found = entry(name);
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

void CpuWeights::require(std::string_view name, const TensorType& type) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail("no weight '", name, "' was given: ", type, " is needed");
  Entry& e = found->second;
  const bool widths_differ = e.type.dtype != type.dtype && is_float(e.type.dtype) && is_float(type.dtype);
  if (e.type.shape != type.shape || (e.type.dtype != type.dtype && (!widths_differ || e.used)))
    fail("weight '", name, "' is ", e.type, e.used && e.type.shape == type.shape ? " in another program" : "",
         ", the graph wants ", type);
  if (widths_differ) {
    e.given = narrowed(e.given, type.dtype, name, wider);
    e.type = type;
  }
  e.used = true;
}

bool CpuWeights::has(std::string_view name, Form form) const {
  const std::lock_guard lock(mutex_);
  return entry(name).forms.contains(form);
}

const void* CpuWeights::rows(std::string_view name, Form form) {
  const std::lock_guard lock(mutex_);
  Entry& found = entry(name);
  if (form == Form::wide && found.type.dtype != DType::fp16) form = Form::natural;
  return made(found, form, MatrixFormat::exact).memory.data();
}

Panels CpuWeights::panels(std::string_view name, Form form, bool by_rows) {
  const std::lock_guard lock(mutex_);
  const MatrixFormat format = by_rows && format_ == MatrixFormat::int4 ? MatrixFormat::int8 : format_;
  Entry& found = entry(name);
  if (!found.given.empty()) check_levels(found.given, name, format);
  return made(found, form, format).panels;
}

CpuWeights::Room& CpuWeights::made(Entry& entry, Form form, MatrixFormat format) {
  if (const auto existing = entry.forms.find(form); existing != entry.forms.end()) return existing->second;
  const Tensor value = entry.given.empty() ? value_of(entry) : entry.given;
  Room room;
  if (is_panels(form)) {
    room.panels = panels_of(entry.type, form, format);
    room.memory = room_of(room.panels.bytes());
    room.panels.data = room.memory.data();
  } else {
    room.memory = Tensor(row_major(entry.type, form));
  }
  fill(value, form, room);
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
