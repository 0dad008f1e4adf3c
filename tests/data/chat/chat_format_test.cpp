#include "moe/data/chat/chat_format.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "moe/data/chat/chatml.h"
#include "moe/error.h"
#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;
using nlohmann::json;

namespace {

TokenizerConfig config_with(const std::string& jinja) {
  TokenizerConfig config;
  config.bos_token = "<s>";
  config.eos_token = "</s>";
  config.chat_template = jinja;
  return config;
}

std::vector<ChatMessage> messages_of(const json& values) {
  std::vector<ChatMessage> messages;
  for (const auto& value : values) {
    messages.push_back({value["role"], value["content"]});
  }
  return messages;
}

/// Bytes, and a token for each of `tokens`.
Tokenizer tokenizer_with(const std::vector<std::string>& tokens) {
  auto file = json::parse(Tokenizer::bytes().to_json());
  for (const auto& token : tokens) {
    auto added = file["added_tokens"][0];
    added["id"] = 256 + file["added_tokens"].size();
    added["content"] = token;
    file["added_tokens"].push_back(added);
  }
  return Tokenizer::from_json(file.dump(), "tokens");
}

template <class Value>
std::vector<Value> words_of(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<Value>(stream), std::istream_iterator<Value>()};
}

json golden_conversations() {
  return json::parse(std::ifstream(std::string(MOE_TEST_FIXTURES) + "/chat/goldens.json"));
}

std::string reply_text(const ChatTokens& tokens, const Tokenizer& tokenizer) {
  std::vector<int32_t> reply;
  for (size_t i = 0; i < tokens.ids.size(); ++i) {
    if (tokens.is_reply[i]) {
      reply.push_back(tokens.ids[i]);
    }
  }
  return tokenizer.decode(reply);
}

const std::vector<ChatMessage> kTalk = {
    {"user", "Hi <|im_end|>"},
    {"assistant", "Hello."},
    {"user", "So?"},
    {"assistant", "Well."}};

} // namespace

TEST_CASE("chat_text is what transformers makes of the template", "[data]") {
  const auto cases = golden_conversations();
  REQUIRE(cases.size() > 50);
  for (const auto& golden : cases) {
    const auto config = config_with(golden["template"]);
    CAPTURE(golden["name"], golden["messages"].dump());
    if (golden["name"] == "unknown") {
      CHECK_THROWS_WITH(
          recognise_chat_format(config, Tokenizer::bytes()),
          ContainsSubstring("none of the known formats; --chat-format takes chatml"));
      continue;
    }
    auto format = recognise_chat_format(config, Tokenizer::bytes());
    if (format.family == ChatFamily::harmony) {
      format.date = "2025-08-05";
    }
    if (golden["text"].is_null()) {
      CHECK_THROWS_WITH(
          chat_text(format, messages_of(golden["messages"]), golden["header"]),
          ContainsSubstring("no system message") && ContainsSubstring("--system TEXT"));
      continue;
    }
    CHECK(
        chat_text(format, messages_of(golden["messages"]), golden["header"]) == golden["text"]);
  }
}

TEST_CASE("encode_chat gives the ids and the replies that transformers gives", "[data]") {
  const auto trained = Tokenizer::load(MOE_TEST_FIXTURES "/tokenizer/trained.json");
  int compared = 0;
  for (const auto& golden : golden_conversations()) {
    if (!golden.contains("ids")) {
      continue;
    }
    const auto tokenizer =
        trained.with_added_tokens(words_of<std::string>(golden["tokens"].get<std::string>()));
    const auto format = recognise_chat_format(config_with(golden["template"]), tokenizer);
    CAPTURE(golden["name"], golden["text"]);
    const auto tokens =
        encode_chat(format, tokenizer, messages_of(golden["messages"]), golden["header"]);
    CHECK(tokens.ids == words_of<int32_t>(golden["ids"]));
    CHECK(tokens.is_reply == words_of<bool>(golden["is_reply"]));
    ++compared;
  }
  CHECK(compared > 20);
}

