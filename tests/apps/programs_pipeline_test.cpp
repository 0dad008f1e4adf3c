#include <algorithm>
#include <cmath>

#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

namespace {

using nlohmann::json;

std::vector<std::string> keys_of(const json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) {
    keys.push_back(key);
  }
  return keys;
}

/// The text of a result, which must be one line of JSON.
json json_of(const ProgramResult& result) {
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  REQUIRE(result.out.find('\n') == result.out.size() - 1);
  return json::parse(result.out);
}

std::string generated(const std::filesystem::path& model, Arguments flags) {
  flags.insert(flags.begin(), {model.string(), "--threads=1"});
  const auto result = run("moe-generate", flags);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

bool is_utf8(const std::string& text) {
  try {
    return !json(text).dump().empty();
  } catch (const json::type_error&) {
    return false;
  }
}

const std::vector<std::string> score_keys = {
    "bits_per_byte", "bytes", "loss", "loss_stderr", "perplexity", "tokens"};

void check_score(const json& score) {
  const double loss = score["loss"];
  CHECK(loss > 1.0);
  CHECK(loss < 6.0);
  CHECK_THAT(score["perplexity"].get<double>(), WithinRel(std::exp(loss), 1e-9));
  CHECK_THAT(
      score["bits_per_byte"].get<double>(),
      WithinRel(
          loss / std::log(2.0) * score["tokens"].get<double>() / score["bytes"].get<double>(),
          1e-3));
  CHECK(score["loss_stderr"].get<double>() > 0.0);
}

} // namespace

TEST_CASE("A run trains and lies on disk as documented", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  const auto result = train(out);
  CHECK(result.out.empty());
  CHECK_THAT(result.err, ContainsSubstring("step 10/10"));
  CHECK_THAT(result.err, ContainsSubstring("step 10: validation loss "));
  CHECK(result.err.find('\033') == std::string::npos);

  auto names = names_in(out);
  REQUIRE(names.size() == 7);
  CHECK(names[4].starts_with("events.out.tfevents."));
  CHECK(std::filesystem::file_size(out / names[4]) > 1000);
  names.erase(names.begin() + 4);
  CHECK(
      names == std::vector<std::string>{
                   "best", "checkpoints", "config.toml", "data", "last", "metrics.jsonl"});
  CHECK(
      names_in(out / "checkpoints") ==
      std::vector<std::string>{
          "step-00000004", "step-00000005", "step-00000008", "step-00000010"});
  CHECK(std::filesystem::read_symlink(out / "last") == "checkpoints/step-00000010");
  CHECK(
      names_in(out / "last") == std::vector<std::string>{
                                    "config.json",
                                    "generation_config.json",
                                    "model.safetensors",
                                    "tokenizer.json",
                                    "tokenizer_config.json",
                                    "training_state.json",
                                    "training_state.safetensors"});
  CHECK(json::parse(read_bytes(out / "last" / "config.json"))["model_type"] == "qwen3_moe");

  const auto lines = metrics_of(out);
  REQUIRE(lines.size() == 10);
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto& line = lines[i];
    CAPTURE(line.dump());
    CHECK(line["step"] == i + 1);
    CHECK(line["tokens"] == (i + 1) * 4 * 32);
    for (const char* key : {"loss", "lr", "grad_norm", "tokens_per_s"}) {
      CHECK(line.at(key).get<double>() > 0.0);
    }
    CHECK(line.contains("val_loss") == (line["step"] == 5 || line["step"] == 10));
    REQUIRE(line["moe"].size() == 2);
    const auto& layer = line["moe"][1];
    CHECK(layer["layer"] == 1);
    for (const char* key : {"max_violation", "entropy", "dead", "dropped", "confidence"}) {
      CHECK(layer.at(key).get<double>() >= 0.0);
    }
    CHECK(layer["load"].size() == 4);
    CHECK(layer.contains("similarity") == line.contains("val_loss"));
    CHECK(layer.contains("churn") == (line["step"] == 10)); // since the evaluation before
  }
  CHECK(lines.back()["loss"] < lines.front()["loss"]);
  CHECK(temporaries_in(out).empty());

  // Only the last checkpoints and the best one are kept.
  train(folder.path() / "few", {"--checkpoint-every=1", "--keep-checkpoints=2"});
  CHECK(names_in(folder.path() / "few" / "checkpoints").size() <= 3);
}

