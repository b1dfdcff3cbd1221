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
  /// The layout of every procedure, in the order of its symbol indices.
  Status read(NSDictionary* attributes, Layout& layout) {
    NSDictionary* description = dictionary(attributes, @"ANEFModelDescription");
    NSArray* procedures = array(description, @"ANEFModelProcedures");
    NSArray* networks = array(attributes, @"NetworkStatusList");
    Layout first = procedure(description, procedures, networks, 0);
    for (NSUInteger i = 1; i < [procedures count]; ++i)
      first.others.push_back(procedure(description, procedures, networks, i));
    if (!error_.empty()) return {Status::Kind::unavailable, "layout", "", 0, "modelAttributes: " + error_};
    layout = std::move(first);
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
  NSDictionary* member_of(NSArray* list, NSUInteger index, NSString* what) {
    if ([list count] > index) return element(list, index, to_std(what) + "[" + std::to_string(index) + "]");
    if (error_.empty()) error_ = to_std(what) + (index == 0 ? " is empty" : " has too few elements");
    return nil;
  }

  Layout procedure(NSDictionary* description, NSArray* procedures, NSArray* networks, NSUInteger index) {
    NSDictionary* found = member_of(procedures, index, @"ANEFModelProcedures");
    NSDictionary* network = member_of(networks, index, @"NetworkStatusList");
    NSArray* inputs = array(found, @"ANEFModelInputSymbolIndexArray");
    NSArray* outputs = array(found, @"ANEFModelOutputSymbolIndexArray");
    Layout read;
    read.inputs = symbols(array(description, @"kANEFModelInputSymbolsArrayKey"), inputs,
                          array(network, @"LiveInputList"));
    read.outputs = symbols(array(description, @"kANEFModelOutputSymbolsArrayKey"), outputs,
                           array(network, @"LiveOutputList"));
    read.procedure = {static_cast<std::int64_t>(index), numbers(inputs), numbers(outputs)};
    return read;
  }

  std::vector<std::int64_t> numbers(NSArray* indices) {
    std::vector<std::int64_t> result;
    for (id index in indices)
      result.push_back([checked<NSNumber*>(index, [NSNumber class], "a symbol index") longLongValue]);
    return result;
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
