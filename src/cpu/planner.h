// Builds a Plan node by node. lower.cpp decides which kernel a node becomes; this keeps the books.
#pragma once

#include "cpu/plan.h"
#include "cpu/strides.h"

#include "orion/op.h"

namespace orion::cpu {

/// A matrix product, and what is computed while its result is still in registers.
struct Product {
  NodeId node = absent;
  NodeId last = absent;  // the node whose value the step computes
  NodeId bias = absent;
  Activation activation = Activation::none;
  NodeId factor = absent;
  NodeId residual = absent;
};

/// Where a node's value is, and in what width.
struct Located {
  Slot slot = no_slot;
  DType dtype = DType::fp32;
  bool rounded = false;  // fp32, kept as bfloat16

  /// Where a run finds it: one of the two, the other is null.
  float* floats_at(const Run& run) const { return rounded ? nullptr : run.at<float>(slot); }
  std::uint16_t* rounded_at(const Run& run) const { return rounded ? run.at<std::uint16_t>(slot) : nullptr; }
};

/// Rows of a value (B, H, T, D), D elements each side by side, where they are.
struct LocatedRows {
  Slot slot = no_slot;
  std::int64_t offset = 0;
  HeadRows rows;
  bool is_dense = true;
};

class Planner {
 public:
  Planner(Plan& plan);
  void build();

  const Graph& graph() const { return plan_.graph; }
  const Node& node(NodeId id) const { return plan_.graph.node(id); }
  const Shape& shape(NodeId id) const { return node(id).type.shape; }

  // -- reading operands -------------------------------------------------------------------------
  /// The value as the kernels want it: fp32, int32 or bool, widened by a step of its own if need be.
  Slot wide(NodeId id);
  /// The value in whatever width it is stored.
  Located stored(NodeId id);
  /// Whether that is fp16: of inputs and states, as what is computed is fp32.
  bool is_stored_in_halves(NodeId id) const;
  /// The value for kernels that take strides: of four axes, fp32.
  LocatedRows rows(NodeId id);
  /// Whether the value is a weight or constant (through views), hence known before the first run.
  bool is_fixed(NodeId id) const;
  /// A fixed value of rank >= 2 packed into panels; `data` is its address.
  Panels panels(NodeId id, Form form);
  bool has_panels(NodeId id, Form form) const;
  /// Of the weights' matrices, and of products with matrices given at run time.
  MatrixFormat format() const { return plan_.weights->format(); }
  /// A fixed value row-major in its own type.
  Located natural(NodeId id);

  // -- writing results --------------------------------------------------------------------------
  /// A new place for the node's result; every node gets one, or `alias`, or `locate`.
  Slot result(NodeId id);
  /// The same, kept as bfloat16 if whoever writes it `can_round` and all readers are products that would
  /// round to that anyway.
  Located result_or_rounded(NodeId id, bool can_round = true);
  /// The place of operand `over`, where that is a state whose new value is the node's result; else a new one.
  Slot result_over(NodeId id, NodeId over);
  /// A place for something that is no node's value.
  Slot new_arena_place(std::size_t bytes) { return new_place({.kind = Place::Kind::arena, .bytes = bytes}); }
  /// The node's value is its operand's, reinterpreted.
  void alias(NodeId id, NodeId operand);
  void locate(NodeId id, Located where) { located_[static_cast<std::size_t>(id)] = where; }
  void add_step(Step step);

  // -- the rest of the graph --------------------------------------------------------------------
  /// The only node that uses this one, or `absent`.
  NodeId only_user(NodeId id) const;
  const std::vector<NodeId>& users(NodeId id) const { return users_[static_cast<std::size_t>(id)]; }
  bool is_output(NodeId id) const;
  /// Of a node with two operands.
  NodeId other_operand(NodeId id, NodeId operand) const {
    return node(id).inputs[0] == operand ? node(id).inputs[1] : node(id).inputs[0];
  }
  /// Makes `id` part of the step emitted for `last` (which may be itself).
  void fuse(NodeId id, NodeId last) { fused_into_[static_cast<std::size_t>(id)] = last; }
  bool is_fused(NodeId id) const { return fused_into_[static_cast<std::size_t>(id)] != absent; }
  /// The node whose step computes this one.
  NodeId emitted_with(NodeId id) const;
  /// If `id` is the new state of the input behind `operand` (by default its first), whose old value nothing
  /// needs from here on, that input.
  NodeId state_of(NodeId id, NodeId operand) const;
  NodeId state_of(NodeId id) const { return state_of(id, node(id).inputs[0]); }

 private:
  CpuWeights& store(NodeId id) const;
  std::string fixed_name(NodeId id) const;
  NodeId root(NodeId id) const;
  Slot new_place(Place place);
  void locate_sources();
  void lower_all();
  bool is_state(const Output& output) const;
  bool stays(NodeId id) const;
  void write_outputs();
  void write_output(int port, const Output& output);
  Located staged(NodeId id);
  bool move_later(NodeId id);
  void compute(NodeId id);
  bool only_rounded(NodeId id);

  // A value that nobody has asked for as a whole: elements of `source`, which is located.
  struct Moved {
    NodeId source;
    Strided strides;
  };

  Plan& plan_;
  std::vector<Located> located_;
  std::vector<std::optional<Moved>> moved_;
  std::map<NodeId, Slot> input_slots_;
  std::vector<Slot> widened_;
  std::vector<NodeId> fused_into_;
  std::vector<NodeId> roots_;
  std::vector<std::vector<NodeId>> users_;
};

/// How a type is kept between steps: fp16 in fp32, excess precision, never less.
constexpr DType memory_dtype(DType dtype) {
  return dtype == DType::fp16 ? DType::fp32 : dtype;
}

/// Whether a node only reinterprets its first operand's memory.
bool is_view(const Graph& graph, const Node& node);

/// The graph with values that lie side by side in zeros joined instead of added up. The padded ones stay: for
/// `optimize` to drop.
Graph join_padded(const Graph& graph);
/// Finds the products of a graph with a weight or constant, and what each can take in.
std::vector<Product> find_products(Planner& planner);
/// Whether `node` is a product that can read `operand` as bfloat16 and reads it in no other way.
bool reads_rounded(Planner& planner, const Node& node, NodeId operand);
void lower_product(Planner& planner, const Product& product);
/// Emits the steps of any other node.
void lower(Planner& planner, NodeId id);

}  // namespace orion::cpu
