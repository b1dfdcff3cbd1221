// Functions of elements that follow one another and become one step: their operands are read once, and what
// only they need stays in the first-level cache.
#include "cpu/chains.h"

#include "cpu/kernel_table.h"
#include "cpu/kernel_work.h"
#include "cpu/lower.h"
#include "orion/error.h"

#include <algorithm>
#include <array>

namespace orion::cpu {
namespace {

constexpr std::int64_t chain_block = 1024;  // elements that go through all of a chain at once
constexpr std::size_t most_inner = 6;       // values that only the chain needs

// Operands have the result's shape, or are one number.
bool can_be_in_chain(const Planner& p, NodeId id) {
  const Node& node = p.node(id);
  if (p.is_fused(id) || !is_float(node.type.dtype) || (!unary_call(node) && !binary_of(node))) return false;
  return p.state_of(id) == absent && std::ranges::all_of(node.inputs, [&](NodeId input) {
           return p.shape(input) == node.type.shape || p.shape(input).size() == 1;
         });
}

bool contains(const Chain& chain, NodeId id) {
  return std::ranges::find(chain.nodes, id) != chain.nodes.end();
}

// What only the chain needs.
bool is_inner(const Planner& p, const Chain& chain, NodeId id) {
  return !p.is_output(id) &&
         std::ranges::all_of(p.users(id), [&](NodeId user) { return contains(chain, user); });
}

class Chains {
 public:
  explicit Chains(Planner& planner) : p_(planner) {}

  std::vector<Chain> find() {
    for (NodeId id = 0; id < p_.graph().size(); ++id)
      if (can_be_in_chain(p_, id)) add(id);
    std::erase_if(chains_, [](const Chain& chain) { return chain.nodes.size() < 2; });
    for (const Chain& chain : chains_)
      for (const NodeId id : chain.nodes) p_.fuse(id, chain.nodes.back());
    return std::move(chains_);
  }

 private:
  void add(NodeId id) {
    for (std::size_t i = chains_.size(); i-- > 0;)
      if (can_join(chains_[i], id)) return chains_[i].nodes.push_back(id);
    chains_.push_back({{id}});
  }

  // The whole chain is computed where its last node was: whoever else reads one of its values comes later.
  bool can_join(const Chain& chain, NodeId id) const {
    if (p_.shape(chain.nodes.front()) != p_.shape(id) || !is_related(chain, id)) return false;
    Chain longer = chain;
    longer.nodes.push_back(id);
    const auto inner = std::ranges::count_if(longer.nodes, [&](NodeId n) { return is_inner(p_, longer, n); });
    return inner <= static_cast<std::ptrdiff_t>(most_inner) &&
           std::ranges::all_of(chain.nodes, [&](NodeId n) {
             return std::ranges::all_of(
                 p_.users(n), [&](NodeId user) { return contains(longer, user) || computed_at(user) > id; });
           });
  }

  // Whether they have something to read in common.
  bool is_related(const Chain& chain, NodeId id) const {
    return std::ranges::any_of(p_.node(id).inputs, [&](NodeId input) {
      return contains(chain, input) || std::ranges::any_of(chain.nodes, [&](NodeId n) {
               const std::vector<NodeId>& inputs = p_.node(n).inputs;
               return p_.shape(input).size() > 1 && std::ranges::find(inputs, input) != inputs.end();
             });
    });
  }

  NodeId computed_at(NodeId id) const {
    for (const Chain& chain : chains_)
      if (contains(chain, id)) return chain.nodes.back();
    return p_.emitted_with(id);
  }

  Planner& p_;
  std::vector<Chain> chains_;
};

// A value on its way through a chain: in memory, or in the block's own.
struct Value {
  Slot slot = no_slot;
  std::size_t inner = 0;  // where there is no slot
  bool is_number = false;

  float* at(const Run& run, std::int64_t element, float (*own)[chain_block]) const {
    if (slot == no_slot) return own[inner];
    return run.at<float>(slot) + (is_number ? 0 : element);
  }
};

struct Link {
  std::optional<UnaryCall> unary;
  BinaryCall binary;
  std::array<Value, 2> operands;
  Value result;

  void compute(const Run& run, std::int64_t element, std::int64_t count, float (*own)[chain_block]) const {
    const float* a = operands[0].at(run, element, own);
    float* y = result.at(run, element, own);
    if (unary) {
      UnaryCall call = *unary;
      call.x = a;
      call.y = y;
      return kernels().unary(call, 0, count);
    }
    BinaryCall call = binary;
    call.a = a;
    call.b = operands[1].at(run, element, own);
    call.y = y;
    call.rows = 1;
    call.cols = count;
    kernels().binary(call, 0, 1);
  }
};

class Lowering {
 public:
  Lowering(Planner& planner, const Chain& chain) : p_(planner), chain_(chain) {}

  Step step() {
    for (const NodeId id : chain_.nodes) links_.push_back(link(id));
    const std::int64_t count = p_.shape(chain_.nodes.back()).size();
    step_.label = label();
    step_.in_place = !links_.front().operands[0].is_number;
    step_.run = [links = links_, count](const Run& run) {
      run.pool.split(count, elements_at_once, [&](std::int64_t begin, std::int64_t end) {
        alignas(64) float own[most_inner][chain_block];
        for (std::int64_t i = begin; i < end; i += chain_block)
          for (const Link& link : links) link.compute(run, i, std::min(chain_block, end - i), own);
      });
    };
    return std::move(step_);
  }

 private:
  Link link(NodeId id) {
    const Node& node = p_.node(id);
    Link link{.unary = unary_call(node), .binary = {}, .operands = {}, .result = {}};
    for (std::size_t i = 0; i < node.inputs.size(); ++i) link.operands[i] = operand(node.inputs[i]);
    if (!link.unary) {
      link.binary.op = *binary_of(node);
      link.binary.a_col = link.operands[0].is_number ? 0 : 1;
      link.binary.b_col = link.operands[1].is_number ? 0 : 1;
    }
    link.result = values_[id] = result(id);
    return link;
  }

  Value operand(NodeId id) {
    if (const auto found = values_.find(id); found != values_.end()) return found->second;
    const Value value{.slot = p_.wide(id), .is_number = p_.shape(id).size() == 1 && !whole_is_number()};
    step_.reads.push_back(value.slot);
    return values_[id] = value;
  }

  Value result(NodeId id) {
    if (is_inner(p_, chain_, id)) return {.inner = inner_++};
    const Value value{.slot = p_.result(id)};
    (id == chain_.nodes.back() ? step_.writes : step_.also_writes.emplace_back()) = value.slot;
    return value;
  }

  bool whole_is_number() const { return p_.shape(chain_.nodes.back()).size() == 1; }

  std::string label() const {
    std::string names;
    for (const NodeId id : chain_.nodes) names += str(names.empty() ? "" : "+", p_.node(id).op->name);
    return str(names, ' ', p_.node(chain_.nodes.back()).name);
  }

  Planner& p_;
  const Chain& chain_;
  Step step_;
  std::vector<Link> links_;
  std::map<NodeId, Value> values_;
  std::size_t inner_ = 0;
};

}  // namespace

std::vector<Chain> find_chains(Planner& planner) {
  return Chains(planner).find();
}

void lower_chain(Planner& planner, const Chain& chain) {
  planner.add_step(Lowering(planner, chain).step());
}

}  // namespace orion::cpu
