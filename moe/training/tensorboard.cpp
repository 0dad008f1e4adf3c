#include "moe/training/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdio>

namespace moe {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  constexpr uint32_t reversed_polynomial = 0x82F63B78;
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? reversed_polynomial : 0);
    }
    table[byte] = crc;
  }
  return table;
}

template <class T>
void append_little_endian(std::string& bytes, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    bytes += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  }
}

// A CRC of bytes that contain CRCs is weak, hence TFRecord's mask.
uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8;
}

// The wire format of Protocol Buffers: a field is its number and wire type, then its value.
enum WireType : uint64_t { varint = 0, fixed64 = 1, length_delimited = 2, fixed32 = 5 };

void append_varint(std::string& bytes, uint64_t value) {
  while (value >= 0x80) {
    bytes += static_cast<char>(static_cast<unsigned char>(value | 0x80));
    value >>= 7;
  }
  bytes += static_cast<char>(value);
}

void append_tag(std::string& bytes, uint64_t field, WireType type) {
  append_varint(bytes, field << 3 | type);
}

void append_integer(std::string& bytes, uint64_t field, int64_t value) {
  append_tag(bytes, field, varint);
  append_varint(bytes, static_cast<uint64_t>(value));
}

void append_double(std::string& bytes, uint64_t field, double value) {
  append_tag(bytes, field, fixed64);
  append_little_endian(bytes, std::bit_cast<uint64_t>(value));
}

void append_float(std::string& bytes, uint64_t field, float value) {
  append_tag(bytes, field, fixed32);
  append_little_endian(bytes, std::bit_cast<uint32_t>(value));
}

void append_bytes(std::string& bytes, uint64_t field, std::string_view value) {
  append_tag(bytes, field, length_delimited);
  append_varint(bytes, value.size());
  bytes += value;
}

// Fields of tensorflow.Event, Summary, Summary.Value and SessionLog.
namespace event {
constexpr uint64_t wall_time = 1;
constexpr uint64_t step = 2;
constexpr uint64_t file_version = 3;
constexpr uint64_t summary = 5;
constexpr uint64_t session_log = 7;
} // namespace event
constexpr uint64_t summary_value = 1;
constexpr uint64_t value_tag = 1;
constexpr uint64_t value_simple = 2;
constexpr uint64_t value_histogram = 5;
constexpr uint64_t session_status = 1;
constexpr int64_t session_start = 1;

// tensorflow.HistogramProto: the bar of number i lies between i and i + 1.
std::string histogram(const std::vector<double>& heights) {
  enum Field : uint64_t {
    min = 1,
    max = 2,
    num = 3,
    sum = 4,
    sum_squares = 5,
    limit = 6,
    bucket = 7
  };
  double total = 0.0;
  double first_moment = 0.0;
  double second_moment = 0.0;
  std::string limits;
  std::string buckets;
  for (size_t i = 0; i < heights.size(); ++i) {
    const auto place = static_cast<double>(i) + 0.5;
    total += heights[i];
    first_moment += heights[i] * place;
    second_moment += heights[i] * place * place;
    append_little_endian(limits, std::bit_cast<uint64_t>(static_cast<double>(i + 1)));
    append_little_endian(buckets, std::bit_cast<uint64_t>(heights[i]));
  }
  std::string bytes;
  append_double(bytes, min, 0.0);
  append_double(bytes, max, static_cast<double>(heights.size()));
  append_double(bytes, num, total);
  append_double(bytes, sum, first_moment);
  append_double(bytes, sum_squares, second_moment);
  append_bytes(bytes, limit, limits);
  append_bytes(bytes, bucket, buckets);
  return bytes;
}

std::string event_at(int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  std::string bytes;
  append_double(bytes, event::wall_time, now.count());
  append_integer(bytes, event::step, step);
  return bytes;
}

