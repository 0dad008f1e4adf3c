# How this project's own targets are compiled. Nothing here reaches a consumer.

# The compiler cache, where there is one. The settings are those that precompiled headers need.
if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(MOE_CCACHE ccache)
  if(MOE_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${MOE_CCACHE})
  endif()
endif()

# A file that includes LibTorch takes 1.2 GB to compile: no more at a time than the memory holds.
if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_JOB_POOL_COMPILE)
  cmake_host_system_information(RESULT moe_memory_mib QUERY TOTAL_PHYSICAL_MEMORY)
  math(EXPR moe_compile_jobs "${moe_memory_mib} / 1500 + 1")
  set_property(GLOBAL APPEND PROPERTY JOB_POOLS moe_compile=${moe_compile_jobs})
  set(CMAKE_JOB_POOL_COMPILE moe_compile)
endif()

# The language level, warnings and sanitizers.
function(moe_configure_target target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "SANITIZE" "")
  if(NOT arg_SANITIZE)
    set(arg_SANITIZE ${MOE_SANITIZE})
  endif()
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  # One setting for libraries and programs (not -fPIE for the latter): they share the precompiled
  # header.
  target_compile_options(${target} PRIVATE
    -fPIC -Wall -Wextra $<$<BOOL:${MOE_WERROR}>:-Werror>
    $<$<AND:$<BOOL:${MOE_CCACHE}>,$<CXX_COMPILER_ID:GNU>>:-fpch-preprocess>)
  if(arg_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${arg_SANITIZE} -fno-sanitize-recover=all -g1)
    target_link_options(${target} PUBLIC -fsanitize=${arg_SANITIZE})
  endif()
endfunction()

# For programs and tests that use tensors: they reuse the header that `moe` has compiled, which
# saves 10 to 20 s per file. It must be told the same options, OpenMP among them.
function(moe_use_library target)
  target_link_libraries(${target} PRIVATE moe LibTorch::OpenMP)
  target_precompile_headers(${target} REUSE_FROM moe)
endfunction()

# moe_add_program(NAME SOURCES...): a program, put into bin/ of the build folder and of the
# installation.
function(moe_add_program name)
  add_executable(${name} ${ARGN})
  moe_configure_target(${name})
  moe_use_library(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  set_property(GLOBAL APPEND PROPERTY MOE_PROGRAMS ${name})
endfunction()
