// A small program that every hardware takes, and the engines to run it on.
#pragma once

#include "ane/image.h"
#include "base/f16.h"
#include "orion/ops.h"
#include "sim/simulator.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

namespace orion::test {

inline constexpr std::int64_t channels = 64, columns = 384;
inline constexpr std::size_t surface_bytes = channels * columns * 2;  // 49,152

/// difference = scale * zeta - alpha, each fp16 (1, 64, 1, 384). The names' order is not the alphabet's.
inline ane::Image sample_image(float scale) {
  Graph g("main");
  const TensorType type{DType::fp16, {1, channels, 1, columns}};
  const Value zeta = g.input("zeta", type);
  const Value alpha = g.input("alpha", type);
  const Value w = g.weight("scale.weight", {DType::fp16, {channels, channels, 1, 1}});
  g.output("difference", ops::sub(ops::conv(zeta, w), alpha));
  return make_image(ane::make_blueprint(g), [&](const mil::BlobEntry& entry) {
    Tensor value(entry.type);
    for (std::int64_t i = 0; i < channels; ++i)
      value.as<std::uint16_t>()[static_cast<std::size_t>(i * channels + i)] = float_to_half(scale);
    return value;
  });
}

inline ane::Status make_model(ane::Engine& engine, const ane::Image& image,
                              std::unique_ptr<ane::Model>& model) {
  const ane::WeightFileData file{std::string(ane::weight_path), image.weights};
  return engine.create_model(image.text, {&file, 1}, model);
}

/// Fills a surface of `surface_bytes` with one number.
inline ane::Status fill(ane::Surface& surface, float value) {
  if (ane::Status status = surface.lock(false); !status.ok()) return status;
  std::ranges::fill(std::span(static_cast<std::uint16_t*>(surface.base()), surface_bytes / 2),
                    float_to_half(value));
  return surface.unlock();
}

/// The number that a surface is full of; none if it is not.
inline ane::Status read(ane::Surface& surface, std::optional<float>& value) {
  if (ane::Status status = surface.lock(true); !status.ok()) return status;
  const std::span values(static_cast<const std::uint16_t*>(surface.base()), surface_bytes / 2);
  const bool same = std::ranges::all_of(values, [&](std::uint16_t v) { return v == values.front(); });
  value = same ? std::optional(half_to_float(values.front())) : std::nullopt;
  return surface.unlock();
}

/// Input and output surfaces in symbol order.
struct SampleSurfaces {
  std::unique_ptr<ane::Surface> alpha, zeta, difference;

  ane::Status create(ane::Engine& engine) {
    for (std::unique_ptr<ane::Surface>* surface : {&alpha, &zeta, &difference})
      if (ane::Status status = engine.create_surface(surface_bytes, *surface); !status.ok()) return status;
    return {};
  }
  ane::Status bind(ane::Model& model) const {
    ane::Surface* const inputs[] = {alpha.get(), zeta.get()};
    ane::Surface* const outputs[] = {difference.get()};
    return model.bind(inputs, outputs);
  }
};

/// Sets an environment variable while it lives.
class Environment {
 public:
  Environment(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~Environment() {
    if (old_)
      ::setenv(name_, old_->c_str(), 1);
    else
      ::unsetenv(name_);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

/// Descriptors of this process.
inline std::size_t open_files() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

/// A directory of its own, removed with what is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "orion-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// The status of calls that must succeed.
inline void require_ok(const ane::Status& status) {
  INFO(status.message());
  REQUIRE(status.ok());
}

}  // namespace orion::test
