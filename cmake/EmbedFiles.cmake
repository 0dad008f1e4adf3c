# Writes HEADER with the text of each of FILES as a constant in moe::NAMESPACE: page.css becomes
# page_css. Run with cmake -P.
set(text "// Made from the files in apps/ when they change.\n#pragma once\n\n#include <string_view>\n\n")
string(APPEND text "namespace moe::${NAMESPACE} {\n")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  string(MAKE_C_IDENTIFIER ${name} name)
  file(READ ${file} content)
  string(APPEND text "\ninline constexpr std::string_view ${name} = R\"embedded(${content})embedded\";\n")
endforeach()
string(APPEND text "\n} // namespace moe::${NAMESPACE}\n")
file(WRITE ${HEADER} "${text}")
