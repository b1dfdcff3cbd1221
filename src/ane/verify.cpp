// Does a program keep a profile's limits?
#include "ane/checks.h"
#include "mil/foreign.h"
#include "mil/lowered.h"
#include "orion/error.h"
#include "orion/mil.h"
#include "orion/op.h"

#include <algorithm>
#include <map>

namespace orion::ane {
namespace {

std::vector<bool> constants(const Graph& graph) {
  std::vector<bool> constant;
  for (const Node& node : graph.nodes()) {
    const auto known = [&](NodeId id) { return id == absent || constant[static_cast<std::size_t>(id)]; };
    constant.push_back(node.op->is_source() ? !node.is("input") : std::ranges::all_of(node.inputs, known));
  }
  return constant;
}

template <class IsStored>
GraphFacts facts_of(const Graph& graph, const Profile& profile, const IsStored& is_stored) {
  GraphFacts facts{.graph = graph, .profile = profile, .constant = constants(graph)};
  for (const Node& node : graph.nodes())
    if (is_stored(node)) facts.stored.push_back(&node);
  return facts;
}

class Finder {
 public:
  explicit Finder(const Profile& profile) : profile_(profile) {}

  void look_at(const GraphFacts& facts) {
    for (const NodeCheck& check : node_checks()) {
      if (!profile_.has(check.limit)) continue;
      for (const Node& node : facts.graph.nodes())
        if (check.crosses(facts, node))
          add(check.limit, str(node.op->name, " '", node.name, "' of ", node.type));
    }
    for (const GraphCheck& check : graph_checks())
      if (profile_.has(check.limit)) add_all(check.limit, check.places(facts));
  }

  void look_at(const mil::Function& function) {
    for (const TextCheck& check : text_checks())
      if (profile_.has(check.limit)) add_all(check.limit, check.places(function, profile_));
  }

  std::vector<Violation> take() {
    std::vector<Violation> all;
    for (auto& [limit, places] : found_)
      for (std::string& where : places) all.push_back({limit, std::move(where)});
    return all;
  }
  bool empty() const { return found_.empty(); }

 private:
  void add(std::string_view id, std::string where) { found_[&limit(id)].push_back(std::move(where)); }
  void add_all(std::string_view id, std::vector<std::string> places) {
    for (std::string& where : places) add(id, std::move(where));
  }

  const Profile& profile_;
  std::map<const Limit*, std::vector<std::string>> found_;  // the table is one array: in its order
};

bool is_of_graphs(const mil::Statement& statement) {
  return statement.op == "const" || find_op(statement.op) != nullptr ||
         mil::find_foreign_op(statement.op) != nullptr;
}

// A text with ops that graphs lack shows what it crosses without one; if that is nothing, parsing says why
// it cannot be judged.
void look_at_function(Finder& finder, std::string_view text, const mil::Function& function,
                      const Profile& profile) {
  finder.look_at(function);
  if (!std::ranges::all_of(function.body, is_of_graphs) && !finder.empty()) return;
  const Graph graph = mil::parse(text, function.name);
  finder.look_at(facts_of(graph, profile, [](const Node& node) { return node.is("weight"); }));
}

void refuse(const std::vector<Violation>& found, const Profile& profile) {
  for (const Violation& violation : found) {
    const Limit& crossed = *violation.limit;
    if (crossed.effect == Effect::slow) continue;
    fail(crossed.id, " (", profile.name, "): ", violation.where, ". ", crossed.rule, " ", crossed.action);
  }
}

}  // namespace

std::vector<Violation> violations(const Graph& graph, const Profile& profile) {
  const Graph lowered = mil::lower_to_mil(graph);
  Finder finder(profile);
  finder.look_at(facts_of(lowered, profile, mil::is_blob));
  return finder.take();
}

std::vector<Violation> violations(std::string_view mil_text, const Profile& profile) {
  Finder finder(profile);
  for (const mil::Function& function : mil::read_syntax(mil_text))
    look_at_function(finder, mil_text, function, profile);
  return finder.take();
}

void verify_ane(const Graph& graph, const Profile& profile) {
  refuse(violations(graph, profile), profile);
}

void verify_ane(std::string_view mil_text, const Profile& profile) {
  refuse(violations(mil_text, profile), profile);
}

}  // namespace orion::ane