TEST_CASE(
    "moe-evaluate prints a table, or one JSON object with the same numbers", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(out, {"--steps=5"});
  const Arguments flags = {
      out.string(),
      "--data",
      text_source("en"),
      "--data",
      text_source("de"),
      "--threads=1",
      "--max-tokens=1000"};
  auto json_flags = flags;
  json_flags.push_back("--json");

  const auto table = run("moe-evaluate", flags);
  REQUIRE(table.exit_code == 0);
  CHECK(table.err.empty());
  for (const char* text :
       {"bits/byte", "\nen ", "\nde ", "\ntotal ", "max violation", "\n1 "}) {
    CHECK_THAT(table.out, ContainsSubstring(text));
  }

  const auto result = json_of(run("moe-evaluate", json_flags));
  auto expected_keys = score_keys;
  expected_keys.insert(expected_keys.begin() + 2, "domains");
  expected_keys.insert(expected_keys.begin() + 6, "routing");
  CHECK(keys_of(result) == expected_keys);
  check_score(result);
  REQUIRE(keys_of(result["domains"]) == std::vector<std::string>{"de", "en"});
  for (const auto& [name, score] : result["domains"].items()) {
    CHECK(keys_of(score) == score_keys);
    check_score(score);
  }
  CHECK(
      result["tokens"].get<int64_t>() == result["domains"]["de"]["tokens"].get<int64_t>() +
                                             result["domains"]["en"]["tokens"].get<int64_t>());
  REQUIRE(result["routing"].size() == 2);
  for (const auto& layer : result["routing"]) {
    CHECK(
        keys_of(layer) ==
        std::vector<std::string>{"dead", "entropy", "layer", "load", "max_violation"});
    REQUIRE(layer["load"].size() == 4);
    double sum = 0.0;
    for (const double share : layer["load"]) {
      sum += share;
    }
    CHECK_THAT(sum, WithinAbs(1.0, 1e-9));
  }

  // A checkpoint by name is the folder of that checkpoint.
  const auto few_tokens = [&](const Arguments& model) {
    Arguments few = {"--data", text_source("en"), "--threads=1", "--json", "--max-tokens=500"};
    few.insert(few.begin(), model.begin(), model.end());
    return json_of(run("moe-evaluate", few));
  };
  const auto by_name = few_tokens({out.string(), "--checkpoint=4"});
  CHECK(by_name == few_tokens({(out / "checkpoints" / "step-00000004").string()}));
  CHECK(by_name["loss"] != result["domains"]["en"]["loss"]);
}

