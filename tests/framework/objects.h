// The simulated classes. The GCC runtime wants instance variables in the interface.
#pragma once

#import <Foundation/Foundation.h>

#include "framework/faults.h"
#include "framework/memory.h"

#include <memory>
#include <string>

typedef struct __IOSurface* IOSurfaceRef;  // the same object as an IOSurface*

/// Counted while alive.
@interface OrionSimulatedObject : NSObject
@end

@interface IOSurface : OrionSimulatedObject {
 @public
  std::unique_ptr<orion::framework::Memory> memory_;
}
- (BOOL)allocate:(NSDictionary*)properties;
- (id)initWithProperties:(NSDictionary*)properties;
- (int)lockWithOptions:(uint32_t)options seed:(uint32_t*)seed;
- (int)unlockWithOptions:(uint32_t)options seed:(uint32_t*)seed;
- (void*)baseAddress;
- (NSInteger)allocationSize;
@end

@interface _ANEIOSurfaceObject : OrionSimulatedObject {
 @public
  IOSurface* surface_;
}
+ (id)objectWithIOSurface:(IOSurfaceRef)surface;
@end

@interface _ANERequest : OrionSimulatedObject {
 @public
  NSArray* inputs_;
  NSArray* inputIndices_;
  NSArray* outputs_;
  NSArray* outputIndices_;
  NSNumber* procedure_;
}
+ (id)requestWithInputs:(NSArray*)inputs
           inputIndices:(NSArray*)inputIndices
                outputs:(NSArray*)outputs
          outputIndices:(NSArray*)outputIndices
          weightsBuffer:(id)weightsBuffer
              perfStats:(NSArray*)perfStats
         procedureIndex:(NSNumber*)procedureIndex;
@end

@interface _ANEInMemoryModelDescriptor : OrionSimulatedObject {
 @public
  NSData* text_;
  NSDictionary* weights_;
}
+ (id)modelWithMILText:(NSData*)text weights:(NSDictionary*)weights optionsPlist:(NSData*)plist;
@end

@interface _ANEModel : OrionSimulatedObject {
 @public
  NSDictionary* attributes_;
}
- (NSDictionary*)modelAttributes;
@end

@interface _ANEInMemoryModel : OrionSimulatedObject {
 @public
  std::unique_ptr<orion::ane::Model> simulated_;
  _ANEInMemoryModelDescriptor* descriptor_;
  _ANEModel* inner_;
}
+ (id)inMemoryModelWithDescriptor:(_ANEInMemoryModelDescriptor*)descriptor;
- (NSString*)hexStringIdentifier;
- (BOOL)compiledModelExists;
- (void)purgeCompiledModel;
- (BOOL)compileWithQoS:(unsigned int)qos options:(NSDictionary*)options error:(NSError**)error;
- (BOOL)loadWithQoS:(unsigned int)qos options:(NSDictionary*)options error:(NSError**)error;
- (BOOL)unloadWithQoS:(unsigned int)qos error:(NSError**)error;
- (BOOL)evaluateWithQoS:(unsigned int)qos
                options:(NSDictionary*)options
                request:(_ANERequest*)request
                  error:(NSError**)error;
- (NSDictionary*)modelAttributes;
- (_ANEModel*)model;
- (void)setDescriptor:(_ANEInMemoryModelDescriptor*)descriptor;
@end

@interface _ANEDeviceInfo : NSObject
+ (BOOL)hasANE;
+ (NSString*)aneArchitectureType;
+ (NSString*)buildVersion;
@end

namespace orion::framework {

/// Whether the call goes on; else it ends with nothing, and with an error if there is a place for it.
bool proceed(const char* call, NSError** error = nullptr);

/// Raises if ORION_SIM_PROFILE names none.
ane::Engine& engine();

/// YES if ok. An exception of the simulated framework is raised.
BOOL answer(const ane::Status& status, NSError** error);

/// What `modelAttributes` returns for a layout, in the shape that the framework's has.
NSDictionary* attributes_of(const ane::Layout& layout);

NSString* to_ns(const std::string& text);

}  // namespace orion::framework