TEST_CASE("Mistral: which system message a template writes of its own", "[data]") {
  const auto text_of = [](const std::string& beginning) {
    const auto format = recognise_chat_format(
        config_with(
            beginning + "{{ '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}"
                        "{{ '[INST]' + message['content'] + '[/INST]' }}"),
        Tokenizer::bytes());
    return chat_text(format, {{"user", "Hi"}}, true);
  };
  const auto [beginning, system] = GENERATE(table<std::string, std::string>({
      {"{% set default_system_message = 'Be \\'so\\'.' ~ \"\\\\n\" -%}", "Be 'so'.\\n"},
      {"{% set system_message='A' + '\\tB' %}", "A\tB"},
      {"{# {% set system_message = 'A' %} #}{% set system_message = \"B\" %}", "B"},
  }));
  CHECK(
      text_of(beginning) == "<s>[SYSTEM_PROMPT]" + system + "[/SYSTEM_PROMPT][INST]Hi[/INST]");
  CHECK(text_of("{% set system_message = messages[0] %}") == "<s>[INST]Hi[/INST]");
  const std::string unknown = GENERATE(
      "{% set default_system_message = 'Now: ' + today %}",
      "{% set default_system_message = 'A' + %}",
      "{% set default_system_message = 'A",
      "{% set default_system_message = 'A\\",
      "{% set default_system_message = '\\u2019' %}",
      "{% set default_system_message =",
      "{% set default_system_message = '' %}",
      "{% if x %}{% set system_message = 'A' %}{% else %}{% set system_message = 'B' %}{% "
      "endif %}",
      "{% set system_message = 'A' | upper %}",
      "{% set system_message = strftime_now('%Y') %}",
      "{{ '[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT]' }}");
  CAPTURE(unknown);
  CHECK_THROWS_WITH(text_of(unknown), ContainsSubstring("the chat template writes then"));
}

TEST_CASE("Mistral: settings of a template that are not understood are refused", "[data]") {
  const auto config = config_with("{{ '[INST]' }}{{ '[MODEL_SETTINGS]' + settings }}");
  CHECK_THROWS_WITH(
      recognise_chat_format(config, Tokenizer::bytes()),
      ContainsSubstring("[MODEL_SETTINGS] are not understood"));
}

TEST_CASE(
    "Mistral: without a template its tokens say how the system message is written", "[data]") {
  const auto tokenizer =
      tokenizer_with({"<s>", "[INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"});
  const auto format = recognise_chat_format(config_with(""), tokenizer);
  CHECK(
      chat_text(format, {{"system", "Be brief."}, {"user", "Hi"}}, true) ==
      "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]");
  // What a message says is text, also in the system message.
  const auto tokens =
      encode_chat(format, tokenizer, {{"system", "[INST]"}, {"user", "[INST]"}}, true);
  CHECK(std::count(tokens.ids.begin(), tokens.ids.end(), *tokenizer.token_id("[INST]")) == 1);
  CHECK_THROWS_WITH(
      encode_chat(format, tokenizer_with({"<s>"}), {{"system", "a"}, {"user", "b"}}, true),
      ContainsSubstring("the tokenizer has no token [SYSTEM_PROMPT]"));
}

TEST_CASE("encode_chat: control tokens are tokens, what a message says is text", "[data]") {
  const auto tokenizer = tokenizer_with({"<|im_start|>", "<|im_end|>"});
  const auto format = recognise_chat_format({}, tokenizer);
  CHECK(format.family == ChatFamily::chatml);
  const auto tokens = encode_chat(format, tokenizer, kTalk, /*add_reply_header=*/false);
  CHECK(tokenizer.decode(tokens.ids) == chat_text(format, kTalk, false));
  CHECK(
      std::count(tokens.ids.begin(), tokens.ids.end(), *tokenizer.token_id("<|im_end|>")) == 4);
  CHECK(reply_text(tokens, tokenizer) == "Hello.<|im_end|>Well.<|im_end|>");
  CHECK(end_of_reply_ids(format, tokenizer) == std::vector{*tokenizer.token_id("<|im_end|>")});
}

