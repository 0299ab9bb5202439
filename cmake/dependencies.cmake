# Everything that comes from outside: packages of the system, or a kit.
set(STRATA_KIT "" CACHE PATH
  "Take dependencies from this unpacked kit (tools/make-kit.sh) and not from the system")
find_package(Threads REQUIRED)
if(STRATA_KIT)
  include(cmake/kit.cmake)
else()
  include(cmake/packages.cmake)
endif()

set(STRATA_HAS_MPI FALSE)
if(STRATA_MPI)  # AUTO is true, too
  set(MPI_CXX_SKIP_MPICXX ON)  # the C functions, not the C++ bindings that MPI dropped
  if(STRATA_MPI STREQUAL "AUTO")
    find_package(MPI QUIET COMPONENTS CXX)
  else()
    find_package(MPI REQUIRED COMPONENTS CXX)
  endif()
  set(STRATA_HAS_MPI ${MPI_CXX_FOUND})
endif()
if(NOT STRATA_HAS_MPI)
  message(STATUS "no MPI: Strata will run on one rank (Debian: libopenmpi-dev openmpi-bin)")
endif()
if(STRATA_TESTS AND NOT STRATA_HAS_GOOGLE_BENCHMARK)
  message(STATUS "no Google Benchmark: kernels_bench, gpu_kernels_bench and aio_bench are left out "
    "(Debian: libbenchmark-dev)")
elseif(STRATA_TESTS AND NOT STRATA_HAS_DNNL)
  message(STATUS "no oneDNN with OpenMP: the bench kernels_bench is left out (Debian: libdnnl-dev)")
endif()
