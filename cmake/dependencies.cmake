# Everything that comes from outside. tools/install-dependencies.sh installs it on Debian.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
pkg_check_modules(liburing REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(hwloc REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
# The package's own target forces its shared library and its macros on us: only the path is wanted.
find_path(TOMLPLUSPLUS_INCLUDE_DIR toml++/toml.h REQUIRED)
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
find_package(Libaio REQUIRED)

if(STRATA_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
endif()
if(STRATA_MPI)
  set(MPI_CXX_SKIP_MPICXX ON)  # the C functions, not the C++ bindings that MPI dropped
  find_package(MPI REQUIRED COMPONENTS CXX)
endif()
if(STRATA_CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()

# Debian's dnnl-config.cmake asks for OpenCL, which a program that computes on cores has no use for.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(strata_dnnl INTERFACE)
add_library(strata::dnnl ALIAS strata_dnnl)
target_include_directories(strata_dnnl SYSTEM INTERFACE ${DNNL_INCLUDE_DIR})
target_link_libraries(strata_dnnl INTERFACE ${DNNL_LIBRARY} OpenMP::OpenMP_CXX)
