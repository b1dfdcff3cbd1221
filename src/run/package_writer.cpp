// Writing a package, layer by layer: what one layer needs is held at a time.
#include "base/file.h"
#include "base/sha256.h"
#include "base/staged_directory.h"
#include "mil/lowered.h"
#include "orion/error.h"
#include "run/manifest.h"
#include "run/package_shapes.h"

#include <algorithm>
#include <set>

namespace orion {
namespace {

namespace fs = std::filesystem;

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// A form of one of a layer's weights, under the name that the package has for it.
struct StoredForm {
  ane::WeightUse use;
  std::string name;
  Tensor value;
};

// Constants of all layers.
struct StoredConstant {
  std::string wanted;
  std::string name;
  Tensor value;
};

class PackageWriter {
 public:
  PackageWriter(const fs::path& directory, std::string_view config, const WeightSource& weights,
                const PackageOptions& options, std::vector<std::int64_t> buckets)
      : directory_(directory),
        config_(configure(read_config(config))),
        weights_(weights),
        options_(options),
        profile_(ane::find_profile(options.profile)),
        buckets_(std::move(buckets)) {
    manifest_.version = ORION_VERSION;
    manifest_.profile = profile_.name;
    for (const std::string_view part : {"programs", "weights"}) fs::create_directory(directory_ / part);
    add_file(config_file, config);
    for (const auto& [name, content] : options_.files) add_extra_file(name, content);
  }

  void run() {
    write_host_weights();
    for (std::int64_t layer = 0; layer < config_.layers; ++layer) write_layer(layer);
    NamedTensors constants;
    for (const StoredConstant& constant : constants_) constants.emplace_back(constant.name, constant.value);
    write_weights("weights/constants.bin", constants);
    replace_file(directory_ / manifest_file, manifest_text(manifest_));
  }

 private:
  void list_file(std::string_view path) {
    const MappedFile file(directory_ / path);
    manifest_.files.push_back({std::string(path), file.bytes().size(), sha256_hex(file.bytes())});
  }

  void add_file(std::string_view path, std::string_view content) {
    replace_file(directory_ / path, content);
    list_file(path);
  }

  void add_extra_file(const std::string& name, const std::string& content) {
    const bool plain = is_package_path(name) && name.find('/') == std::string::npos;
    if (!plain || name == manifest_file || name == config_file || fs::exists(directory_ / name))
      fail("package: a file cannot be called '", name, "'");
    add_file(name, content);
  }

  void write_weights(const std::string& path, const NamedTensors& tensors) {
    if (tensors.empty()) return;
    std::vector<weights::Entry> entries;
    for (const auto& [name, tensor] : tensors)
      entries.push_back({.name = name,
                         .type = mil::blob_type(tensor.dtype()),
                         .shape = {tensor.shape().begin(), tensor.shape().end()},
                         .data = {tensor.data(), tensor.bytes()}});
    weights::write(directory_ / path, entries);
    manifest_.weights.push_back(path);
    list_file(path);
    list_file(names_file(path));
  }

  // A name that no tensor has yet.
  std::string own_name(const std::string& wanted, int first) {
    std::string name = first == 0 ? wanted : str(wanted, '.', first);
    while (!names_.insert(name).second) name = str(wanted, '.', ++first);
    return name;
  }

  void write_host_weights() {
    NamedTensors tensors;
    for (const Port& port : host_weights(config_, true))
      tensors.emplace_back(own_name(port.name, 0), load_weight(weights_, port));
    write_weights("weights/host.bin", tensors);
  }

  void write_layer(std::int64_t layer) {
    std::vector<StoredForm> forms;
    TensorMap sources;
    for (const SegmentShape& shape : package_shapes(layer, buckets_)) {
      write_program(shape, sources, forms);
      if (options_.progress)
        options_.progress(manifest_.programs.size(), package_programs(config_, buckets_));
    }
    NamedTensors tensors;
    for (const StoredForm& form : forms) tensors.emplace_back(form.name, form.value);
    write_weights(str("weights/layer_", layer, ".bin"), tensors);
  }

  void write_program(const SegmentShape& shape, TensorMap& sources, std::vector<StoredForm>& forms) {
    const ane::LegalProgram legal = ane::legalize_program(segment(config_, shape), profile_);
    const ane::Blueprint blueprint = ane::make_blueprint(legal.graph);
    PackedSegment packed{
        .shape = shape,
        .text = str("programs/", segment_name(shape.kind), '_', shape.layer, '_', shape.tokens, ".mil"),
        .weights = {},
        .inputs = legal.inputs,
        .outputs = legal.outputs};
    for (const mil::BlobEntry& entry : blueprint.entries)
      packed.weights.push_back(entry.value.empty() ? form_name(legal, entry.name, sources, forms)
                                                   : constant_name(entry));
    add_file(packed.text, blueprint.text);
    manifest_.programs.push_back(std::move(packed));
  }

