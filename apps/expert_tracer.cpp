#include "apps/expert_tracer.h"

#include <unistd.h>

#include "apps/output.h"
#include "apps/terminal.h"
#include "moe/error.h"

namespace moe {

ExpertTracer::ExpertTracer(bool enabled, bool as_json, const DecoderOptions& model)
    : enabled_(enabled), as_json_(as_json) {
  style_.layers = moe_layers(model);
  style_.num_experts = model.num_experts;
  style_.experts_per_token = model.experts_per_token;
  style_.colours = colour_depth(STDOUT_FILENO);
  style_.columns = is_terminal(STDOUT_FILENO) ? terminal_width(STDOUT_FILENO) : 0;
  check(!enabled_ || !style_.layers.empty(), "trace_experts: the model has no experts to show");
}

void ExpertTracer::begin(TextOfToken text_of) {
  text_of_ = std::move(text_of);
  tokens_ = nlohmann::ordered_json::array();
  if (enabled_ && !as_json_) {
    write_stdout(trace_header(style_));
  }
}

void ExpertTracer::add(const TracedToken& token) {
  const auto text = text_of_(token.id);
  if (as_json_) {
    tokens_.push_back(trace_json(text, token));
  } else {
    write_stdout(trace_row(text, token, style_));
  }
}

void ExpertTracer::finish(InferenceSession& session, const Generation& generation) const {
  if (enabled_ && !generation.ids.empty()) {
    session.prefill(0, {&generation.ids.back(), 1});
  }
}

void ExpertTracer::add_to(nlohmann::ordered_json& result) const {
  if (enabled_) {
    result["moe_layers"] = style_.layers;
    result["tokens"] = tokens_;
  }
}

} // namespace moe
