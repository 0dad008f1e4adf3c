# Finds LibTorch and defines the imported target `torch`, unless the project has one already.
#
# MOE_LIBTORCH names the LibTorch to use: the `torch` folder of a Python wheel, an unpacked libtorch
# archive, or the prefix of a system install. Without it, the virtual environment that
# cmake/setup.sh makes is used (build/venv), then LibTorch in CMAKE_PREFIX_PATH.
#
# LibTorch's own TorchConfig.cmake is not used: for a CUDA build it stops on a machine without the
# CUDA toolkit, though the CPU part needs none.

set(MOE_LIBTORCH "" CACHE PATH "LibTorch: a wheel's torch folder, an unpacked archive or a prefix")

if(TARGET torch)
  set(LibTorch_FOUND TRUE)
  return()
endif()

if(MOE_LIBTORCH)
  set(moe_libtorch_candidates ${MOE_LIBTORCH})
else()
  file(GLOB moe_libtorch_candidates
    ${CMAKE_CURRENT_LIST_DIR}/../build/venv/lib/python3*/site-packages/torch
    ${CMAKE_CURRENT_LIST_DIR}/../../../moe/libtorch)
endif()
find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/torch.h
  HINTS ${moe_libtorch_candidates} PATH_SUFFIXES include
  NO_CACHE)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${LibTorch_INCLUDE_DIR}/../lib NO_CACHE)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${LibTorch_INCLUDE_DIR}/../lib NO_CACHE)
foreach(moe_version_header torch/csrc/api/include/torch/version.h torch/headeronly/version.h)
  if(EXISTS ${LibTorch_INCLUDE_DIR}/${moe_version_header})
    file(STRINGS ${LibTorch_INCLUDE_DIR}/${moe_version_header} moe_version_lines
      REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    if(moe_version_lines MATCHES "MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+)")
      set(LibTorch_VERSION ${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3})
    endif()
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "Run `sh cmake/setup.sh`, or name one with -DMOE_LIBTORCH=FOLDER.")
if(NOT LibTorch_FOUND)
  return()
endif()

add_library(torch INTERFACE IMPORTED GLOBAL)
target_include_directories(torch SYSTEM INTERFACE
  ${LibTorch_INCLUDE_DIR} ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include)
target_link_libraries(torch INTERFACE ${LibTorch_CPU_LIBRARY} ${LibTorch_C10_LIBRARY})
target_compile_features(torch INTERFACE cxx_std_20)

# The CPU library of a CUDA wheel needs a few CUDA libraries that lie beside it in site-packages.
cmake_path(GET LibTorch_CPU_LIBRARY PARENT_PATH moe_libtorch_lib)
cmake_path(NORMAL_PATH moe_libtorch_lib)
foreach(moe_cuda_lib ${moe_libtorch_lib}/../../nvidia/cu13/lib ${moe_libtorch_lib}/../../nvidia/cu12/lib)
  if(EXISTS ${moe_cuda_lib})
    target_link_options(torch INTERFACE -Wl,-rpath-link,${moe_cuda_lib})
  endif()
endforeach()
