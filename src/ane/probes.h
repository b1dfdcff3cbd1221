// The probes, by what they look at.
#pragma once

#include "ane/probe.h"

namespace orion::ane {

// Weights: how they get into a program, and how they change.
void probe_reload(Engine& engine, ProbeResult& result);           // P1
void probe_weight_counts(Engine& engine, ProbeResult& result);    // P2
void probe_earlier_process(Engine& engine, ProbeResult& result);  // P14
void probe_load_on_demand(Engine& engine, ProbeResult& result);   // P15

// Surfaces.
void probe_rows(Engine& engine, ProbeResult& result);         // P3
void probe_order(Engine& engine, ProbeResult& result);        // P4
void probe_sizes(Engine& engine, ProbeResult& result);        // P5
void probe_many_inputs(Engine& engine, ProbeResult& result);  // P7
void probe_buffers(Engine& engine, ProbeResult& result);      // P8

// Operations and numbers.
void probe_operations(Engine& engine, ProbeResult& result);  // P6
void probe_int8(Engine& engine, ProbeResult& result);        // P10
void probe_numerics(Engine& engine, ProbeResult& result);    // P11

// What one process can do.
void probe_process_limits(Engine& engine, ProbeResult& result);  // P9
void probe_procedures(Engine& engine, ProbeResult& result);      // P12
void probe_threads(Engine& engine, ProbeResult& result);         // P13

/// Adds a finding, and a line about it.
void find(ProbeResult& result, std::string_view limit, bool holds, std::string_view line);
/// Adds a line to the detail.
void note(ProbeResult& result, std::string_view line);
/// yes if every limit found holds, no if none does, else mixed.
Answer answer_of(const std::vector<Finding>& limits);

}  // namespace orion::ane
