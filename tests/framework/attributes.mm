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

// Of all procedures.
struct Side {
  NSMutableArray* symbols = [NSMutableArray array];
  NSMutableArray* aligned = [NSMutableArray array];
};

// The live list has an order of its own: symbols are found by name, not by position.
NSArray* live_list(const std::vector<ane::Symbol>& symbols, const Side& side) {
  NSMutableArray* live = [NSMutableArray array];
  for (const ane::Symbol& symbol : symbols) {
    NSString* symbol_name = to_ns(symbol.name);
    NSString* name = to_ns(symbol.name.substr(0, symbol.name.find('@')));
    [side.symbols addObject:symbol_name];
    [live insertObject:live_entry(symbol, name, symbol_name) atIndex:0];
    [side.aligned addObject:[NSNumber numberWithBool:NO]];
  }
  return live;
}

NSArray* numbers(const std::vector<std::int64_t>& indices) {
  NSMutableArray* array = [NSMutableArray array];
  for (const std::int64_t index : indices) [array addObject:@(index)];
  return array;
}

struct Procedures {
  NSMutableArray* list = [NSMutableArray array];
  NSMutableArray* networks = [NSMutableArray array];
  NSMutableDictionary* ids = [NSMutableDictionary dictionary];
};

void add_procedure(const ane::Layout& layout, const Side& inputs, const Side& outputs,
                   const Procedures& all) {
  NSNumber* index = @(layout.procedure.index);
  NSString* name = [NSString stringWithFormat:@"procedure%@", index];
  [all.ids setObject:index forKey:name];
  [all.list addObject:@{
    @"ANEFModelProcedureID" : index,
    @"ANEFModelInputSymbolIndexArray" : numbers(layout.procedure.inputs),
    @"ANEFModelOutputSymbolIndexArray" : numbers(layout.procedure.outputs)
  }];
  [all.networks addObject:@{
    @"Name" : name,
    @"LiveInputList" : live_list(layout.inputs, inputs),
    @"LiveOutputList" : live_list(layout.outputs, outputs)
  }];
}

}  // namespace

NSDictionary* attributes_of(const ane::Layout& layout) {
  const Side inputs, outputs;
  const Procedures all;
  add_procedure(layout, inputs, outputs, all);
  for (const ane::Layout& other : layout.others) add_procedure(other, inputs, outputs, all);
  return @{
    @"ANEFModelDescription" : @{
      @"kANEFModelInputSymbolsArrayKey" : inputs.symbols,
      @"kANEFModelOutputSymbolsArrayKey" : outputs.symbols,
      @"kANEFModelProcedureNameToIDMapKey" : all.ids,
      @"ANEFModelProcedures" : all.list,
      @"ANEFModelInput16KAlignmentArray" : inputs.aligned,
      @"ANEFModelOutput16KAlignmentArray" : outputs.aligned
    },
    @"NetworkStatusList" : all.networks
  };
}

}  // namespace orion::framework
