#include "moe/training/tensorboard.h"

#include <algorithm>

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

std::string bytes_of(std::initializer_list<int> values) {
  std::string bytes;
  for (const int value : values) {
    bytes += static_cast<char>(value);
  }
  return bytes;
}

uint64_t little_endian(const std::string& bytes, size_t position, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) {
    value |= uint64_t{static_cast<unsigned char>(bytes.at(position + i))} << (8 * i);
  }
  return value;
}

// The payloads of a file whose frames are right; the wall time, which differs, is taken out.
std::vector<std::string> events_in(const std::string& file) {
  std::vector<std::string> events;
  size_t position = 0;
  while (position < file.size()) {
    const size_t length = little_endian(file, position, 8);
    const std::string payload = file.substr(position + 12, length);
    REQUIRE(file.substr(position, length + 16) == tfrecord(payload));
    REQUIRE(payload.at(0) == 0x09);
    events.push_back(payload.substr(9));
    position += length + 16;
  }
  return events;
}

} // namespace

TEST_CASE("tensorboard: CRC-32C as in RFC 3720", "[training]") {
  CHECK(crc32c("123456789") == 0xE3069283);
  CHECK(crc32c("") == 0);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AA);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62A8AB43);
}

TEST_CASE("tensorboard: a record is framed by lengths and masked checksums", "[training]") {
  // Written by the RecordWriter of the Python package tensorboard 2.21 for the payload "hello".
  const std::string expected = bytes_of({5, 0, 0, 0, 0, 0, 0, 0, 0xea, 0xb2, 0x04, 0x3e}) +
                               "hello" + bytes_of({0xbb, 0x1f, 0x1c, 0x19});
  CHECK(tfrecord("hello") == expected);
}

TEST_CASE("tensorboard: a file holds version, start and scalars", "[training]") {
  const TemporaryFolder folder;
  TensorBoardFile file(folder.path(), /*first_step=*/301);
  file.append(301, {{"loss", 1.5}, {"lr", -2.0}});
  CHECK(file.path().filename().string().starts_with("events.out.tfevents."));
  const auto events = events_in(folder.read(file.path().filename()));
  REQUIRE(events.size() == 3);
  CHECK(events[0] == bytes_of({0x10, 0x00, 0x1a, 13}) + "brain.Event:2");
  CHECK(events[1] == bytes_of({0x10, 0xad, 0x02, 0x3a, 2, 0x08, 1}));
  CHECK(
      events[2] == bytes_of({0x10, 0xad, 0x02, 0x2a, 24, 0x0a, 11, 0x0a, 4}) + "loss" +
                       bytes_of({0x15, 0, 0, 0xc0, 0x3f, 0x0a, 9, 0x0a, 2}) + "lr" +
                       bytes_of({0x15, 0, 0, 0, 0xc0}));
}

TEST_CASE("tensorboard: loads are a histogram with a bucket per expert", "[training]") {
  const auto number = [](double value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const TemporaryFolder folder;
  TensorBoardFile file(folder.path(), /*first_step=*/1);
  StepMetrics metrics;
  metrics.moe.push_back(layer_routing(3, {1, 3}));
  file.append(1, {}, metrics_bars(metrics));
  const auto events = events_in(folder.read(file.path().filename()));
  const std::string histogram =
      bytes_of({0x09}) + number(0.0) + bytes_of({0x11}) + number(2.0) + bytes_of({0x19}) +
      number(1.0) + bytes_of({0x21}) + number(1.25) + bytes_of({0x29}) + number(1.75) +
      bytes_of({0x32, 16}) + number(1.0) + number(2.0) + bytes_of({0x3a, 16}) + number(0.25) +
      number(0.75);
  REQUIRE(histogram.size() == 81);
  CHECK(
      events.at(2) == bytes_of({0x10, 1, 0x2a, 99, 0x0a, 97, 0x0a, 12}) + "layer_3/load" +
                          bytes_of({0x2a, 81}) + histogram);
}

TEST_CASE("tensorboard: every start writes a file of its own", "[training]") {
  const TemporaryFolder folder;
  const TensorBoardFile first(folder.path(), 1);
  const TensorBoardFile second(folder.path(), 1);
  CHECK(first.path() != second.path());
  REQUIRE_THROWS_WITH(
      TensorBoardFile(folder.path() / "none", 1),
      ContainsSubstring("events.out.tfevents.") && ContainsSubstring("cannot write"));
}

TEST_CASE("tensorboard: metrics get names by their part", "[training]") {
  StepMetrics metrics;
  metrics.loss = 2.0;
  metrics.val_loss = 3.0;
  metrics.moe.resize(1);
  metrics.moe[0].layer = 4;
  metrics.moe[0].dead = 0.25;
  const auto scalars = metrics_scalars(metrics);
  const auto has = [&scalars](const Scalar& scalar) {
    return std::find(scalars.begin(), scalars.end(), scalar) != scalars.end();
  };
  CHECK(has({"train/loss", 2.0}));
  CHECK(has({"val/loss", 3.0}));
  CHECK(has({"layer_4/dead", 0.25}));
  CHECK_FALSE(has({"train/router_z_loss", 0.0}));
}
