# Installs the library, its headers, the programs and the package that find_package(moe) reads.

include(CMakePackageConfigHelpers)

set(MOE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/moe)
get_property(MOE_INSTALLED_PROGRAMS GLOBAL PROPERTY MOE_PROGRAMS)

install(TARGETS moe EXPORT moe-targets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/moe DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" PATTERN "*_internal.h" EXCLUDE PATTERN "kernels/cpu_*.h" EXCLUDE)

# A LibTorch inside the build folder goes along, so that the programs outlive that folder. Any
# other stays where it is, and is remembered.
set(moe_bundle_libtorch FALSE)
foreach(folder ${PROJECT_SOURCE_DIR}/build ${PROJECT_BINARY_DIR})
  if(LibTorch_LIBRARY_DIR)
    cmake_path(IS_PREFIX folder ${LibTorch_LIBRARY_DIR} NORMALIZE moe_inside)
    if(moe_inside)
      set(moe_bundle_libtorch TRUE)
    endif()
  endif()
endforeach()

if(moe_bundle_libtorch)
  set(moe_bundle ${CMAKE_INSTALL_LIBDIR}/moe)
  set(moe_wanted "/lib(torch|torch_cpu|c10|gomp[^/]*)\\.so[.0-9]*$")
  if(LibTorch_CUDA)
    set(moe_wanted "\\.so[.0-9]*$")
  endif()
  install(DIRECTORY ${LibTorch_LIBRARY_DIR}/ DESTINATION ${moe_bundle}/libtorch/lib
    FILES_MATCHING REGEX ${moe_wanted} PATTERN "libtorch_python.so" EXCLUDE)
  install(DIRECTORY ${LibTorch_INCLUDE_DIR}/ DESTINATION ${moe_bundle}/libtorch/include)
  # LibTorch looks for these at ../../nvidia as seen from its own libraries.
  if(EXISTS ${LibTorch_LIBRARY_DIR}/../../nvidia)
    install(DIRECTORY ${LibTorch_LIBRARY_DIR}/../../nvidia/ DESTINATION ${moe_bundle}/nvidia
      FILES_MATCHING REGEX "/lib/[^/]*\\.so[.0-9]*$" PATTERN "include" EXCLUDE)
  endif()
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_LIBDIR BASE_DIRECTORY ${CMAKE_INSTALL_FULL_BINDIR}
    OUTPUT_VARIABLE moe_bin_to_lib)
  set(moe_program_rpath $ORIGIN/${moe_bin_to_lib}/moe/libtorch/lib)
  set(moe_installed_libtorch "\${PACKAGE_PREFIX_DIR}/${moe_bundle}/libtorch")
else()
  set(moe_program_rpath ${LibTorch_LIBRARY_DIR})
  set(moe_installed_libtorch ${LibTorch_PREFIX})
endif()
if(MOE_INSTALLED_PROGRAMS)
  install(TARGETS ${MOE_INSTALLED_PROGRAMS})
  set_target_properties(${MOE_INSTALLED_PROGRAMS} PROPERTIES INSTALL_RPATH "${moe_program_rpath}")
endif()

install(EXPORT moe-targets NAMESPACE moe:: DESTINATION ${MOE_PACKAGE_DIR} FILE moeTargets.cmake)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/moeConfig.cmake.in
  ${PROJECT_BINARY_DIR}/moeConfig.cmake INSTALL_DESTINATION ${MOE_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moeConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/moeConfig.cmake
  ${PROJECT_BINARY_DIR}/moeConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FindLibTorch.cmake
  ${PROJECT_SOURCE_DIR}/cmake/MoeDependencies.cmake
  DESTINATION ${MOE_PACKAGE_DIR})
