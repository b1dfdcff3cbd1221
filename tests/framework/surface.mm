// IOSurface, its C interface as far as names go, and what wraps a surface for a request.
#include "framework/controls.h"
#include "framework/objects.h"

#include <atomic>

namespace {

std::atomic<long> live_objects{0};

// The value of a key that must be there.
long long property(NSDictionary* properties, NSString* key) {
  NSNumber* value = [properties objectForKey:key];
  if (value == nil) [NSException raise:NSInvalidArgumentException format:@"no %@", key];
  return [value longLongValue];
}

}  // namespace

long orion_sim_live_objects() {
  return live_objects.load();
}

ORION_SIM_EXPORT NSString* const kIOSurfaceWidth;
ORION_SIM_EXPORT NSString* const kIOSurfaceHeight;
ORION_SIM_EXPORT NSString* const kIOSurfaceBytesPerRow;
ORION_SIM_EXPORT NSString* const kIOSurfaceBytesPerElement;
ORION_SIM_EXPORT NSString* const kIOSurfaceAllocSize;
ORION_SIM_EXPORT NSString* const kIOSurfacePixelFormat;
NSString* const kIOSurfaceWidth = @"IOSurfaceWidth";
NSString* const kIOSurfaceHeight = @"IOSurfaceHeight";
NSString* const kIOSurfaceBytesPerRow = @"IOSurfaceBytesPerRow";
NSString* const kIOSurfaceBytesPerElement = @"IOSurfaceBytesPerElement";
NSString* const kIOSurfaceAllocSize = @"IOSurfaceAllocSize";
NSString* const kIOSurfacePixelFormat = @"IOSurfacePixelFormat";

@implementation OrionSimulatedObject
- (id)init {
  self = [super init];
  if (self != nil) live_objects.fetch_add(1);
  return self;
}
- (void)dealloc {
  live_objects.fetch_sub(1);
  [super dealloc];
}
@end

@implementation IOSurface
- (BOOL)allocate:(NSDictionary*)properties {
  if (!orion::framework::proceed("surface")) return NO;
  const long long row = property(properties, kIOSurfaceBytesPerRow);
  const long long bytes = property(properties, kIOSurfaceAllocSize);
  const bool fits =
      row >= property(properties, kIOSurfaceWidth) * property(properties, kIOSurfaceBytesPerElement) &&
      bytes >= row * property(properties, kIOSurfaceHeight) &&
      property(properties, kIOSurfacePixelFormat) == 0;
  std::unique_ptr<orion::ane::Surface> simulated;
  if (fits && bytes > 0 &&
      orion::framework::engine().create_surface(static_cast<std::size_t>(bytes), simulated).ok())
    memory_ = orion::framework::Memory::allocate(std::move(simulated));
  return memory_ != nullptr;
}
- (id)initWithProperties:(NSDictionary*)properties {
  self = [super init];
  @try {
    if (self != nil && [self allocate:properties]) return self;
  } @catch (id) {
    [self release];
    @throw;
  }
  [self release];
  return nil;
}
- (int)lockWithOptions:(uint32_t)options seed:(uint32_t*)seed {
  if (!orion::framework::proceed("lock")) return 1;
  if (seed != nullptr) *seed = 0;
  memory_->lock(options == 1);
  return 0;
}
- (int)unlockWithOptions:(uint32_t)options seed:(uint32_t*)seed {
  if (!orion::framework::proceed("unlock")) return 1;
  if (seed != nullptr) *seed = 0;
  if (!memory_->unlock(options == 1))
    [NSException raise:NSInternalInconsistencyException
                format:@"unlock with options %u undoes no lock", options];
  return 0;
}
- (void*)baseAddress {
  return memory_->base();
}
- (NSInteger)allocationSize {
  return static_cast<NSInteger>(memory_->bytes());
}
@end

@implementation _ANEIOSurfaceObject
+ (id)objectWithIOSurface:(IOSurfaceRef)surface {
  if (!orion::framework::proceed("wrap")) return nil;
  _ANEIOSurfaceObject* object = [[[self alloc] init] autorelease];
  object->surface_ = [reinterpret_cast<IOSurface*>(surface) retain];
  return object;
}
- (void)dealloc {
  [surface_ release];
  [super dealloc];
}
@end
