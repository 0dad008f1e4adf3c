#include "moe/data/corpus_writer.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "moe/data/corpus.h"
#include "moe/error.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

int64_t count_characters(std::string_view text) {
  int64_t characters = 0;
  for (const unsigned char byte : text) {
    characters += (byte & 0xC0) != 0x80;
  }
  return characters;
}

/// Pages become text files, so their names do, too.
std::string text_name(const std::string& path) {
  fs::path name(path);
  for (const char* ending : {".html", ".htm", ".xhtml"}) {
    if (name.extension() == ending) {
      name.replace_extension(".txt");
    }
  }
  return name.generic_string();
}

} // namespace

CorpusWriter::CorpusWriter(
    fs::path folder, DomainManifest& domain, std::map<std::string, ManifestFile>& files)
    : folder_(std::move(folder)), files_(files) {
  training_.name = domain.name;
  training_.size = &domain.training;
  held_out_.name = domain.name + "-heldout";
  held_out_.size = &domain.held_out;
}

void CorpusWriter::add(Document document, bool own_file) {
  const bool held_out = is_held_out(document.path, document.number);
  (held_out ? any_held_out_ : any_training_) = true;
  kept_.push_back({std::move(document), own_file});
  if (any_held_out_ && any_training_) {
    for (const auto& entry : kept_) {
      const bool out = is_held_out(entry.document.path, entry.document.number);
      write(out ? held_out_ : training_, entry);
    }
    kept_.clear();
  }
}

void CorpusWriter::finish() {
  if (!kept_.empty()) {
    auto tail = kept_.back();
    auto& last = kept_.back().document.text;
    const size_t begin = held_out_tail(last);
    tail.document.text = last.substr(begin);
    last.resize(begin);
    for (const auto& entry : kept_) {
      write(training_, entry);
    }
    write(held_out_, tail);
    kept_.clear();
  }
  close();
  for (auto& [name, hash] : hashes_) {
    files_[name].sha256 = to_hex(hash.digest());
  }
}

void CorpusWriter::write(Part& part, const Entry& entry) {
  if (is_blank(entry.document.text)) {
    return;
  }
  ++part.size->documents;
  part.size->bytes += static_cast<int64_t>(entry.document.text.size());
  part.size->characters += count_characters(entry.document.text);
  entry.own_file ? write_file(part, entry.document) : write_line(part, entry.document);
}

void CorpusWriter::write_file(Part& part, const Document& document) {
  append(part.name + "/" + free_name(part, text_name(document.path)), document.text);
}

void CorpusWriter::write_line(Part& part, const Document& document) {
  auto& name = part.jsonl[document.path];
  if (name.empty()) {
    name =
        free_name(part, fs::path(document.path).replace_extension(".jsonl").generic_string());
  }
  const nlohmann::ordered_json line = {
      {"text", document.text},
      {"source", document.path + ":" + std::to_string(document.number)}};
  append(
      part.name + "/" + name,
      line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

/// `wanted`, or with `-2`, `-3`, ... before its ending where two sources have the same name.
std::string CorpusWriter::free_name(Part& part, const std::string& wanted) const {
  auto name = wanted;
  for (int i = 2; !part.taken.insert(name).second; ++i) {
    fs::path path(wanted);
    const auto ending = path.extension().string();
    path.replace_extension();
    name = path.generic_string() + "-" + std::to_string(i) + ending;
  }
  return name;
}

void CorpusWriter::append(const std::string& name, std::string_view text) {
  const auto path = folder_ / name;
  if (name != open_name_) {
    close();
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    check(!error, path.string(), ": cannot be written: ", error.message());
    open_file_.open(path, std::ios::binary | std::ios::app);
    open_name_ = name;
  }
  open_file_.write(text.data(), static_cast<std::streamsize>(text.size()));
  check(open_file_.good(), path.string(), ": cannot be written: ", std::strerror(errno));
  files_[name].bytes += static_cast<int64_t>(text.size());
  hashes_[name].update(text);
}

void CorpusWriter::close() {
  if (open_name_.empty()) {
    return;
  }
  open_file_.close();
  check(
      open_file_.good(),
      (folder_ / open_name_).string(),
      ": cannot be written: ",
      std::strerror(errno));
  open_file_.clear();
  open_name_.clear();
}

} // namespace moe
