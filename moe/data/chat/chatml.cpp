#include "moe/data/chat/chatml.h"

#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/json_internal.h"

namespace moe {
namespace {

constexpr const char* kStartOfTurn = "<|im_start|>";
constexpr const char* kEndOfTurn = "<|im_end|>";
constexpr const char* kTemplate =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The object in a file of the folder; an empty one where there is no file.
Json object_of(const std::filesystem::path& file) {
  std::error_code error;
  return std::filesystem::is_regular_file(file, error) ? read_json_object(file)
                                                       : Json::object();
}

void write_object(const std::filesystem::path& file, const Json& object) {
  write_file_atomically(file, object.dump(2) + "\n");
}

} // namespace

Tokenizer with_chatml_tokens(const Tokenizer& tokenizer) {
  return tokenizer.with_added_tokens({kStartOfTurn, kEndOfTurn});
}

void write_chatml_template(const std::filesystem::path& folder, const Tokenizer& tokenizer) {
  const auto end = tokenizer.token_id(kEndOfTurn);
  const auto start = tokenizer.token_id(kStartOfTurn);
  check(
      start && end,
      "chat format: the tokenizer has no token ",
      start ? kEndOfTurn : kStartOfTurn);
  auto config = object_of(folder / "tokenizer_config.json");
  config["chat_template"] = kTemplate;
  config["eos_token"] = kEndOfTurn;
  write_object(folder / "tokenizer_config.json", config);

  auto generation = object_of(folder / "generation_config.json");
  auto ends = Json::array({*end});
  if (const auto old = generation.find("eos_token_id"); old != generation.end()) {
    for (const auto& id : old->is_array() ? *old : Json::array({*old})) {
      // An id that no token had before may be that of the token that begins a turn now.
      if (!id.is_null() && id != *end && id != *start) {
        ends.push_back(id);
      }
    }
  }
  generation["eos_token_id"] = ends;
  write_object(folder / "generation_config.json", generation);
}

} // namespace moe
