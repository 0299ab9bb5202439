# Whether this build has the CUDA device: sets STRATA_HAS_CUDA. cuBLASLt and NCCL are not linked but
# loaded at run time, and cudart is linked statically, so the programs start on machines without CUDA.
#
# A source that needs CUDA has a twin NAME_none.cc that defines the same symbols as errors which say
# what to do; a folder's CMakeLists.txt takes one of the two.
set(STRATA_HAS_CUDA FALSE)
if(NOT STRATA_CUDA)
  return()
endif()

set(CMAKE_CUDA_ARCHITECTURES "80-real;86-real;89-real;90" CACHE STRING
  "GPUs to build kernels for: A100, A10/RTX 30, L4/L40/RTX 40, H100; later ones run the PTX of the last")
include(CheckLanguage)
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(STRATA_NVCC nvcc
    HINTS $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda PATH_SUFFIXES bin
    DOC "CUDA compiler, looked for as check_language(CUDA) does and in /usr/local/cuda, too")
  if(STRATA_NVCC)
    set(CMAKE_CUDA_COMPILER ${STRATA_NVCC} CACHE FILEPATH "CUDA compiler")
  endif()
endif()
if(STRATA_CUDA STREQUAL "AUTO")
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    message(STATUS "no CUDA compiler (nvcc): Strata will run on the cpu device only")
    return()
  endif()
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
  if(STRATA_CUDA STREQUAL "AUTO")
    message(STATUS "nvcc ${CMAKE_CUDA_COMPILER_VERSION} has no C++20 (CUDA 12.0 has): "
      "Strata will run on the cpu device only")
    return()
  endif()
  message(FATAL_ERROR "nvcc ${CMAKE_CUDA_COMPILER_VERSION} has no C++20: install CUDA 12.0 or newer, "
    "or configure with -DSTRATA_CUDA=OFF")
endif()
find_package(CUDAToolkit REQUIRED)

# CMake 3.25 does not know that nvcc has C++20, and leaves the flag out without a word.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -g1 -lineinfo -DNDEBUG")
if(CCACHE_PROGRAM)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
set(STRATA_HAS_CUDA TRUE)
