#include "moe/data/chat/chat_format.h"

#include <fstream>
#include <nlohmann/json.hpp>

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
  std::ifstream file(std::string(MOE_TEST_FIXTURES) + "/chat/goldens.json");
  const auto cases = json::parse(file);
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
    CHECK(
        chat_text(format, messages_of(golden["messages"]), golden["header"]) == golden["text"]);
  }
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
  folder.write("generation_config.json", R"({"eos_token_id": 256, "top_k": 7})");
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
      write_chatml_template(folder.path(), base), ContainsSubstring("no token <|im_end|>"));
}