  std::string form_name(const ane::LegalProgram& legal, const std::string& weight, TensorMap& sources,
                        std::vector<StoredForm>& forms) {
    const ane::WeightUse& use = *std::ranges::find(legal.weights, weight, &ane::WeightUse::name);
    const auto known =
        std::ranges::find_if(forms, [&](const StoredForm& form) { return same_form(form.use, use); });
    if (known != forms.end()) return known->name;
    Tensor& source = sources[use.source];
    if (source.empty()) source = load_weight(weights_, {use.source, use.source_type});
    forms.push_back({use, own_name(use.name, 0), legal_weight(use, source)});
    return forms.back().name;
  }

  // A number at the end tells them from nodes, which have none.
  std::string constant_name(const mil::BlobEntry& entry) {
    for (const StoredConstant& constant : constants_)
      if (constant.wanted == entry.name && constant.value.identical(entry.value)) return constant.name;
    constants_.push_back({entry.name, own_name(entry.name, 1), entry.value});
    return constants_.back().name;
  }

  fs::path directory_;
  ModelConfig config_;
  const WeightSource& weights_;
  const PackageOptions& options_;
  const ane::Profile& profile_;
  std::vector<std::int64_t> buckets_;
  Manifest manifest_;
  std::set<std::string> names_;
  std::vector<StoredConstant> constants_;
};

std::vector<std::int64_t> buckets_for(const ModelConfig& config, const PackageOptions& options) {
  std::vector<std::int64_t> buckets = options.buckets;
  for (const std::int64_t columns : prefill_buckets())
    if (options.buckets.empty() && (buckets.empty() || buckets.back() < config.context))
      buckets.push_back(columns);
  std::ranges::sort(buckets);
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    if (buckets[i] < 1 || buckets[i] > most_columns)
      fail("package: prompts in ", buckets[i], " columns, from 1 to ", most_columns, " are possible");
    if (i > 0 && buckets[i] == buckets[i - 1]) fail("package: prompts in ", buckets[i], " columns twice");
  }
  return buckets;
}

// What a package has, and nothing else.
void check_is_package(const fs::path& directory) {
  const Package old(directory);
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
    const std::string path = entry.path().lexically_relative(directory).generic_string();
    const bool listed = path == manifest_file ||
                        std::ranges::find(old.files(), path, &PackageFile::path) != old.files().end();
    if (!entry.is_directory() && !listed)
      fail(directory.string(), ": holds '", path, "', which is no part of the package: not replaced");
  }
}

void check_target(const fs::path& directory, bool replace) {
  if (!fs::exists(fs::symlink_status(directory))) return;
  if (!fs::is_directory(directory)) fail(directory.string(), ": exists and is no directory");
  if (fs::is_empty(directory)) return;
  if (!is_package(directory)) fail(directory.string(), ": holds files and is no package: not replaced");
  if (!replace) fail(directory.string(), ": holds a package already (--force replaces it)");
  check_is_package(directory);
}

}  // namespace

std::vector<SegmentShape> package_shapes(std::int64_t layer, std::span<const std::int64_t> buckets) {
  std::vector<SegmentShape> shapes = {
      {.kind = SegmentKind::projection, .layer = layer, .tokens = decode_columns},
      {.kind = SegmentKind::output, .layer = layer, .tokens = decode_columns}};
  for (const std::int64_t columns : buckets)
    for (const SegmentKind kind : {SegmentKind::attention, SegmentKind::feed_forward})
      shapes.push_back({.kind = kind, .layer = layer, .tokens = columns});
  return shapes;
}

std::size_t package_programs(const ModelConfig& config, std::span<const std::int64_t> buckets) {
  return static_cast<std::size_t>(config.layers) * 2 * (buckets.size() + 1);
}

void write_package(const fs::path& directory, std::string_view config, const WeightSource& weights,
                   const PackageOptions& options) {
  try {
    check_target(directory, options.replace);
    std::vector<std::int64_t> buckets = buckets_for(configure(read_config(config)), options);
    StagedDirectory stage(directory);
    PackageWriter(stage.path(), config, weights, options, std::move(buckets)).run();
    static_cast<void>(Package(stage.path()));  // what was written can be read
    check_target(directory, options.replace);  // as it may be by now
    stage.commit();
  } catch (const fs::filesystem_error& error) {
    fail(directory.string(), ": ", error.what());
  }
}

}  // namespace orion
