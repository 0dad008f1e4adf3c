#include "moe/editing/peft_config.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

/// A configuration as PEFT 0.21 writes it, without its last brace.
const std::string kWritten = R"({
  "alora_invocation_tokens": null, "arrow_config": null, "auto_mapping": null,
  "base_model_name_or_path": "base", "bias": "none", "corda_config": null,
  "ensure_weight_tying": false, "eva_config": null, "exclude_modules": null,
  "inference_mode": true, "layer_replication": null, "layers_pattern": null,
  "layers_to_transform": null, "loftq_config": {}, "lora_dropout": 0.05, "megatron_config": null,
  "megatron_core": "megatron.core", "modules_to_save": null, "peft_type": "LORA",
  "qalora_group_size": 16, "revision": null, "task_type": "CAUSAL_LM",
  "trainable_token_indices": null, "use_dora": false, "use_qalora": false,
  "target_modules": ["q_proj", "o_proj"])";

PeftLoraConfig read(const std::string& more) {
  const TemporaryFolder folder;
  folder.write("adapter_config.json", kWritten + more + "}");
  return read_peft_lora_config(folder.path());
}

} // namespace

TEST_CASE("read_peft_lora_config: what PEFT writes", "[editing]") {
  const auto config = read(
      R"(, "r": 8, "lora_alpha": 16, "fan_in_fan_out": false, "init_lora_weights": true,
      "use_rslora": false, "rank_pattern": {}, "alpha_pattern": {}, "peft_version": "0.21.2",
      "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])");
  CHECK(config.rank == 8);
  CHECK(config.alpha == 16.0);
  CHECK_FALSE(config.rank_stabilized);
  CHECK_FALSE(config.fan_in_fan_out);
  CHECK(config.stacks_have_rows);
  CHECK(
      config.target_parameters ==
      std::vector<std::string>{"mlp.experts.gate_up_proj", "mlp.experts.down_proj"});
  CHECK(peft_scale(config, "model.layers.0.self_attn.q_proj") == 2.0);
  CHECK_FALSE(read(R"(, "r": 8, "lora_alpha": 16)").stacks_have_rows);
  CHECK_FALSE(read(R"(, "r": 8, "lora_alpha": 16, "peft_version": "0.18.1")").stacks_have_rows);
  CHECK(read(R"(, "r": 8, "lora_alpha": 16, "peft_version": "1.0")").stacks_have_rows);
}

TEST_CASE("peft_scale: patterns, and the root of the rank", "[editing]") {
  const auto config = read(
      R"(, "r": 4, "lora_alpha": 8.5, "use_rslora": true,
      "rank_pattern": {"self_attn.q_proj": 16, "layers.1.mlp.gate": 9},
      "alpha_pattern": {"q_proj": 2, "model.layers.0.self_attn.o_proj": 3})");
  CHECK(peft_rank(config, "model.layers.0.self_attn.q_proj") == 16);
  CHECK(peft_scale(config, "model.layers.0.self_attn.q_proj") == 2.0 / 4.0);
  CHECK(peft_scale(config, "model.layers.1.mlp.gate") == 8.5 / 3.0);
  CHECK(peft_scale(config, "model.layers.0.self_attn.o_proj") == 3.0 / 2.0);
  // Ends of names are whole parts of them.
  CHECK(peft_rank(config, "model.layers.11.mlp.gate") == 4);
  CHECK(peft_rank(config, "model.layers.0.self_attn.qq_proj") == 4);
  CHECK(peft_scale(config, "model.layers.10.self_attn.o_proj") == 8.5 / 2.0);
  CHECK_THROWS_WITH(
      peft_rank(
          read(R"(, "r": 4, "lora_alpha": 8, "rank_pattern": {"a.b": 2, "b": 3})"), "x.a.b"),
      ContainsSubstring("rank_pattern: several values for x.a.b"));
}

TEST_CASE("read_peft_lora_config refuses by name what it cannot merge", "[editing]") {
  const std::string sizes = R"(, "r": 8, "lora_alpha": 16)";
  const auto refuses = [](const std::string& more, const std::string& message) {
    CAPTURE(more);
    CHECK_THROWS_WITH(read(more), ContainsSubstring(message));
  };
  // A key twice is refused, so these come into a text without them.
  const auto refuses_instead =
      [](const std::string& key, const std::string& value, const std::string& message) {
        const TemporaryFolder folder;
        auto text = kWritten + R"(, "r": 8, "lora_alpha": 16})";
        const auto begin = text.find("\"" + key + "\": ") + key.size() + 4;
        const auto end = text.find_first_of(",}", begin);
        folder.write("adapter_config.json", text.replace(begin, end - begin, value));
        CAPTURE(key, value);
        CHECK_THROWS_WITH(
            read_peft_lora_config(folder.path()),
            ContainsSubstring("adapter_config.json") && ContainsSubstring(message));
      };
  refuses_instead("use_dora", "true", "'use_dora' is 'true'; what it changes cannot be merged");
  refuses_instead("use_qalora", "true", "'use_qalora'");
  refuses_instead("modules_to_save", R"(["lm_head"])", "'modules_to_save' is '[\"lm_head\"]'");
  refuses_instead("trainable_token_indices", "[3]", "'trainable_token_indices'");
  refuses_instead("layer_replication", "[[0]]", "'layer_replication'");
  refuses_instead("alora_invocation_tokens", "[3]", "'alora_invocation_tokens'");
  refuses_instead("ensure_weight_tying", "true", "'ensure_weight_tying'");
  refuses_instead("bias", "\"lora_only\"", "bias is '\"lora_only\"'; only \"none\"");
  refuses_instead("peft_type", "\"IA3\"", "peft_type is '\"IA3\"'; only \"LORA\"");
  refuses_instead("r", "0", "r is '0'; a rank is a whole number from 1");
  refuses_instead("r", "2.5", "r is '2.5'");
  refuses_instead("r", "99999999999999", "r is ");
  refuses_instead("lora_alpha", "\"16\"", "lora_alpha is ");
  refuses(R"(, "lora_alpha": 16)", "r is 'null'");
  refuses(R"(, "r": 8)", "lora_alpha is 'null'");
  refuses(sizes + R"(, "use_xlora": {"depth": 2})", "'use_xlora' is '{\"depth\":2}'");
  refuses(sizes + R"(, "use_x": 1)", "'use_x'");
  refuses(sizes + R"(, "lora_bias": true)", "'lora_bias'");
  refuses(sizes + R"(, "use_rslora": 1)", "use_rslora is '1'; true or false");
  refuses(sizes + R"(, "target_parameters": "experts")", "target_parameters is ");
  refuses(sizes + R"(, "target_parameters": [1])", "target_parameters is ");
  for (const std::string beginning : {"pissa", "pissa_niter_4", "olora", "loftq", "corda"}) {
    refuses(
        sizes + R"(, "init_lora_weights": ")" + beginning + "\"",
        "such a beginning changes the model's weights");
  }
  CHECK(read(sizes + R"(, "init_lora_weights": "gaussian")").rank == 8);
  for (const std::string key : {"rank_pattern", "alpha_pattern"}) {
    refuses(sizes + ", \"" + key + R"(": {".*q_proj": 8})", key + ": '.*q_proj' is a regular");
    refuses(sizes + ", \"" + key + R"(": {"": 8})", "is a regular expression");
    refuses(sizes + ", \"" + key + R"(": {"q_proj": "8"})", key + " is ");
    refuses(sizes + ", \"" + key + R"(": [8])", key + " is ");
  }
}