TEST_CASE("moe-generate continues a prompt", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(out);
  const std::string prompt = "Größe: ";

  // The model of ten steps writes any bytes: a good test of whole characters.
  const auto sampled = generated(out, {"--prompt", prompt, "--seed=7", "--max-new-tokens=40"});
  CHECK(sampled.starts_with(prompt));
  CHECK(sampled.ends_with("\n"));
  CHECK(is_utf8(sampled));
  CHECK(sampled == generated(out, {"--prompt", prompt, "--seed=7", "--max-new-tokens=40"}));
  CHECK(sampled != generated(out, {"--prompt", prompt, "--seed=8", "--max-new-tokens=40"}));

  const Arguments greedy = {
      "--prompt", "The ", "--temperature=0", "--max-new-tokens=12", "--json"};
  auto with_input = greedy;
  with_input[1] = "-";
  with_input.insert(with_input.begin(), {out.string(), "--threads=1"});
  const auto first = json::parse(generated(out, greedy));
  const auto second = json_of(run("moe-generate", with_input, {.input = "The "}));
  CHECK(
      keys_of(first) == std::vector<std::string>{
                            "decode_tokens_per_s",
                            "finish",
                            "ids",
                            "new_tokens",
                            "prefill_tokens_per_s",
                            "prompt",
                            "prompt_tokens",
                            "text"});
  CHECK(first["prompt"] == "The ");
  CHECK(first["prompt_tokens"] == 4);
  CHECK(first["new_tokens"] == 12);
  CHECK(first["ids"].size() == 12);
  CHECK(first["finish"] == "length");
  for (const char* key : {"prompt", "ids", "text"}) {
    CHECK(first[key] == second[key]);
  }

  // --stop ends the text before it.
  const std::string text = first["text"];
  const std::string stop = text.substr(3, 2);
  auto stop_flags = greedy;
  stop_flags.insert(stop_flags.end(), {"--stop", stop});
  const auto stopped = json::parse(generated(out, stop_flags));
  CHECK(stopped["finish"] == "stop");
  CHECK(stopped["text"] == text.substr(0, text.find(stop)));

  // The end of the context is said.
  const auto full =
      run("moe-generate",
          {out.string(), "--prompt=The ", "--threads=1", "--seed=3", "--ignore-end-of-text"});
  CHECK(full.exit_code == 0);
  CHECK_THAT(full.err, ContainsSubstring("context is full"));

  // --interactive answers line by line, and goes on after a prompt that is too long.
  const auto answers =
      run("moe-generate",
          {out.string(), "--interactive", "--threads=1", "--max-new-tokens=3"},
          {.input = "One\n" + std::string(80, 'x') + "\nTwo\n"});
  CHECK(answers.exit_code == 0);
  CHECK_THAT(answers.err, ContainsSubstring("80 tokens leave no room"));
  CHECK(std::count(answers.out.begin(), answers.out.end(), '\n') >= 2);
}

TEST_CASE("A tokenizer trained on the text travels with the run", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(out, {"--tokenizer=bpe:300", "--mix", "en=1", "--mix", "de=3", "--steps=3"});
  CHECK(json::parse(read_bytes(out / "last" / "config.json"))["vocab_size"] == 300);
  const auto result =
      json::parse(generated(out, {"--prompt=Wasser und Brot", "--max-new-tokens=4", "--json"}));
  CHECK(result["prompt_tokens"].get<int>() < 15);
}

TEST_CASE("moe-generate continues ids, with and without a tokenizer", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run");
  const auto model = folder.path() / "run" / "best";
  const Arguments flags = {
      "--prompt-ids",
      "72,105",
      "--max-new-tokens",
      "4",
      "--temperature",
      "0",
      "--json",
      "--ignore-end-of-text"};
  const auto with_text = json::parse(generated(model, flags));
  CHECK(with_text["ids"].size() == 4);
  CHECK(with_text["prompt_tokens"] == 2);
  const auto said = json::parse(generated(
      model,
      {"--prompt",
       "Hi",
       "--max-new-tokens",
       "4",
       "--temperature",
       "0",
       "--json",
       "--ignore-end-of-text"}));
  CHECK(with_text["ids"] == said["ids"]);
  CHECK(with_text["text"] == said["text"]);
  std::filesystem::remove(std::filesystem::canonical(model) / "tokenizer.json");
  const auto without = json::parse(generated(model, flags));
  CHECK(without["ids"] == with_text["ids"]);
  CHECK_FALSE(without.contains("text"));
  CHECK_THAT(
      error_of("moe-generate", {model.string(), "--prompt", "Hi"}, 1),
      ContainsSubstring("tokenizer.json"));
}

TEST_CASE("moe-generate --chat refuses a model that knows no turns", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run");
  const auto model = (folder.path() / "run" / "best").string();
  CHECK_THAT(
      error_of("moe-generate", {model, "--chat", "--prompt", "Hi"}, 1),
      ContainsSubstring("moe-convert IN OUT --chat-format chatml"));
  CHECK_THAT(
      error_of("moe-generate", {model, "--chat", "--chat-format=x", "--prompt", "Hi"}, 1),
      ContainsSubstring("chat_format: x is not known"));
  CHECK_THAT(
      error_of("moe-generate", {model, "--system", "x", "--prompt", "Hi"}, 2),
      ContainsSubstring("only with --chat"));
  // Llama 2's turns are written as text where there are no tokens for them, but </s> is needed.
  CHECK_THAT(
      error_of("moe-generate", {model, "--chat", "--chat-format=llama2", "--prompt", "Hi"}, 1),
      ContainsSubstring("the tokenizer has no token <s>"));
}

