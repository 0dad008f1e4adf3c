#include "moe/data/prepare_corpus.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "moe/data/corpus_writer.h"
#include "moe/data/known_paragraphs.h"
#include "moe/data/raw_documents.h"
#include "moe/data/sha256.h"
#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/atomic_folder.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

constexpr size_t kShortFile = 100;
constexpr const char* kManifestName = "manifest.json";

void check_replaceable(const PrepareOptions& options) {
  std::error_code error;
  if (!fs::exists(options.out, error)) {
    return;
  }
  check(fs::is_directory(options.out), options.out, ": is not a folder");
  if (fs::is_empty(options.out, error)) {
    return;
  }
  const auto manifest = fs::path(options.out) / kManifestName;
  check(
      fs::is_regular_file(manifest) && is_manifest(read_text_file(manifest)),
      options.out,
      ": the folder is not empty and not a corpus that was made here; name another one");
  check(options.overwrite, options.out, ": holds a corpus already; --overwrite replaces it");
}

std::vector<DataSource> plain_sources(const PrepareOptions& options) {
  std::vector<DataSource> sources;
  for (const auto& source : options.sources) {
    sources.push_back(source.source);
  }
  return sources;
}

void check_domains(const PrepareOptions& options, const std::vector<std::string>& domains) {
  check(!domains.empty(), "data: no text is given; --data NAME=PATH");
  const auto has = [&](const std::string& name) {
    return std::find(domains.begin(), domains.end(), name) != domains.end();
  };
  for (const auto& domain : domains) {
    check(
        !has(domain + "-heldout") && !domain.starts_with('.') && domain != kManifestName,
        "data: the domain '",
        domain,
        "' cannot be the name of a folder beside the others");
  }
  check(
      options.distinct_from.empty() || has(options.distinct_from),
      "distinct_from: no data is named '",
      options.distinct_from,
      "'");
}

KnownParagraphs known_paragraphs(const PrepareOptions& options) {
  KnownParagraphs known;
  std::vector<SkippedFile> skipped;
  for (const auto& source : options.sources) {
    if (!options.distinct_from.empty() && source.source.domain == options.distinct_from) {
      for_each_raw_document(
          source, skipped, [&](Document&& document, RawKind) { known.add(document.text); });
    }
  }
  return known;
}

/// Why nothing is left of a domain that has documents.
std::string left_out(const DomainManifest& domain) {
  std::string reasons;
  const auto add = [&reasons](int64_t count, const std::string& reason) {
    if (count > 0) {
      reasons += (reasons.empty() ? "; left out: " : ", ") + std::to_string(count) + reason;
    }
  };
  add(domain.duplicate_documents, " that were there before, in this domain or another");
  add(domain.short_documents, " that are too short");
  add(static_cast<int64_t>(domain.skipped_files.size()), " files that cannot be read");
  return reasons;
}

/// Prepares one domain after the other.
class Preparation {
 public:
  Preparation(
      const PrepareOptions& options, const fs::path& folder, const PrepareProgress& progress)
      : options_(options),
        folder_(folder),
        progress_(progress),
        known_(known_paragraphs(options)) {}

  void prepare(const std::string& name) {
    auto& domain = manifest.domains.emplace_back();
    domain.name = name;
    CorpusWriter writer(folder_, domain, manifest.files);
    int64_t documents = 0;
    for (const auto& source : options_.sources) {
      if (source.source.domain != name) {
        continue;
      }
      domain.sources.push_back(source.source.path);
      for_each_raw_document(
          source, domain.skipped_files, [&](Document&& document, RawKind kind) {
            if (accept(domain, document, kind)) {
              writer.add(std::move(document), kind != RawKind::fragment);
              report(name, ++documents);
            }
          });
    }
    writer.finish();
    check(
        documents > 0,
        domain.sources.front(),
        ": no text found for the domain '",
        name,
        "'",
        left_out(domain));
  }

  Manifest manifest;

 private:
  bool accept(DomainManifest& domain, Document& document, RawKind kind) {
    if (kind == RawKind::html && !options_.distinct_from.empty() &&
        domain.name != options_.distinct_from) {
      const auto before = document.text.size();
      document.text = known_.without_known(document.text);
      domain.known_bytes += static_cast<int64_t>(before - document.text.size());
    }
    const size_t shortest = kind == RawKind::fragment ? 1 : kShortFile;
    if (document.text.size() < shortest || is_blank(document.text)) {
      ++domain.short_documents;
      return false;
    }
    if (!seen_.insert(sha256(document.text)).second) {
      ++domain.duplicate_documents;
      return false;
    }
    return true;
  }

  void report(const std::string& domain, int64_t documents) const {
    if (progress_) {
      progress_(domain, documents);
    }
  }

  const PrepareOptions& options_;
  fs::path folder_;
  const PrepareProgress& progress_;
  KnownParagraphs known_;
  std::set<Sha256::Digest> seen_;
};

} // namespace

Manifest prepare_corpus(const PrepareOptions& options, const PrepareProgress& progress) {
  check(!options.out.empty(), "out: no folder is given for the corpus");
  check_replaceable(options);
  const auto domains = domains_of(plain_sources(options));
  check_domains(options, domains);
  AtomicFolder folder(options.out);
  Preparation preparation(options, folder.path(), progress);
  preparation.manifest.notes = options.notes;
  for (const auto& domain : domains) {
    preparation.prepare(domain);
  }
  write_file_atomically(folder.path() / kManifestName, preparation.manifest.to_json());
  folder.commit();
  return preparation.manifest;
}

std::vector<RawSource> demo_sources(const std::string& handbook, const std::string& python) {
  check(
      fs::is_directory(handbook),
      handbook,
      ": no such folder; install the package debian-handbook or name its HTML folder with "
      "--handbook");
  check(
      fs::is_directory(python),
      python,
      ": no such folder; install the package libpython3-stdlib or name Python's library with "
      "--python");
  std::vector<RawSource> sources;
  const std::vector<std::pair<std::string, std::string>> languages = {
      {"en", "en-US"}, {"de", "de-DE"}, {"fr", "fr-FR"}, {"ru", "ru-RU"}, {"ja", "ja-JP"}};
  for (const auto& [domain, folder] : languages) {
    sources.push_back({{domain, (fs::path(handbook) / folder).string()}});
    sources.back().max_ascii_share = domain == "ja" ? 0.05 : 1;
  }
  sources.push_back({{"code", python}, {".py"}, /*skip_tests=*/true, /*skip_tables=*/true});
  return sources;
}

} // namespace moe
