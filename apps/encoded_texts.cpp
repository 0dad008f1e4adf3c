#include "apps/encoded_texts.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "moe/data/encode_corpus.h"
#include "moe/error.h"

namespace moe {
namespace {

std::filesystem::path make_temporary_folder() {
  // A name that nobody could have taken before.
  auto name = (std::filesystem::temp_directory_path() / "moe-texts-XXXXXX").string();
  check(
      ::mkdtemp(name.data()) != nullptr,
      name,
      ": cannot create the folder: ",
      std::strerror(errno));
  return name;
}

void remove_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

} // namespace

EncodedTexts::EncodedTexts(
    const std::vector<std::string>& data,
    const Tokenizer& tokenizer,
    const std::filesystem::path& model_folder)
    : folder_(make_temporary_folder()) {
  try {
    const auto sources = parse_data_sources(data);
    check_exist(sources);
    const auto chat = find_chat_format(read_tokenizer_config(model_folder), tokenizer);
    for (const auto& name : domains_of(sources)) {
      const auto path = (folder_ / fmt::format("{}.tokens", domains_.size())).string();
      encode_documents(sources_of(sources, name), Split::all, tokenizer, path, chat);
      domains_.push_back(
          {name,
           TokenFile(path, tokenizer.vocab_size(), tokenizer.to_json()),
           open_replies(path)});
    }
  } catch (...) {
    remove_folder(folder_);
    throw;
  }
}

EncodedTexts::~EncodedTexts() {
  remove_folder(folder_);
}

std::vector<EvaluationDomain> evaluation_domains(
    const EncodedTexts& texts, const EvaluationCut& cut) {
  std::vector<EvaluationDomain> domains;
  for (const auto& text : texts.domains()) {
    domains.push_back(
        {text.name,
         EvaluationWindows(
             text.tokens,
             static_cast<int64_t>(domains.size()),
             cut.batch_size,
             cut.sequence_length,
             cut.max_tokens,
             cut.document_mask,
             text.replies)});
  }
  return domains;
}

} // namespace moe
