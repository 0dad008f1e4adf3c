# The package as other projects see it: installed and found, and as a subdirectory.

get_property(programs GLOBAL PROPERTY MOE_PROGRAMS)
list(APPEND programs "")
list(GET programs 0 program)
set(stage ${CMAKE_CURRENT_BINARY_DIR}/stage)

add_test(NAME "package: install"
  COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/package_consumer/install.sh
    ${PROJECT_BINARY_DIR} ${stage} ${program})
set_tests_properties("package: install" PROPERTIES FIXTURES_SETUP moe_stage)

# add_consumer_test(NAME OPTIONS...): configures, builds and perhaps runs the outside project.
function(add_consumer_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "OPTIONS;BUILD")
  add_test(NAME "package: ${name}"
    COMMAND ${CMAKE_CTEST_COMMAND}
      --build-and-test ${CMAKE_CURRENT_SOURCE_DIR}/package_consumer
        ${CMAKE_CURRENT_BINARY_DIR}/consumer/${name}
      --build-generator ${CMAKE_GENERATOR}
      --build-options -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} ${arg_OPTIONS}
      ${arg_BUILD})
  set_tests_properties("package: ${name}" PROPERTIES TIMEOUT 600)
endfunction()

add_consumer_test(find_package
  OPTIONS -DCMAKE_PREFIX_PATH=${stage}
  BUILD --test-command consumer)
set_tests_properties("package: find_package" PROPERTIES FIXTURES_REQUIRED moe_stage)

# A few steps of the example program, which the first test has built.
add_test(NAME "package: processes"
  COMMAND ${CMAKE_CURRENT_BINARY_DIR}/consumer/find_package/processes 1 60)
set_tests_properties("package: processes" PROPERTIES
  DEPENDS "package: find_package"
  PASS_REGULAR_EXPRESSION "seed 0: accuracy with experts 0\\.[3-9]")

# Only the consumer's own file is compiled: the whole library would take minutes.
add_consumer_test(add_subdirectory
  OPTIONS -DMOE_SOURCE_DIR=${PROJECT_SOURCE_DIR} -DMOE_LIBTORCH=${LibTorch_PREFIX}
  BUILD --build-target CMakeFiles/consumer.dir/main.cpp.o)
