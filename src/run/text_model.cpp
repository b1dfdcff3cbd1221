#include "orion/error.h"
#include "orion/model.h"

namespace orion {

void TextModel::check_ids(std::span<const std::int32_t> ids, std::string_view what) const {
  if (ids.empty()) fail(what, ": no token ids given, at least one is needed");
  if (static_cast<std::int64_t>(ids.size()) > config().context)
    fail(what, ": ", ids.size(), " tokens, the model's context holds ", config().context);
  check_vocabulary(ids, what);
}

void TextModel::check_vocabulary(std::span<const std::int32_t> ids, std::string_view what) const {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= config().vocab)
      fail(what, ": token id ", ids[i], " at index ", i, " is outside the vocabulary of ", config().vocab);
}

}  // namespace orion
