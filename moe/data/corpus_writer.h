#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "moe/data/document.h"
#include "moe/data/manifest.h"
#include "moe/data/sha256.h"

namespace moe {

/// Writes the documents of one domain into `FOLDER/NAME` and `FOLDER/NAME-heldout`, and records
/// sizes and hashes.
class CorpusWriter {
 public:
  /// The records must outlive this.
  CorpusWriter(
      std::filesystem::path folder,
      DomainManifest& domain,
      std::map<std::string, ManifestFile>& files);

  /// Adds a document: as a file of its own, or as a line of a JSONL file named after its path.
  /// Documents are kept until the hash has both held some out and left some.
  void add(Document document, bool own_file);

  /// Writes what is still kept; where the hash has not chosen some but not all documents, the
  /// end of the last one is held out.
  void finish();

 private:
  struct Entry {
    Document document;
    bool own_file;
  };
  /// One of the two folders.
  struct Part {
    std::string name;
    TextSize* size = nullptr;
    std::set<std::string> taken;              ///< names of files
    std::map<std::string, std::string> jsonl; ///< JSONL file of each source file
  };

  void write(Part& part, const Entry& entry);
  void write_file(Part& part, const Document& document);
  void write_line(Part& part, const Document& document);
  std::string free_name(Part& part, const std::string& wanted) const;
  void append(const std::string& name, std::string_view text);
  void close();

  std::filesystem::path folder_;
  std::map<std::string, ManifestFile>& files_;
  Part training_;
  Part held_out_;
  std::vector<Entry> kept_;
  bool any_training_ = false;
  bool any_held_out_ = false;
  std::string open_name_;
  std::ofstream open_file_;
  std::map<std::string, Sha256> hashes_;
};

} // namespace moe
