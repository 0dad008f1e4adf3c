#include "moe/data/manifest.h"

#include "moe/files/json_internal.h"

namespace moe {
namespace {

constexpr const char* kFormat = "moe-corpus-1";

OrderedJson size_json(const TextSize& size) {
  return {
      {"documents", size.documents}, {"bytes", size.bytes}, {"characters", size.characters}};
}

OrderedJson domain_json(const DomainManifest& domain) {
  OrderedJson skipped = OrderedJson::array();
  for (const auto& file : domain.skipped_files) {
    skipped.push_back({{"path", file.path}, {"reason", file.reason}});
  }
  return {
      {"sources", domain.sources},
      {"training", size_json(domain.training)},
      {"held_out", size_json(domain.held_out)},
      {"skipped",
       {{"duplicate_documents", domain.duplicate_documents},
        {"short_documents", domain.short_documents},
        {"known_bytes", domain.known_bytes},
        {"files", skipped}}}};
}

} // namespace

std::string Manifest::to_json() const {
  OrderedJson manifest = {{"format", kFormat}, {"notes", notes}};
  manifest["domains"] = OrderedJson::object();
  for (const auto& domain : domains) {
    manifest["domains"][domain.name] = domain_json(domain);
  }
  manifest["files"] = OrderedJson::object();
  for (const auto& [name, file] : files) {
    manifest["files"][name] = {{"bytes", file.bytes}, {"sha256", file.sha256}};
  }
  // File names need not be UTF-8.
  return manifest.dump(2, ' ', /*ensure_ascii=*/false, OrderedJson::error_handler_t::replace) +
         "\n";
}

bool is_manifest(const std::string& text) {
  const auto manifest = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
  return manifest.is_object() && manifest.contains("format") && manifest["format"] == kFormat;
}

} // namespace moe
