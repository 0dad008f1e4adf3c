#include "moe/checkpoint/state_dict.h"

#include <torch/nn/modules/batchnorm.h>

#include "moe/checkpoint/safetensors_folder.h"
#include "moe/error.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using moe::testing::SameBits;

namespace {

// A module with what modules may have: children, buffers, views, tied and strange tensors.
struct SampleImpl : torch::nn::Module {
  explicit SampleImpl(int64_t width = 3) {
    linear = register_module("linear", torch::nn::Linear(width, 2));
    norm = register_module("norm", torch::nn::BatchNorm1d(2));
    base = torch::randn({6, 4});
    rows = register_parameter("rows", base.slice(/*dim=*/0, 1, 3));
    columns = register_parameter("columns", base.t().slice(/*dim=*/0, 0, 2));
    scalar = register_buffer("scalar", torch::tensor(7, torch::kInt64));
    empty = register_buffer("empty", torch::empty({0, 5}));
  }
  torch::nn::Linear linear{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::Tensor base, rows, columns, scalar, empty;
};
TORCH_MODULE(Sample);

struct TiedImpl : torch::nn::Module {
  explicit TiedImpl(bool tied) {
    first = register_parameter("first", torch::randn({4, 3}));
    second = register_parameter("second", tied ? first : torch::randn({4, 3}));
  }
  torch::Tensor first, second;
};
TORCH_MODULE(Tied);

void check_same(const torch::nn::Module& actual, const torch::nn::Module& expected) {
  const auto tensors = state_dict(expected);
  const auto found = state_dict(actual);
  REQUIRE(found.keys() == tensors.keys());
  for (const auto& item : tensors) {
    CAPTURE(item.key());
    CHECK_THAT(found[item.key()], SameBits(item.value()));
  }
}

} // namespace

TEST_CASE("save_safetensors and load_safetensors restore any module", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  Sample saved;
  saved->norm->forward(torch::randn({5, 2}));
  save_safetensors(*saved, path);
  Sample loaded;
  loaded->scalar.fill_(1);
  const auto report = load_safetensors(*loaded, path);
  check_same(*loaded, *saved);
  CHECK(report.loaded.size() == 11);
  CHECK(report.missing.empty());
  CHECK(report.unexpected.empty());
  CHECK(report.converted.empty());
  CHECK(loaded->linear->weight.requires_grad());
  CHECK(loaded->linear->weight.is_leaf());
}

TEST_CASE("Only the elements of a view are written", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  const auto base = torch::arange(1'000'000, torch::kFloat32);
  StateDict tensors;
  tensors.insert("view", base.slice(/*dim=*/0, 10, 20, /*step=*/2));
  tensors.insert("expanded", torch::ones({1}).expand({3}));
  write_state_dict(tensors, path);
  CHECK(std::filesystem::file_size(path) < 400);
  const auto read = read_state_dict(path);
  CHECK_THAT(read["view"], SameBits(torch::tensor({10.F, 12.F, 14.F, 16.F, 18.F})));
  CHECK_THAT(read["expanded"], SameBits(torch::ones({3})));
}

TEST_CASE("Every type comes back bit by bit", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto type = GENERATE(
      torch::kBool,
      torch::kUInt8,
      torch::kInt8,
      torch::kUInt16,
      torch::kInt16,
      torch::kUInt32,
      torch::kInt32,
      torch::kUInt64,
      torch::kInt64,
      torch::kFloat16,
      torch::kBFloat16,
      torch::kFloat32,
      torch::kFloat64,
      torch::kComplexFloat,
      torch::kFloat8_e5m2,
      torch::kFloat8_e4m3fn);
  CAPTURE(torch::toString(type));
  torch::manual_seed(1);
  auto bytes = torch::randint(0, type == torch::kBool ? 2 : 256, {24}, torch::kUInt8);
  StateDict tensors;
  tensors.insert("a", torch::zeros({1}, torch::kUInt8)); // unaligned neighbours
  tensors.insert("b", bytes.view(type));
  write_state_dict(tensors, folder.path() / "x.safetensors");
  const auto read = read_state_dict(folder.path() / "x.safetensors");
  CHECK(read["b"].scalar_type() == type);
  CHECK(read["b"].sizes() == tensors["b"].sizes());
  CHECK(read["b"].view(torch::kUInt8).equal(bytes));
}

TEST_CASE(
    "read_state_dict copies what is not aligned and never changes the file", "[checkpoint]") {
  const TemporaryFolder folder;
  const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                             R"("b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  std::string bytes{static_cast<char>(header.size()), 0, 0, 0, 0, 0, 0, 0};
  bytes += header + '\x05' + std::string("\0\0\x80\x3f\0\0\0\x40", 8);
  const auto path = folder.write("x.safetensors", bytes);
  auto read = read_state_dict(path);
  CHECK_THAT(read["b"], SameBits(torch::tensor({1.F, 2.F})));
  read["a"].fill_(9);
  CHECK(read["a"].item<int>() == 9);
  CHECK(folder.read("x.safetensors") == bytes);
}

TEST_CASE(
    "A strict load names everything that does not fit and changes nothing", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  StateDict tensors = state_dict(*Sample());
  tensors.erase("norm.weight");
  tensors.erase("rows");
  tensors.insert("other", torch::ones({2}));
  tensors["linear.weight"] = torch::ones({3, 2});
  tensors["scalar"] = torch::tensor(1.5F);
  write_state_dict(tensors, path);
  Sample module;
  const auto before = module->linear->bias.clone();
  CHECK_THROWS_WITH(
      load_safetensors(*module, path),
      ContainsSubstring(path.string() + ": does not fit the module") &&
          ContainsSubstring("missing: rows, norm.weight") &&
          ContainsSubstring("unexpected: 'other'") &&
          ContainsSubstring("linear.weight [3, 2] instead of [2, 3]") &&
          ContainsSubstring("scalar (no conversion from F32 to Long)"));
  CHECK_THAT(module->linear->bias, SameBits(before));

  LoadOptions lenient;
  lenient.strict = false;
  CHECK_THROWS_WITH(
      load_safetensors(*module, path, lenient), ContainsSubstring("linear.weight"));
  CHECK_THAT(module->linear->bias, SameBits(before));
  tensors.erase("linear.weight");
  tensors.erase("scalar");
  write_state_dict(tensors, path);
  const auto report = load_safetensors(*module, path, lenient);
  CHECK(
      report.missing ==
      std::vector<std::string>{"rows", "linear.weight", "norm.weight", "scalar"});
  CHECK(report.unexpected == std::vector<std::string>{"other"});
  CHECK_THAT(module->linear->bias, SameBits(tensors["linear.bias"]));
}

TEST_CASE("Types are converted where no value can be misread", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  Sample saved;
  SaveOptions half;
  half.dtype = torch::kBFloat16;
  half.metadata = {{"note", "x"}};
  save_safetensors(*saved, path, half);
  const SafetensorsFile file(path);
  CHECK(file.find("linear.weight")->type == ElementType::bf16);
  CHECK(file.find("scalar")->type == ElementType::i64);
  CHECK(file.metadata().at("note") == "x");

  Sample loaded;
  loaded->to(torch::kFloat64);
  const auto report = load_safetensors(*loaded, path);
  CHECK(report.converted.size() == 11); // to() has turned the two integers, too
  CHECK(report.converted[0] == "rows: BF16 to Double");
  CHECK_THAT(
      loaded->linear->weight,
      SameBits(saved->linear->weight.detach().to(torch::kBFloat16).to(torch::kFloat64)));
  LoadOptions exact;
  exact.convert = false;
  CHECK_THROWS_WITH(
      load_safetensors(*loaded, path, exact), ContainsSubstring("no conversion from BF16"));

  save_safetensors(*loaded, path); // with F64 for the integers
  CHECK(load_safetensors(*saved, path).converted.size() == 11);
  CHECK(saved->scalar.item<int64_t>() == 7);

  StateDict integers = state_dict(*saved);
  integers["scalar"] = torch::tensor(int64_t{7}, torch::kInt64).to(torch::kUInt8);
  write_state_dict(integers, path);
  CHECK(
      load_safetensors(*saved, path).converted ==
      std::vector<std::string>{"scalar: U8 to Long"});
  saved->scalar.set_data(torch::zeros({}, torch::kInt8));
  integers["scalar"] = torch::tensor(int64_t{300}, torch::kInt64);
  write_state_dict(integers, path);
  CHECK_THROWS_WITH(load_safetensors(*saved, path), ContainsSubstring("from I64 to Char"));
}

TEST_CASE("Tied tensors are stored once and come back tied or not", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  Tied tied(true);
  save_safetensors(*tied, path);
  const SafetensorsFile file(path);
  CHECK(file.tensors().size() == 1);
  CHECK(file.metadata().at("second") == "first"); // as safetensors.torch.save_model notes it

  Tied again(true);
  load_safetensors(*again, path);
  CHECK_THAT(again->second, SameBits(tied->first));
  CHECK(again->first.data_ptr() == again->second.data_ptr());
  Tied apart(false);
  load_safetensors(*apart, path);
  CHECK_THAT(apart->first, SameBits(tied->first));
  CHECK_THAT(apart->second, SameBits(tied->first));

  apart->second.data().add_(1);
  save_safetensors(*apart, path);
  CHECK_THROWS_WITH(load_safetensors(*again, path), ContainsSubstring("tied in the module"));
  CHECK_THAT(again->first, SameBits(tied->first));
}

TEST_CASE("A full disk while saving leaves the older file", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  torch::nn::Linear small(2, 2);
  save_safetensors(*small, path);
  {
    const torch::nn::Linear large(200, 200);
    const FileSizeLimit limit(100'000);
    CHECK_THROWS_WITH(save_safetensors(*large, path), ContainsSubstring("cannot write"));
  }
  load_safetensors(*small, path);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("What cannot be stored is refused by name", "[checkpoint]") {
  const TemporaryFolder folder;
  StateDict tensors;
  tensors.insert("z", torch::zeros({1}, torch::kComplexDouble));
  CHECK_THROWS_WITH(
      write_state_dict(tensors, folder.path() / "x"), ContainsSubstring("ComplexDouble"));
  tensors = StateDict();
  tensors.insert("s", torch::zeros({2, 2}).to_sparse());
  CHECK_THROWS_WITH(write_state_dict(tensors, folder.path() / "x"), ContainsSubstring("'s'"));
}
