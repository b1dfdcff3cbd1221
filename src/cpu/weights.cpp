#include "cpu/weights.h"

#include "base/narrow.h"
#include "orion/error.h"

#include <algorithm>

namespace orion::cpu {
namespace {

bool is_panels(Form form) {
  return form == Form::panels_nk || form == Form::panels_kn;
}

Tensor make_room(const TensorType& type, Form form) {
  if (form == Form::natural || (form == Form::wide && !is_float(type.dtype))) return Tensor(type);
  if (form == Form::wide) return Tensor(TensorType{DType::fp32, type.shape});
  const Panels panels = panels_of(type, form);
  return Tensor(TensorType{type.dtype, {panels.count(), panels.k, panel_width}});
}

// The weight as the matrix (N, K) that a panel form packs.
MatrixView matrix_of(const Tensor& weight, const Panels& panels, Form form) {
  const bool nk = form == Form::panels_nk;
  return {weight.data(), weight.dtype(), nk ? panels.k : 1, nk ? 1 : panels.n};
}

void fill(const Tensor& value, Form form, const Tensor& room) {
  if (is_panels(form)) {
    Panels panels = panels_of(value.type(), form);
    panels.data = room.data();
    pack_panels(shared_pool(), matrix_of(value, panels, form), panels);
    return;
  }
  const Tensor same = convert(value, room.dtype());
  std::copy_n(same.data(), same.bytes(), room.data());
}

Tensor unpacked(const TensorType& type, Form form, const Tensor& room) {
  if (!is_panels(form)) return convert(room, type.dtype);
  const Tensor value(type);
  Panels panels = panels_of(type, form);
  panels.data = room.data();
  unpack_panels(shared_pool(), panels, matrix_of(value, panels, form));
  return value;
}

constexpr std::string_view wider = "use fp32";  // what to do about a weight beyond fp16

}  // namespace

Panels panels_of(const TensorType& type, Form form) {
  const std::int64_t first = type.shape[0];
  const std::int64_t rest = type.shape.size() / first;
  Panels panels;
  panels.dtype = type.dtype;
  panels.n = form == Form::panels_nk ? first : rest;
  panels.k = form == Form::panels_nk ? rest : first;
  return panels;
}

CpuWeights::CpuWeights(const TensorMap& weights) {
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
  if (!found.given.empty()) return found.given.clone();
  const auto& [form, room] = *found.forms.begin();
  return unpacked(found.type, form, room);
}

void CpuWeights::update(const TensorMap& changes) {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<Entry*, Tensor>> checked;
  for (const auto& [name, tensor] : changes) {
    Entry& found = entry(name);
    if (tensor.shape() != found.type.shape || is_float(tensor.dtype()) != is_float(found.type.dtype))
      fail("weight '", name, "' is ", found.type, ", the new value is ", tensor.type());
    checked.emplace_back(&found, narrowed(tensor, found.type.dtype, name, wider));
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
    for (const auto& [form, room] : entry.forms) total += room.bytes();
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

const void* CpuWeights::form(std::string_view name, Form form) {
  const std::lock_guard lock(mutex_);
  Entry& found = entry(name);
  if (form == Form::wide && found.type.dtype != DType::fp16) form = Form::natural;
  if (const auto existing = found.forms.find(form); existing != found.forms.end())
    return existing->second.data();
  const Tensor value = found.given.empty()
                           ? unpacked(found.type, found.forms.begin()->first, found.forms.begin()->second)
                           : found.given;
  const Tensor room = make_room(found.type, form);
  fill(value, form, room);
  found.given = Tensor();
  return found.forms.emplace(form, room).first->second.data();
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
