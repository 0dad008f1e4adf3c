# moe_configure_target(target): the language level, warnings and sanitizers of this project's own
# targets. Nothing here reaches a consumer.

function(moe_configure_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${target} PRIVATE -Wall -Wextra $<$<BOOL:${MOE_WERROR}>:-Werror>)
  if(MOE_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${MOE_SANITIZE} -fno-sanitize-recover=all -g)
    target_link_options(${target} PUBLIC -fsanitize=${MOE_SANITIZE})
  endif()
endfunction()
