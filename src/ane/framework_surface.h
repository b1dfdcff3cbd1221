// Surfaces of the framework. Included by Objective-C++ only.
#pragma once

#include "ane/framework_check.h"

namespace orion::ane {

inline constexpr std::uint32_t lock_read_only = 1;  // kIOSurfaceLockReadOnly

class FrameworkSurface final : public Surface {
 public:
  FrameworkSurface(ObjcRef<id<ANESurface>> surface, ObjcRef<id<ANEIOSurfaceObject>> object, std::size_t bytes)
      : surface_(std::move(surface)), object_(std::move(object)), bytes_(bytes) {}
  ~FrameworkSurface() override {
    for (std::size_t left = locks_.size(); left > 0; --left) (void)unlock();
  }

  std::size_t bytes() const override { return bytes_; }
  void* base() override { return base_; }

  Status lock(bool read_only) override {
    return guarded("lock", [&]() -> Status {
      const std::uint32_t options = read_only ? lock_read_only : 0;
      const int code = [surface_.get() lockWithOptions:options seed:nullptr];
      if (code != 0) return {Status::Kind::refused, "lock", "IOSurface", code, "not locked"};
      locks_.push_back(options);
      base_ = [surface_.get() baseAddress];
      return {};
    });
  }

  /// Undoes the last lock, with its options, as IOSurface wants. What could not be unlocked stays locked.
  Status unlock() override {
    if (locks_.empty()) return status(Status::Kind::misused, "unlock", "the surface is not locked");
    return guarded("unlock", [&]() -> Status {
      const int code = [surface_.get() unlockWithOptions:locks_.back() seed:nullptr];
      if (code != 0) return {Status::Kind::refused, "unlock", "IOSurface", code, "not unlocked"};
      locks_.pop_back();
      if (locks_.empty()) base_ = nullptr;
      return {};
    });
  }

  const ObjcRef<id<ANEIOSurfaceObject>>& object() const { return object_; }

 private:
  ObjcRef<id<ANESurface>> surface_;
  ObjcRef<id<ANEIOSurfaceObject>> object_;
  std::size_t bytes_;
  std::vector<std::uint32_t> locks_;  // options of each
  void* base_ = nullptr;
};

// One row of bytes: the description that every direct user of the engine gives.
inline NSDictionary* surface_description(std::size_t bytes) {
  NSNumber* size = @(bytes);
  return @{
    exported_string("kIOSurfaceWidth") : size,
    exported_string("kIOSurfaceHeight") : @1,
    exported_string("kIOSurfaceBytesPerRow") : size,
    exported_string("kIOSurfaceBytesPerElement") : @1,
    exported_string("kIOSurfaceAllocSize") : size,
    exported_string("kIOSurfacePixelFormat") : @0
  };
}

inline Status make_surface(const Framework& framework, std::size_t bytes, std::unique_ptr<Surface>& made) {
  auto surface = ObjcRef<id<ANESurface>>::adopt(
      [[framework.surface alloc] initWithProperties:surface_description(bytes)]);
  if (!surface || [surface.get() allocationSize] < static_cast<NSInteger>(bytes))
    return refused("surface", nil, "no surface of " + std::to_string(bytes) + " bytes");
  auto object = ObjcRef<id<ANEIOSurfaceObject>>::retain(
      [framework.surface_object objectWithIOSurface:reinterpret_cast<IOSurfaceRef>(surface.get())]);
  if (!object) return refused("surface", nil, "the surface could not be wrapped");
  made = std::make_unique<FrameworkSurface>(std::move(surface), std::move(object), bytes);
  return {};
}

}  // namespace orion::ane
