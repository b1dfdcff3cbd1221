// What the simulated framework exports beside its classes.
//
// Environment: ORION_SIM_PROFILE    hardware to be, read whenever an object is made (default "strict")
//              ORION_SIM_STRICT=1   surfaces' memory is inaccessible while they are not locked
//              ORION_SIM_FAULTS     planned faults, "load:fail:1,evaluate:hang:3"
#pragma once

#include "sim/simulator.h"

#define ORION_SIM_EXPORT extern "C" __attribute__((visibility("default")))

/// Objects of the framework's classes that are alive.
ORION_SIM_EXPORT long orion_sim_live_objects();

/// The `nth` next call named `call` ends as `kind` says: "fail" with an error, "nil" with nothing, "raise"
/// with an exception, "hang" not before the release. Calls: descriptor, model, identifier, exists, purge,
/// compile, load, unload, evaluate, attributes, request, wrap, surface, lock, unlock. False if there
/// is no such call or kind.
ORION_SIM_EXPORT bool orion_sim_plan_fault(const char* call, const char* kind, int nth);
/// Also sets the numbers of calls to 0.
ORION_SIM_EXPORT void orion_sim_forget_faults();
/// How often a call was made.
ORION_SIM_EXPORT long orion_sim_calls(const char* call);

/// Calls that hang now.
ORION_SIM_EXPORT long orion_sim_hanging();
/// Lets them go on, as if they had only been slow.
ORION_SIM_EXPORT void orion_sim_release_hanging();

/// Of the simulator behind the framework: it is the library's own, not the process's.
ORION_SIM_EXPORT void orion_sim_counters(const char* profile, orion::sim::Counters* counters);
ORION_SIM_EXPORT void orion_sim_restart(const char* profile);

/// What the framework raises for a descriptor made as C++ cannot make one, "name: reason": its text an
/// NSString, or its weights nil. Empty if it takes it.
ORION_SIM_EXPORT const char* orion_sim_text_as_string();
ORION_SIM_EXPORT const char* orion_sim_no_weights();