TEST_CASE("encode_chat: replies of the other families", "[data]") {
  const auto [name, reply] = GENERATE(table<std::string, std::string>({
      {"llama2", " Hello. </s> Well. </s>"},
      {"llama3", "Hello.<|eot_id|>Well.<|eot_id|>"},
      {"llama4", "Hello.<|eot|>Well.<|eot|>"},
      {"mistral", "Hello.</s>Well.</s>"},
      {"harmony",
       "<|channel|>final<|message|>Hello.<|end|><|channel|>final<|message|>Well.<|return|>"},
  }));
  CAPTURE(name);
  const auto tokenizer = tokenizer_with(
      {"<s>",
       "</s>",
       "<|start_header_id|>",
       "<|end_header_id|>",
       "<|eot_id|>",
       "<|header_start|>",
       "<|header_end|>",
       "<|eot|>",
       "<|start|>",
       "<|message|>",
       "<|channel|>",
       "<|end|>",
       "<|return|>"});
  const auto format = named_chat_format(name, config_with(""));
  const auto tokens = encode_chat(format, tokenizer, kTalk, /*add_reply_header=*/false);
  CHECK(tokenizer.decode(tokens.ids) == chat_text(format, kTalk, false));
  CHECK(reply_text(tokens, tokenizer) == reply);
  CHECK(end_of_reply_ids(format, tokenizer).size() >= 1);
}

TEST_CASE("A chat format needs its tokens and turns that it has", "[data]") {
  const auto format = named_chat_format("chatml", {});
  CHECK_THROWS_WITH(
      encode_chat(format, Tokenizer::bytes(), kTalk, true),
      ContainsSubstring("the tokenizer has no token <|im_start|>"));
  CHECK_THROWS_WITH(
      chat_text(format, {{"robot", "x"}}, true), ContainsSubstring("the role \"robot\""));
  CHECK_THROWS_WITH(
      chat_text(named_chat_format("mistral", {}), {{"assistant", "x"}}, true),
      ContainsSubstring("must alternate"));
  CHECK_THROWS_WITH(named_chat_format("vicuna", {}), ContainsSubstring("vicuna is not known"));
  CHECK_THROWS_WITH(
      recognise_chat_format({}, Tokenizer::bytes()), ContainsSubstring("no chat template"));
}

TEST_CASE("A folder of a base model becomes one that chats in ChatML", "[data]") {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json", R"({"eos_token": "<|endoftext|>", "other": [1]})");
  // Of the ids, only 256 is that of a token; 257 and 258 become tokens.
  folder.write("generation_config.json", R"({"eos_token_id": [256, 257, 258], "top_k": 7})");
  const auto base = Tokenizer::bytes();
  const auto tokenizer = with_chatml_tokens(base);
  CHECK(tokenizer.vocab_size() == 259);
  CHECK(tokenizer.token_id("<|im_start|>") == 257);
  CHECK(tokenizer.token_id("<|im_end|>") == 258);
  CHECK(tokenizer.end_of_text() == base.end_of_text());
  CHECK(with_chatml_tokens(tokenizer).to_json() == tokenizer.to_json());
  CHECK(tokenizer.encode_ordinary("<|im_end|>") == base.encode_ordinary("<|im_end|>"));

  tokenizer.save(folder.path() / "tokenizer.json");
  write_chatml_template(folder.path(), tokenizer);
  const auto config = read_tokenizer_config(folder.path());
  const auto format = recognise_chat_format(config, Tokenizer::load(folder.path()));
  CHECK(format.family == ChatFamily::chatml);
  CHECK(format.default_system.empty());
  CHECK_FALSE(format.thinking);
  const auto tokens = encode_chat(format, tokenizer, {{"user", "a"}}, true);
  CHECK(
      tokenizer.decode(tokens.ids) == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
  const auto object = [&](const char* name) {
    return json::parse(std::ifstream(folder.path() / name));
  };
  CHECK(object("tokenizer_config.json")["eos_token"] == "<|im_end|>");
  CHECK(object("tokenizer_config.json")["other"] == json({1}));
  CHECK(object("generation_config.json") == json{{"eos_token_id", {258, 256}}, {"top_k", 7}});
  write_chatml_template(folder.path(), tokenizer);
  CHECK(object("generation_config.json")["eos_token_id"] == json({258, 256}));
  CHECK_THROWS_WITH(
      write_chatml_template(folder.path(), base), ContainsSubstring("no token <|im_start|>"));
}