TEST_CASE(
    "moe-train --from goes on with a model, and --freeze keeps what it names", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "first");
  const auto first = (folder.path() / "first").string();
  const auto second = (folder.path() / "second").string();
  const Arguments flags = {
      "--from",
      first,
      "--out",
      second,
      "--data",
      text_source("en"),
      "--steps",
      "3",
      "--batch-size",
      "2",
      "--sequence-length",
      "16",
      "--threads",
      "1"};
  auto frozen = flags;
  frozen.insert(frozen.end(), {"--only", "experts=1", "--eval-every", "0"});
  const auto result = run("moe-train", frozen);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const auto model = json::parse(run("moe-inspect", {second, "--json"}).out);
  const auto origin = json::parse(run("moe-inspect", {first, "--json"}).out);
  CHECK(model["options"] == origin["options"]);
  CHECK(
      read_bytes(folder.path() / "second" / "last" / "tokenizer.json") ==
      read_bytes(folder.path() / "first" / "best" / "tokenizer.json"));
  // The recorded configuration repeats the run; another model or tokenizer is refused.
  const auto config = (folder.path() / "second" / "config.toml").string();
  const auto again =
      run("moe-train", {"--config", config, "--out", (folder.path() / "third").string()});
  INFO(again.err);
  CHECK(again.exit_code == 0);
  auto other = flags;
  other[3] = (folder.path() / "fourth").string();
  other.insert(other.end(), {"--num-layers", "7"});
  CHECK_THAT(
      error_of("moe-train", other, 2), ContainsSubstring("num_layers: 7 is not possible"));
  other.back() = "bytes";
  other[other.size() - 2] = "--tokenizer";
  CHECK_THAT(error_of("moe-train", other, 2), ContainsSubstring("--tokenizer and --from"));
  other[other.size() - 2] = "--config";
  other.back() = folder.write("bytes.toml", "tokenizer = \"bytes\"\n");
  CHECK_THAT(
      error_of("moe-train", other, 2),
      ContainsSubstring("tokenizer in " + other.back() + " and --from"));
}

