#include "ane/surface_set.h"

#include "orion/error.h"

#include <algorithm>
#include <atomic>

namespace orion::ane {
namespace {

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

// "y@output" and "y" are the same symbol.
std::string_view plain(std::string_view symbol) {
  return symbol.substr(0, symbol.find('@'));
}

const Symbol* symbol_of(std::span<const Symbol> symbols, std::string_view port) {
  const auto found = std::ranges::find(symbols, port, [](const Symbol& s) { return plain(s.name); });
  return found == symbols.end() ? nullptr : &*found;
}

// The names in the order in which the engine takes surfaces.
std::vector<std::string> binding_order(std::span<const Port> ports, std::span<const Symbol> symbols) {
  std::vector<std::string> names;
  if (symbols.empty()) {
    for (const Port& port : ports) names.push_back(port.name);
    std::ranges::sort(names);
    return names;
  }
  for (const Symbol& symbol : symbols) names.emplace_back(plain(symbol.name));
  return names;
}

}  // namespace

SurfaceSet::SurfaceSet(Runtime& runtime, const Loaded& loaded, std::span<const Port> inputs,
                       std::span<const Port> outputs)
    : number_(next_number()) {
  add(runtime, inputs, loaded.layout().inputs, inputs_);
  add(runtime, outputs, loaded.layout().outputs, outputs_);
  require(lock_all());
}

SurfaceSet::~SurfaceSet() {
  static_cast<void>(unlock_all());  // they are released next, and with them what is still locked
}

void SurfaceSet::add(Runtime& runtime, std::span<const Port> ports, std::span<const Symbol> symbols,
                     std::vector<Surface*>& order) {
  for (const std::string& name : binding_order(ports, symbols)) {
    const auto port = std::ranges::find(ports, name, &Port::name);
    if (port == ports.end())
      throw DeviceError(str("ane: the loaded program has a symbol '", name, "' that its text has not"));
    Item item{*port, place(port->type, symbol_of(symbols, name), runtime.profile()), nullptr};
    require(runtime.engine().create_surface(item.placement.bytes, item.surface));
    order.push_back(item.surface.get());
    items_.push_back(std::move(item));
  }
  if (order.size() != ports.size())
    throw DeviceError(
        str("ane: the loaded program has ", order.size(), " symbols, its text has ", ports.size()));
}

void SurfaceSet::write(std::string_view port, const Tensor& value) {
  const Item& to = item(port);
  write_rows(value, to.placement, memory(to));
}

void SurfaceSet::read(std::string_view port, const Tensor& value) const {
  const Item& from = item(port);
  read_rows(value, from.placement, memory(from));
}

Tensor SurfaceSet::view(std::string_view port) const {
  const Item& found = item(port);
  if (!found.placement.dense(dtype_size(found.port.type.dtype))) return {};
  return Tensor::view(found.port.type, memory(found));
}

void SurfaceSet::run(Loaded& loaded) {
  Status status = unlock_all();
  if (status.ok()) status = loaded.evaluate(number_, inputs_, outputs_);
  const Status relocked = lock_all();
  require(status);
  require(relocked);
}

// One that could not be locked before is not locked now either.
Status SurfaceSet::unlock_all() const {
  for (const Item& item : items_) {
    if (item.surface->base() == nullptr) continue;
    if (Status status = item.surface->unlock(); !status.ok()) return status;
  }
  return {};
}

// Tries every one, and tells of the first that failed.
Status SurfaceSet::lock_all() const {
  Status first;
  for (const Item& item : items_) {
    if (item.surface->base() != nullptr) continue;
    Status status = item.surface->lock(false);
    if (first.ok()) first = std::move(status);
  }
  return first;
}

void* SurfaceSet::memory(const Item& item) const {
  if (item.surface->base() == nullptr) require(item.surface->lock(false));
  return item.surface->base();
}

const SurfaceSet::Item& SurfaceSet::item(std::string_view port) const {
  const auto found =
      std::ranges::find(items_, port, [](const Item& i) { return std::string_view(i.port.name); });
  if (found == items_.end()) fail("the program has no input or output '", port, "'");
  return *found;
}

}  // namespace orion::ane
