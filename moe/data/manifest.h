#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace moe {

/// How much text there is.
struct TextSize {
  int64_t documents = 0;
  int64_t bytes = 0;
  int64_t characters = 0;
};

/// A file that was left out, and why.
struct SkippedFile {
  std::string path;
  std::string reason;
};

/// What `prepare_corpus` made of one domain.
struct DomainManifest {
  std::string name;
  std::vector<std::string> sources;
  TextSize training;
  TextSize held_out;
  std::vector<SkippedFile> skipped_files;
  int64_t duplicate_documents = 0;
  int64_t short_documents = 0;
  int64_t known_bytes = 0; ///< of paragraphs that another domain has, too
};

/// A file of the corpus.
struct ManifestFile {
  int64_t bytes = 0;
  std::string sha256;
};

/// What a prepared corpus holds and what it was made from: `manifest.json`. The same text gives
/// the same manifest: it has no time and no machine in it but the paths that were given.
struct Manifest {
  std::map<std::string, std::string> notes;
  std::vector<DomainManifest> domains;
  std::map<std::string, ManifestFile> files; ///< by name within the corpus

  std::string to_json() const;
};

/// Whether `text` is a manifest that `to_json` wrote.
bool is_manifest(const std::string& text);

} // namespace moe
