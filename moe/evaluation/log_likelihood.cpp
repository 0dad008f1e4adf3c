#include "moe/evaluation/log_likelihood.h"

#include <algorithm>
#include <numeric>

#include "moe/error.h"
#include "moe/evaluation/eval_mode_guard.h"

namespace moe {
namespace {

/// The ids that the model reads for a request, and how many of what it predicts count.
struct Row {
  std::vector<int64_t> inputs;
  std::vector<int64_t> targets; ///< of the last inputs
};

Row row_of_request(const LikelihoodRequest& request, const DecoderOptions& options) {
  check(
      !request.context.empty() && !request.continuation.empty(),
      "likelihood: context and continuation must have at least one id each");
  std::vector<int64_t> ids(request.context.begin(), request.context.end());
  ids.insert(ids.end(), request.continuation.begin(), request.continuation.end());
  for (const int64_t id : ids) {
    check(
        id >= 0 && id < options.vocab_size,
        "likelihood: the model has no token ",
        id,
        "; its vocabulary has ",
        options.vocab_size);
  }
  const auto longest = static_cast<size_t>(options.context_length) + 1;
  if (ids.size() > longest) {
    ids.erase(ids.begin(), ids.end() - static_cast<int64_t>(longest));
  }
  const size_t count = std::min(request.continuation.size(), ids.size() - 1);
  return {{ids.begin(), ids.end() - 1}, {ids.end() - static_cast<int64_t>(count), ids.end()}};
}

/// The log-likelihoods of rows of similar length.
std::vector<double> score_rows(DecoderLM& model, const std::vector<Row>& rows) {
  size_t length = 0;
  for (const auto& row : rows) {
    length = std::max(length, row.inputs.size());
  }
  const auto size = static_cast<int64_t>(rows.size());
  auto ids = torch::zeros({size, static_cast<int64_t>(length)}, torch::kInt64);
  std::vector<int64_t> positions; // of what counts, in ids.view(-1)
  std::vector<int64_t> targets;
  for (int64_t i = 0; i < size; ++i) {
    const auto& row = rows[static_cast<size_t>(i)];
    int64_t* first = ids.mutable_data_ptr<int64_t>() + i * static_cast<int64_t>(length);
    std::copy(row.inputs.begin(), row.inputs.end(), first);
    for (size_t j = 0; j < row.targets.size(); ++j) {
      const size_t place = row.inputs.size() - row.targets.size() + j;
      positions.push_back(i * static_cast<int64_t>(length) + static_cast<int64_t>(place));
      targets.push_back(row.targets[j]);
    }
  }
  const auto device = model->embedding->weight.device();
  const auto rows_that_count = torch::tensor(positions).to(device);
  const auto hidden = model->forward(ids.to(device)).hidden.flatten(0, 1);    // [B·S, D]
  const auto logits = model->logits(hidden.index_select(0, rows_that_count)); // [N, V]
  const auto found = torch::log_softmax(logits.to(torch::kFloat32), /*dim=*/-1)
                         .gather(1, torch::tensor(targets).to(device).unsqueeze(1))
                         .squeeze(1)
                         .to(torch::kCPU, torch::kFloat64); // [N]
  std::vector<double> sums(rows.size(), 0.0);
  for (size_t i = 0; i < positions.size(); ++i) {
    sums[static_cast<size_t>(positions[i]) / length] +=
        found.const_data_ptr<double>()[static_cast<int64_t>(i)];
  }
  return sums;
}

double sum_of(const std::vector<double>& values, size_t first, size_t count) {
  return std::accumulate(
      values.begin() + static_cast<int64_t>(first),
      values.begin() + static_cast<int64_t>(first + count),
      0.0);
}

} // namespace

std::vector<double> log_likelihoods(
    DecoderLM model, const std::vector<LikelihoodRequest>& requests, int64_t batch_size) {
  check(batch_size >= 1, "batch_size: ", batch_size, " is not at least 1");
  const torch::NoGradGuard no_grad;
  const EvalModeGuard eval_mode(*model);
  std::vector<Row> rows;
  for (const auto& request : requests) {
    rows.push_back(row_of_request(request, model->options));
  }
  // The longest first: rows of a batch are of similar length, and memory runs out at once.
  std::vector<size_t> order(rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return rows[a].inputs.size() > rows[b].inputs.size();
  });
  std::vector<double> result(rows.size());
  for (size_t begin = 0; begin < order.size(); begin += static_cast<size_t>(batch_size)) {
    const size_t end = std::min(order.size(), begin + static_cast<size_t>(batch_size));
    std::vector<Row> batch;
    for (size_t i = begin; i < end; ++i) {
      batch.push_back(rows[order[i]]);
    }
    const auto sums = score_rows(model, batch);
    for (size_t i = begin; i < end; ++i) {
      result[order[i]] = sums[i - begin];
    }
  }
  return result;
}

TaskScores evaluate_tasks(
    DecoderLM model,
    const Tokenizer& tokenizer,
    const Tasks& tasks,
    int32_t prefix,
    int64_t batch_size) {
  std::vector<LikelihoodRequest> requests;
  for (const auto& question : tasks.questions) {
    for (const auto& choice : question.choices) {
      requests.push_back(encode_choice(tokenizer, question.context, " " + choice, prefix));
    }
  }
  std::vector<size_t> windows;
  for (const auto& text : tasks.texts) {
    const auto rolling =
        rolling_requests(tokenizer.encode(text), prefix, model->options.context_length);
    windows.push_back(rolling.size());
    requests.insert(requests.end(), rolling.begin(), rolling.end());
  }
  const auto found = log_likelihoods(model, requests, batch_size);
  size_t next = 0;
  std::vector<std::vector<double>> choices;
  for (const auto& question : tasks.questions) {
    const auto first = found.begin() + static_cast<int64_t>(next);
    choices.emplace_back(first, first + static_cast<int64_t>(question.choices.size()));
    next += question.choices.size();
  }
  std::vector<double> texts;
  for (const size_t count : windows) {
    texts.push_back(sum_of(found, next, count));
    next += count;
  }
  TaskScores scores;
  if (!tasks.questions.empty()) {
    scores.choices = score_choices(tasks.questions, choices);
  }
  if (!tasks.texts.empty()) {
    scores.rolling = score_texts(tasks.texts, texts);
  }
  return scores;
}

} // namespace moe
