#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/command_line.h"
#include "apps/exit_code.h"
#include "apps/output.h"
#include "apps/status_line.h"
#include "moe/data/prepare_corpus.h"

namespace {

using namespace moe;

constexpr const char* kHandbook = "/usr/share/doc/debian-handbook/html";

struct Arguments {
  std::vector<std::string> data;
  std::string out;
  std::string distinct_from;
  std::vector<std::string> note;
  bool overwrite = false;
  bool demo = false;
  std::string handbook = kHandbook;
  std::string python;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  line.add_flag(
      "data",
      &arguments.data,
      "Raw text as PATH or NAME=PATH: a file, a folder or JSONL, HTML too; repeatable.",
      "Text");
  line.add_flag(
      "distinct_from",
      &arguments.distinct_from,
      "Domain whose paragraphs are left out of the other domains' HTML pages.",
      "Text");
  line.add_flag("out", &arguments.out, "Folder of the corpus.", "Corpus");
  line.add_flag("overwrite", &arguments.overwrite, "Replace an older corpus.", "Corpus");
  line.add_flag(
      "note",
      &arguments.note,
      "KEY=VALUE for the manifest, such as a package and its version; repeatable.",
      "Corpus");
  line.add_flag(
      "demo",
      &arguments.demo,
      "Make the demo corpus: the Debian handbook in five languages and Python's library.",
      "Demo");
  line.add_flag("handbook", &arguments.handbook, "HTML folder of debian-handbook.", "Demo");
  line.add_flag(
      "python", &arguments.python, "Python's library; the newest below /usr/lib.", "Demo");
  line.set_footer(
      "Examples:\n"
      "  moe-prepare --demo --out corpus\n"
      "  moe-prepare --data en=pages/ --data notes=notes.jsonl --out corpus");
}

/// The library of the newest Python 3 that is installed.
std::string installed_python() {
  namespace fs = std::filesystem;
  int newest = -1;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/usr/lib", ignored)) {
    const auto name = entry.path().filename().string();
    const bool numbered =
        name.starts_with("python3.") && name.size() > 8 && name.size() < 12 &&
        std::all_of(name.begin() + 8, name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (numbered && fs::exists(entry.path() / "os.py")) {
      newest = std::max(newest, std::stoi(name.substr(8)));
    }
  }
  return newest < 0 ? "/usr/lib/python3" : fmt::format("/usr/lib/python3.{}", newest);
}

PrepareOptions options_of(const Arguments& arguments) {
  if (arguments.out.empty()) {
    throw UsageError("--out: a folder for the corpus is needed");
  }
  if (arguments.demo != arguments.data.empty()) {
    throw UsageError("--data: name the text with --data NAME=PATH, or ask for --demo alone");
  }
  PrepareOptions options;
  options.out = arguments.out;
  options.overwrite = arguments.overwrite;
  options.distinct_from = arguments.distinct_from;
  if (arguments.demo) {
    const auto python = arguments.python.empty() ? installed_python() : arguments.python;
    options.sources = demo_sources(arguments.handbook, python);
    options.distinct_from = "en";
  }
  const auto named = parse_data_sources(arguments.data);
  check_exist(named);
  for (const auto& source : named) {
    options.sources.push_back({source});
  }
  for (const auto& note : arguments.note) {
    const auto equals = note.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw UsageError(fmt::format("--note: '{}' is not KEY=VALUE", note));
    }
    options.notes[note.substr(0, equals)] = note.substr(equals + 1);
  }
  return options;
}

std::string table_of(const Manifest& manifest) {
  size_t width = 6;
  for (const auto& domain : manifest.domains) {
    width = std::max(width, domain.name.size());
  }
  auto table = fmt::format(
      "{:<{}}  {:>9}  {:>8}  {:>8}  {:>8}  {:>8}\n",
      "domain",
      width,
      "documents",
      "MB",
      "held out",
      "MB",
      "left out");
  for (const auto& domain : manifest.domains) {
    table += fmt::format(
        "{:<{}}  {:>9}  {:>8.3f}  {:>8}  {:>8.3f}  {:>8}\n",
        domain.name,
        width,
        domain.training.documents,
        static_cast<double>(domain.training.bytes) / 1e6,
        domain.held_out.documents,
        static_cast<double>(domain.held_out.bytes) / 1e6,
        static_cast<int64_t>(domain.skipped_files.size()) + domain.duplicate_documents +
            domain.short_documents);
  }
  return table;
}

int prepare(int argc, char** argv) {
  Arguments arguments;
  CommandLine line("moe-prepare", "Makes a corpus of clean text, with a held-out part.");
  add_arguments(line, arguments);
  line.parse(argc, argv);
  const auto options = options_of(arguments);
  StatusLine status;
  std::string current;
  const auto manifest =
      prepare_corpus(options, [&](const std::string& domain, int64_t documents) {
        if (domain != current && !status.live()) {
          status.log("preparing {}", domain);
        }
        current = domain;
        status.show(fmt::format("preparing {}, {} documents", domain, documents));
      });
  status.log("corpus in {}", options.out);
  write_stdout(table_of(manifest));
  return exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main("moe-prepare", [&] { return prepare(argc, argv); });
}
