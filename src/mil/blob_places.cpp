#include "mil/blob_places.h"

#include "mil/literal.h"

namespace orion::mil {

std::vector<BlobPlace> blob_places(const Function& function) {
  std::vector<BlobPlace> places;
  for (const Statement& statement : function.body) {
    if (!statement.value || statement.results.empty()) continue;
    const auto* blob = std::get_if<BlobReference>(&statement.value->value);
    if (blob == nullptr) continue;
    places.push_back({statement.label.value_or(std::string(statement.results.front().name)),
                      tensor_type(statement.value->type), blob->path, blob->offset});
  }
  return places;
}

}  // namespace orion::mil
