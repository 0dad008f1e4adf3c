#include "apps/json_output.h"

namespace moe {

std::string json_line(const nlohmann::ordered_json& value) {
  using Json = nlohmann::ordered_json;
  return value.dump(
             /*indent=*/-1,
             /*indent_char=*/' ',
             /*ensure_ascii=*/false,
             Json::error_handler_t::replace) +
         "\n";
}

} // namespace moe
