# The libraries that moe uses inside, besides LibTorch: none of them shows in a public header. The
# build and the installed package both include this file.

find_package(PkgConfig QUIET REQUIRED)
find_package(LibXml2 QUIET REQUIRED)
foreach(moe_dependency PCRE2=libpcre2-8 UTF8PROC=libutf8proc)
  string(REPLACE = ";" moe_dependency ${moe_dependency})
  list(GET moe_dependency 0 moe_dependency_name)
  list(GET moe_dependency 1 moe_dependency_module)
  if(NOT TARGET PkgConfig::${moe_dependency_name})
    pkg_check_modules(${moe_dependency_name} REQUIRED QUIET IMPORTED_TARGET GLOBAL ${moe_dependency_module})
  endif()
endforeach()
