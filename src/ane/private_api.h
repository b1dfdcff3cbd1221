// What we call of AppleNeuralEngine.framework and of IOSurface, as protocols and as a table to check the
// framework at hand against. Classes come from NSClassFromString, so nothing here links.
//
// Methods and encodings as public reverse-engineered code and class dumps report them (macOS 15 to 27).
#pragma once

#import <Foundation/Foundation.h>

#include <cstdint>

@protocol ANEDescriptor <NSObject>
@end

@protocol ANEDescriptorClass <NSObject>
/// `weights`: path as the text names it -> {"offset": number, "data": content}; empty, not nil, if none.
+ (id<ANEDescriptor>)modelWithMILText:(NSData*)text
                              weights:(NSDictionary*)weights
                         optionsPlist:(NSData*)plist;
@end

@protocol ANERequest <NSObject>
@end

@protocol ANEIOSurfaceObject <NSObject>
@end

@protocol ANERequestClass <NSObject>
+ (id<ANERequest>)requestWithInputs:(NSArray*)inputs
                       inputIndices:(NSArray*)inputIndices
                            outputs:(NSArray*)outputs
                      outputIndices:(NSArray*)outputIndices
                      weightsBuffer:(id)weightsBuffer
                          perfStats:(NSArray*)perfStats
                     procedureIndex:(NSNumber*)procedureIndex;
@end

/// The model that an in-memory model wraps.
@protocol ANEInnerModel <NSObject>
- (NSDictionary*)modelAttributes;
@end

@protocol ANEModel <NSObject>
- (NSString*)hexStringIdentifier;
- (BOOL)compiledModelExists;
- (void)purgeCompiledModel;
- (BOOL)compileWithQoS:(unsigned int)qos options:(NSDictionary*)options error:(NSError**)error;
- (BOOL)loadWithQoS:(unsigned int)qos options:(NSDictionary*)options error:(NSError**)error;
- (BOOL)unloadWithQoS:(unsigned int)qos error:(NSError**)error;
- (BOOL)evaluateWithQoS:(unsigned int)qos
                options:(NSDictionary*)options
                request:(id<ANERequest>)request
                  error:(NSError**)error;
- (NSDictionary*)modelAttributes;
- (id<ANEInnerModel>)model;
- (void)setDescriptor:(id<ANEDescriptor>)descriptor;
@end

@protocol ANEModelClass <NSObject>
+ (id<ANEModel>)inMemoryModelWithDescriptor:(id<ANEDescriptor>)descriptor;
@end

@protocol ANEDeviceInfoClass <NSObject>
+ (BOOL)hasANE;
+ (NSString*)aneArchitectureType;
+ (NSString*)buildVersion;
@end

/// The public class IOSurface.
@protocol ANESurface <NSObject>
+ (id)alloc;
- (id<ANESurface>)initWithProperties:(NSDictionary*)properties;
- (int)lockWithOptions:(uint32_t)options seed:(uint32_t*)seed;
- (int)unlockWithOptions:(uint32_t)options seed:(uint32_t*)seed;
- (void*)baseAddress;
- (NSInteger)allocationSize;
@end

typedef struct __IOSurface* IOSurfaceRef;  // the same object as an IOSurface*

@protocol ANEIOSurfaceObjectClass <NSObject>
+ (id<ANEIOSurfaceObject>)objectWithIOSurface:(IOSurfaceRef)surface;
@end

namespace orion::ane {

enum class Need : std::uint8_t {
  always,    // without it the framework is refused
  optional,  // without it one feature is unavailable
};

/// A method and its type encoding without frame offsets. B stands for BOOL, whatever that is here.
struct ExpectedMethod {
  const char* class_name;
  char kind;  // '+' of the class, '-' of its instances
  const char* selector;
  const char* encoding;
  Need need;
};

inline constexpr ExpectedMethod expected_methods[] = {
    {"_ANEInMemoryModelDescriptor", '+', "modelWithMILText:weights:optionsPlist:", "@@:@@@", Need::always},
    {"_ANEInMemoryModel", '+', "inMemoryModelWithDescriptor:", "@@:@", Need::always},
    {"_ANEInMemoryModel", '-', "hexStringIdentifier", "@@:", Need::always},
    {"_ANEInMemoryModel", '-', "compileWithQoS:options:error:", "B@:I@^@", Need::always},
    {"_ANEInMemoryModel", '-', "loadWithQoS:options:error:", "B@:I@^@", Need::always},
    {"_ANEInMemoryModel", '-', "unloadWithQoS:error:", "B@:I^@", Need::always},
    {"_ANEInMemoryModel", '-', "evaluateWithQoS:options:request:error:", "B@:I@@^@", Need::always},
    {"_ANEInMemoryModel", '-', "compiledModelExists", "B@:", Need::optional},
    {"_ANEInMemoryModel", '-', "purgeCompiledModel", "v@:", Need::optional},
    {"_ANEInMemoryModel", '-', "modelAttributes", "@@:", Need::optional},
    {"_ANEInMemoryModel", '-', "model", "@@:", Need::optional},
    {"_ANEInMemoryModel", '-', "setDescriptor:", "v@:@", Need::optional},
    {"_ANEModel", '-', "modelAttributes", "@@:", Need::optional},
    {"_ANERequest", '+',
     "requestWithInputs:inputIndices:outputs:outputIndices:weightsBuffer:perfStats:procedureIndex:",
     "@@:@@@@@@@", Need::always},
    {"_ANEIOSurfaceObject", '+', "objectWithIOSurface:", "@@:^{__IOSurface=}", Need::always},
    {"_ANEDeviceInfo", '+', "hasANE", "B@:", Need::optional},
    {"_ANEDeviceInfo", '+', "aneArchitectureType", "@@:", Need::optional},
    {"_ANEDeviceInfo", '+', "buildVersion", "@@:", Need::optional},
    {"IOSurface", '-', "initWithProperties:", "@@:@", Need::always},
    {"IOSurface", '-', "lockWithOptions:seed:", "i@:I^I", Need::always},
    {"IOSurface", '-', "unlockWithOptions:seed:", "i@:I^I", Need::always},
    {"IOSurface", '-', "baseAddress", "^v@:", Need::always},
    {"IOSurface", '-', "allocationSize", "q@:", Need::always},
};

}  // namespace orion::ane
