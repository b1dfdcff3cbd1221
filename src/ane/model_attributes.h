// What a loaded model tells of its inputs and outputs. Included by Objective-C++ only.
//
//   ANEFModelDescription
//     kANEFModelInputSymbolsArrayKey    names; outputs end in "@output"
//     kANEFModelOutputSymbolsArrayKey
//     ANEFModelProcedures               [{ANEFModelInputSymbolIndexArray, ANEFModelOutputSymbolIndexArray}]
//   NetworkStatusList                   [{LiveInputList, LiveOutputList}], a procedure each
//     entries                           Name, Symbol, Type, Batches, Channels, Depth, Height, Width,
//                                       Interleave, BatchStride, PlaneStride, RowStride
//
// Nothing of it is documented, so no value is used before its class is known.
#pragma once

#include "ane/objc_ref.h"

namespace orion::ane {

/// Reads one dictionary; the first thing missing or of another class is named in `error`.
class AttributeReader {
 public:
  /// The layout of the first procedure, in the order of its symbol indices.
  Status read(NSDictionary* attributes, Layout& layout) {
    NSDictionary* description = dictionary(attributes, @"ANEFModelDescription");
    NSDictionary* procedure = first(array(description, @"ANEFModelProcedures"), @"ANEFModelProcedures");
    NSDictionary* network = first(array(attributes, @"NetworkStatusList"), @"NetworkStatusList");
    Layout read;
    read.inputs =
        symbols(array(description, @"kANEFModelInputSymbolsArrayKey"),
                array(procedure, @"ANEFModelInputSymbolIndexArray"), array(network, @"LiveInputList"));
    read.outputs =
        symbols(array(description, @"kANEFModelOutputSymbolsArrayKey"),
                array(procedure, @"ANEFModelOutputSymbolIndexArray"), array(network, @"LiveOutputList"));
    if (!error_.empty()) return {Status::Kind::unavailable, "layout", "", 0, "modelAttributes: " + error_};
    layout = std::move(read);
    return {};
  }

 private:
  template <class T>
  T checked(id value, Class wanted, const std::string& what) {
    if ([value isKindOfClass:wanted]) return static_cast<T>(value);
    if (error_.empty())
      error_ = what + (value == nil ? " is missing" : " is a " + to_std(NSStringFromClass([value class])));
    return nil;
  }

  template <class T>
  T member(NSDictionary* from, NSString* key, Class wanted) {
    return checked<T>([from objectForKey:key], wanted, to_std(key));
  }
  NSDictionary* dictionary(NSDictionary* from, NSString* key) {
    return member<NSDictionary*>(checked<NSDictionary*>(from, [NSDictionary class], "the dictionary"), key,
                                 [NSDictionary class]);
  }
  NSArray* array(NSDictionary* from, NSString* key) { return member<NSArray*>(from, key, [NSArray class]); }
  std::int64_t number(NSDictionary* from, NSString* key) {
    const std::int64_t value = [member<NSNumber*>(from, key, [NSNumber class]) longLongValue];
    if (value < 0 && error_.empty()) error_ = to_std(key) + " is " + std::to_string(value);
    return value;
  }
  std::string string(NSDictionary* from, NSString* key) {
    return to_std(member<NSString*>(from, key, [NSString class]));
  }

  NSDictionary* element(NSArray* list, NSUInteger index, const std::string& what) {
    return checked<NSDictionary*>([list objectAtIndex:index], [NSDictionary class], what);
  }
  NSDictionary* first(NSArray* list, NSString* what) {
    if ([list count] > 0) return element(list, 0, to_std(what) + "[0]");
    if (error_.empty()) error_ = to_std(what) + " is empty";
    return nil;
  }

  std::vector<Symbol> symbols(NSArray* names, NSArray* indices, NSArray* live) {
    std::vector<Symbol> result;
    for (id index in indices) {
      NSNumber* position = checked<NSNumber*>(index, [NSNumber class], "a symbol index");
      const NSUInteger at = [position unsignedIntegerValue];
      if (at >= [names count]) {
        if (error_.empty()) error_ = "symbol index " + std::to_string(at) + " is beyond the symbols";
        break;
      }
      NSString* name = checked<NSString*>([names objectAtIndex:at], [NSString class], "a symbol");
      result.push_back(symbol(name, live));
    }
    return result;
  }

  Symbol symbol(NSString* name, NSArray* live) {
    NSDictionary* entry = nil;
    for (NSUInteger i = 0; i < [live count] && entry == nil; ++i) {
      NSDictionary* candidate = element(live, i, "an entry of the live list");
      const bool same = [[candidate objectForKey:@"Symbol"] isEqual:name];
      entry = same ? candidate : nil;
    }
    if (entry == nil && error_.empty()) error_ = "no live entry for the symbol " + to_std(name);
    return {to_std(name),
            string(entry, @"Type"),
            number(entry, @"Batches"),
            number(entry, @"Channels"),
            number(entry, @"Depth"),
            number(entry, @"Height"),
            number(entry, @"Width"),
            number(entry, @"BatchStride"),
            number(entry, @"PlaneStride"),
            number(entry, @"RowStride"),
            [entry objectForKey:@"Interleave"] == nil ? 1 : number(entry, @"Interleave")};
  }

  std::string error_;
};

}  // namespace orion::ane
