# Finds LibTorch and defines the imported target `torch`, unless the project has one already (whoever
# wants find_package(Torch) calls it first).
#
# MOE_LIBTORCH names the LibTorch to use: the `torch` folder of a Python wheel, an unpacked libtorch
# archive, or the prefix of a system install. Without it these are tried in turn: CMAKE_PREFIX_PATH,
# the LibTorch that an installed moe was built with, the virtual environment of cmake/setup.sh
# (build/venv), the system.
#
# LibTorch's own TorchConfig.cmake is not used: for a CUDA build it stops on a machine without the
# CUDA toolkit, though the CPU part needs none. The CUDA part is linked where every library it needs
# is there.
#
# Sets LibTorch_FOUND, LibTorch_VERSION and, for a LibTorch found here, LibTorch_PREFIX,
# LibTorch_INCLUDE_DIR, LibTorch_LIBRARY_DIR and LibTorch_CUDA. Defines LibTorch::OpenMP, the OpenMP that LibTorch uses:
# code that calls at::parallel_for has to be compiled with it, or it runs on one thread.

set(MOE_LIBTORCH "$ENV{MOE_LIBTORCH}"
  CACHE PATH "LibTorch: a wheel's torch folder, an unpacked archive or a prefix")

# Sets LibTorch_VERSION from the version header in one of the include folders.
function(moe_read_libtorch_version)
  foreach(folder ${ARGN})
    foreach(header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
      if(EXISTS ${folder}/${header})
        file(STRINGS ${folder}/${header} lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
        if(lines MATCHES "MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+)")
          set(LibTorch_VERSION ${CMAKE_MATCH_1}.${CMAKE_MATCH_2}.${CMAKE_MATCH_3} PARENT_SCOPE)
        endif()
      endif()
    endforeach()
  endforeach()
endfunction()

# Defines LibTorch::OpenMP. LibTorch's libraries in `folder` may bring an OpenMP of their own; then
# it must be the only one in the process, for two would fight for the cores.
function(moe_add_libtorch_openmp folder)
  if(TARGET LibTorch::OpenMP)
    return()
  endif()
  add_library(LibTorch::OpenMP INTERFACE IMPORTED GLOBAL)
  file(GLOB bundled ${folder}/libgomp*.so*)
  if(bundled AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(LibTorch::OpenMP INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
    target_link_libraries(LibTorch::OpenMP INTERFACE ${bundled})
    return()
  endif()
  find_package(OpenMP QUIET COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    target_link_libraries(LibTorch::OpenMP INTERFACE OpenMP::OpenMP_CXX)
  else()
    message(STATUS "No OpenMP for ${CMAKE_CXX_COMPILER_ID}: moe's own kernels run on one thread")
  endif()
endfunction()

include(FindPackageHandleStandardArgs)

if(TARGET torch)
  get_target_property(moe_libtorch_includes torch INTERFACE_INCLUDE_DIRECTORIES)
  moe_read_libtorch_version(${moe_libtorch_includes})
  list(GET moe_libtorch_includes 0 moe_libtorch_include)
  moe_add_libtorch_openmp(${moe_libtorch_include}/../lib)
  set(LibTorch_TARGET torch)
  find_package_handle_standard_args(LibTorch
    REQUIRED_VARS LibTorch_TARGET VERSION_VAR LibTorch_VERSION)
  return()
endif()

set(moe_libtorch_suffixes include ../../include)  # the latter from a wheel's torch/share/cmake
if(MOE_LIBTORCH)
  set(moe_libtorch_folders ${MOE_LIBTORCH})
else()
  file(GLOB moe_libtorch_venv ${CMAKE_CURRENT_LIST_DIR}/../build/venv/lib/python3*/site-packages/torch)
  set(moe_libtorch_folders ${CMAKE_PREFIX_PATH} ${MOE_INSTALLED_LIBTORCH} ${moe_libtorch_venv}
    ${CMAKE_SYSTEM_PREFIX_PATH})
endif()
set(moe_libtorch_header torch/csrc/api/include/torch/torch.h)
unset(LibTorch_INCLUDE_DIR)
find_path(LibTorch_INCLUDE_DIR ${moe_libtorch_header} PATHS ${moe_libtorch_folders}
  PATH_SUFFIXES ${moe_libtorch_suffixes} NO_DEFAULT_PATH NO_CACHE)
cmake_path(NORMAL_PATH LibTorch_INCLUDE_DIR)
string(REGEX REPLACE "/$" "" LibTorch_INCLUDE_DIR "${LibTorch_INCLUDE_DIR}")
cmake_path(GET LibTorch_INCLUDE_DIR PARENT_PATH LibTorch_PREFIX)
foreach(library torch_cpu c10)
  unset(LibTorch_${library}_LIBRARY)
  find_library(LibTorch_${library}_LIBRARY ${library} PATHS ${LibTorch_PREFIX}
    PATH_SUFFIXES lib lib/${CMAKE_LIBRARY_ARCHITECTURE} lib64 NO_DEFAULT_PATH NO_CACHE)
endforeach()
moe_read_libtorch_version(${LibTorch_INCLUDE_DIR})

if(MOE_LIBTORCH)
  set(moe_libtorch_advice "MOE_LIBTORCH is ${MOE_LIBTORCH}. It should be the torch folder of a wheel, an unpacked libtorch archive or a prefix.")
else()
  set(moe_libtorch_advice "Run `sh cmake/setup.sh`, or name one with -DMOE_LIBTORCH=FOLDER.")
endif()
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE ${moe_libtorch_advice})
if(NOT LibTorch_FOUND)
  return()
endif()

cmake_path(GET LibTorch_torch_cpu_LIBRARY PARENT_PATH LibTorch_LIBRARY_DIR)
add_library(torch INTERFACE IMPORTED GLOBAL)
target_include_directories(torch SYSTEM INTERFACE
  ${LibTorch_INCLUDE_DIR} ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include)
target_compile_features(torch INTERFACE cxx_std_20)
target_link_libraries(torch INTERFACE ${LibTorch_torch_cpu_LIBRARY} ${LibTorch_c10_LIBRARY})

# LibTorch's libraries find theirs by their own search paths; the linker has to be told.
file(GLOB moe_libtorch_nvidia ${LibTorch_LIBRARY_DIR}/../../nvidia/*/lib)
foreach(folder ${LibTorch_LIBRARY_DIR} ${moe_libtorch_nvidia})
  target_link_options(torch INTERFACE -Wl,-rpath-link,${folder})
endforeach()

moe_add_libtorch_openmp(${LibTorch_LIBRARY_DIR})

# The loader tells whether everything is there that the CUDA part needs. Nothing of ours names a
# symbol of it, hence --no-as-needed: it registers itself when loaded.
set(LibTorch_CUDA FALSE)
if(EXISTS ${LibTorch_LIBRARY_DIR}/libtorch_cuda.so)
  execute_process(COMMAND ldd ${LibTorch_LIBRARY_DIR}/libtorch_cuda.so
    OUTPUT_VARIABLE moe_libtorch_needs RESULT_VARIABLE moe_libtorch_status ERROR_QUIET)
  if(moe_libtorch_status EQUAL 0 AND NOT moe_libtorch_needs MATCHES "not found")
    set(LibTorch_CUDA TRUE)
    string(JOIN , moe_libtorch_cuda_link -Wl --push-state --no-as-needed
      ${LibTorch_LIBRARY_DIR}/libtorch_cuda.so ${LibTorch_LIBRARY_DIR}/libc10_cuda.so --pop-state)
    target_link_libraries(torch INTERFACE ${moe_libtorch_cuda_link})
  endif()
endif()
if(NOT LibTorch_FIND_QUIETLY)
  message(STATUS "LibTorch ${LibTorch_VERSION} in ${LibTorch_PREFIX}, CUDA: ${LibTorch_CUDA}")
endif()