TEST_CASE("moe-train --from takes options of many values, too", "[programs]") {
  const TemporaryFolder folder;
  const auto first = (folder.path() / "first").string();
  train(first, {"--steps=1", "--layer-rope-theta=100,200"});
  const auto second = (folder.path() / "second").string();
  const auto result =
      run("moe-train",
          {"--from",
           first,
           "--out",
           second,
           "--data",
           text_source("en"),
           "--steps=1",
           "--batch-size=1",
           "--sequence-length=16",
           "--threads=1"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(
      read_bytes(folder.path() / "second" / "config.toml"),
      ContainsSubstring("\nlayer_rope_theta = [100.0, 200.0]\n"));
  const auto options = json::parse(run("moe-inspect", {second, "--json"}).out)["options"];
  CHECK(options["layer_rope_theta"] == json({100.0, 200.0}));
}

TEST_CASE("moe-train learns replies of conversations", "[programs]") {
  const TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    lines += R"({"messages": [{"role": "user", "content": "Say a."},)"
             R"( {"role": "assistant", "content": "aaaa"}]})"
             "\n";
  }
  const auto data = folder.write("chat.jsonl", lines);
  const auto out = (folder.path() / "run").string();
  auto flags = training_flags(out);
  flags.insert(flags.end(), {"--chat-format", "llama2"});
  // A tokenizer of bytes lacks the format's tokens, and says so.
  auto bytes = flags;
  bytes.insert(bytes.end(), {"--data", "chat=" + data});
  CHECK_THAT(
      error_of("moe-train", bytes, 1), ContainsSubstring("the tokenizer has no token <s>"));

  // A base model gets the tokens of ChatML, learns to reply, and stops where a turn ends.
  const auto base = folder.path() / "base";
  train(base);
  const auto ready = (folder.path() / "ready").string();
  const Arguments make_ready = {base.string(), ready, "--chat-format", "chatml"};
  const auto converted = run("moe-convert", make_ready);
  INFO(converted.err);
  REQUIRE(converted.exit_code == 0);
  CHECK_THAT(
      error_of("moe-convert", {ready, ready + "2", "--chat-format", "chatml"}, 1),
      ContainsSubstring("has a chat template"));
  const Arguments chat = {
      "--out=" + out,
      "--from=" + ready,
      "--data=" + data,
      "--steps=60",
      "--batch-size=4",
      "--sequence-length=28",
      "--lr=0.02",
      "--eval-every=0",
      "--threads=1"};
  const auto trained = run("moe-train", chat);
  INFO(trained.err);
  REQUIRE(trained.exit_code == 0);
  CHECK_THAT(
      trained.err, ContainsSubstring("conversations are longer than sequence_length 28"));
  auto longer = chat;
  longer[0] += "2";
  longer[5] = "--sequence-length=64";
  const auto whole = run("moe-train", longer);
  REQUIRE(whole.exit_code == 0);
  CHECK_THAT(whole.err, ContainsSubstring("rows of 64 tokens"));
  CHECK_THAT(whole.err, !ContainsSubstring("are longer than"));
  CHECK(
      read_bytes(out + "2/last/tokenizer_config.json") ==
      read_bytes(ready + "/tokenizer_config.json"));
  const auto scores =
      run("moe-evaluate", {out + "2", "--data", "chat=" + data, "--threads=1", "--json"});
  INFO(scores.err);
  REQUIRE(scores.exit_code == 0);
  CHECK(json::parse(scores.out)["tokens"] == 60 * 5); // four letters and the end of the turn
  CHECK(json::parse(scores.out)["bytes"] == 60 * 4);
  CHECK(json::parse(scores.out)["loss"] < 0.1);
  const auto silent = folder.write(
      "silent.jsonl",
      R"({"messages": [{"role": "user", "content": "Say a."}]})"
      "\n");
  auto nothing = chat;
  nothing[0] += "3";
  nothing[2] = "--data=" + silent;
  CHECK_THAT(
      last_error_line("moe-train", run("moe-train", nothing).err),
      ContainsSubstring("document 1: there is nothing to learn, no turn is the assistant's"));
  folder.write(
      "silent.jsonl",
      R"({"messages": [{"role": "user", "content": "Say a."},)"
      R"( {"role": "assistant", "content": ""}]})"
      "\n");
  CHECK_THAT(
      last_error_line("moe-train", run("moe-train", nothing).err),
      ContainsSubstring("nothing to learn, what the assistant says is empty"));
  const auto reply = run(
      "moe-generate",
      {out + "2", "--chat", "--prompt", "Say a.", "--temperature=0", "--json", "--threads=1"});
  INFO(reply.err);
  REQUIRE(reply.exit_code == 0);
  const auto generation = json::parse(reply.out);
  CHECK(generation["text"] == "aaaa");
  CHECK(generation["finish"] == "end_of_text");

  // A conversation outlives the context: its oldest turns are forgotten. An empty line is none.
  std::string typed;
  for (int i = 0; i < 12; ++i) {
    typed += "Say a.\n\n";
  }
  const auto talk =
      run("moe-generate",
          {out + "2", "--chat", "--interactive", "--temperature=0", "--json", "--threads=1"},
          {.input = typed});
  CHECK(talk.exit_code == 0);
  CHECK(std::count(talk.out.begin(), talk.out.end(), '\n') == 12);
  CHECK_THAT(talk.err, ContainsSubstring("the oldest turns are forgotten"));
  CHECK_THAT(talk.err, !ContainsSubstring("error"));
}