AppendFile new_event_file(const std::filesystem::path& folder) {
  std::array<char, 256> host = {};
  if (::gethostname(host.data(), host.size() - 1) != 0 || host[0] == '\0') {
    host = {'h', 'o', 's', 't'};
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  std::array<char, 32> time = {};
  std::snprintf(time.data(), time.size(), "%010lld", static_cast<long long>(seconds));
  std::string name = std::string("events.out.tfevents.") + time.data() + "." + host.data() +
                     "." + std::to_string(::getpid()) + ".";
  // Several files of one process in one second differ by a counter.
  int count = 0;
  while (std::filesystem::exists(folder / (name + std::to_string(count)))) {
    ++count;
  }
  return AppendFile(folder / (name + std::to_string(count)), /*must_be_new=*/true);
}

} // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr auto table = make_crc_table();
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc = table[(crc ^ static_cast<unsigned char>(byte)) & 0xFF] ^ (crc >> 8);
  }
  return ~crc;
}

std::string tfrecord(std::string_view payload) {
  std::string record;
  append_little_endian(record, static_cast<uint64_t>(payload.size()));
  append_little_endian(record, masked_crc(record));
  record += payload;
  append_little_endian(record, masked_crc(payload));
  return record;
}

TensorBoardFile::TensorBoardFile(const std::filesystem::path& folder, int64_t first_step)
    : file_(new_event_file(folder)) {
  std::string version = event_at(0);
  append_bytes(version, event::file_version, "brain.Event:2");
  std::string status;
  append_integer(status, session_status, session_start);
  std::string start = event_at(first_step);
  append_bytes(start, event::session_log, status);
  file_.append(tfrecord(version) + tfrecord(start));
}

void TensorBoardFile::append(
    int64_t step, const std::vector<Scalar>& scalars, const std::vector<Bars>& bars) {
  std::string summary;
  for (const auto& [name, number] : scalars) {
    std::string value;
    append_bytes(value, value_tag, name);
    append_float(value, value_simple, static_cast<float>(number));
    append_bytes(summary, summary_value, value);
  }
  for (const auto& [name, heights] : bars) {
    std::string value;
    append_bytes(value, value_tag, name);
    append_bytes(value, value_histogram, histogram(heights));
    append_bytes(summary, summary_value, value);
  }
  std::string bytes = event_at(step);
  append_bytes(bytes, event::summary, summary);
  file_.append(tfrecord(bytes));
}

std::vector<Bars> metrics_bars(const StepMetrics& metrics) {
  std::vector<Bars> bars;
  for (const LayerRouting& layer : metrics.moe) {
    bars.emplace_back("layer_" + std::to_string(layer.layer) + "/load", layer.load);
  }
  return bars;
}

std::vector<Scalar> metrics_scalars(const StepMetrics& metrics) {
  std::vector<Scalar> scalars = {
      {"train/loss", metrics.loss},
      {"train/lr", metrics.lr},
      {"train/grad_norm", metrics.grad_norm},
      {"train/tokens_per_s", metrics.tokens_per_s}};
  if (metrics.load_balancing_loss) {
    scalars.emplace_back("train/load_balancing_loss", *metrics.load_balancing_loss);
  }
  if (metrics.router_z_loss) {
    scalars.emplace_back("train/router_z_loss", *metrics.router_z_loss);
  }
  for (const auto& [name, value] : metrics.routing_losses) {
    scalars.emplace_back("train/" + name, value);
  }
  if (metrics.val_loss) {
    scalars.emplace_back("val/loss", *metrics.val_loss);
  }
  for (const LayerRouting& layer : metrics.moe) {
    const std::string folder = "layer_" + std::to_string(layer.layer) + "/";
    scalars.emplace_back(folder + "max_violation", layer.max_violation);
    scalars.emplace_back(folder + "entropy", layer.entropy);
    scalars.emplace_back(folder + "dead", layer.dead);
    scalars.emplace_back(folder + "dropped", layer.dropped);
    scalars.emplace_back(folder + "confidence", layer.confidence);
    if (layer.churn) {
      scalars.emplace_back(folder + "churn", *layer.churn);
    }
    if (layer.similarity) {
      scalars.emplace_back(folder + "similarity", *layer.similarity);
    }
  }
  return scalars;
}

} // namespace moe
