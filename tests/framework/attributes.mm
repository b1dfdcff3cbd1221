#include "framework/objects.h"

namespace orion::framework {
namespace {

NSDictionary* live_entry(const ane::Symbol& symbol, NSString* name, NSString* symbol_name) {
  return @{
    @"Name" : name,
    @"Symbol" : symbol_name,
    @"Type" : to_ns(symbol.type),
    @"Batches" : @(symbol.batches),
    @"Channels" : @(symbol.channels),
    @"Depth" : @(symbol.depth),
    @"Height" : @(symbol.height),
    @"Width" : @(symbol.width),
    @"Interleave" : @1,
    @"PlaneCount" : @(symbol.channels),
    @"BatchStride" : @(symbol.batch_stride),
    @"PlaneStride" : @(symbol.plane_stride),
    @"DepthStride" : @(symbol.batch_stride),
    @"RowStride" : @(symbol.row_stride)
  };
}

struct Side {
  NSMutableArray* symbols = [NSMutableArray array];
  NSMutableArray* indices = [NSMutableArray array];
  NSMutableArray* live = [NSMutableArray array];
  NSMutableArray* aligned = [NSMutableArray array];
};

// The live list has an order of its own: symbols are found by name, not by position.
Side side_of(const std::vector<ane::Symbol>& symbols) {
  Side side;
  for (const ane::Symbol& symbol : symbols) {
    NSString* symbol_name = to_ns(symbol.name);
    NSString* name = to_ns(symbol.name.substr(0, symbol.name.find('@')));
    [side.indices addObject:@([side.symbols count])];
    [side.symbols addObject:symbol_name];
    [side.live insertObject:live_entry(symbol, name, symbol_name) atIndex:0];
    [side.aligned addObject:[NSNumber numberWithBool:NO]];
  }
  return side;
}

}  // namespace

NSDictionary* attributes_of(const ane::Layout& layout) {
  const Side inputs = side_of(layout.inputs);
  const Side outputs = side_of(layout.outputs);
  return @{
    @"ANEFModelDescription" : @{
      @"kANEFModelInputSymbolsArrayKey" : inputs.symbols,
      @"kANEFModelOutputSymbolsArrayKey" : outputs.symbols,
      @"kANEFModelProcedureNameToIDMapKey" : @{@"main" : @0},
      @"ANEFModelProcedures" : @[ @{
        @"ANEFModelProcedureID" : @0,
        @"ANEFModelInputSymbolIndexArray" : inputs.indices,
        @"ANEFModelOutputSymbolIndexArray" : outputs.indices
      } ],
      @"ANEFModelInput16KAlignmentArray" : inputs.aligned,
      @"ANEFModelOutput16KAlignmentArray" : outputs.aligned
    },
    @"NetworkStatusList" :
        @[ @{@"Name" : @"main", @"LiveInputList" : inputs.live, @"LiveOutputList" : outputs.live} ]
  };
}

}  // namespace orion::framework
