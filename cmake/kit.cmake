# Dependencies out of a kit (tools/make-kit.sh), under the names that they have as packages of the
# system: for machines where nothing can be installed. Neither pkg-config nor packages of CMake are
# asked, so that nothing of the system's is mixed in.
get_filename_component(STRATA_KIT "${STRATA_KIT}" ABSOLUTE BASE_DIR "${PROJECT_BINARY_DIR}")
set(kit_stamp "")
if(EXISTS "${STRATA_KIT}/KIT")
  file(STRINGS "${STRATA_KIT}/KIT" kit_stamp LIMIT_COUNT 1)
endif()
if(NOT kit_stamp STREQUAL "strata-kit 1 ${CMAKE_HOST_SYSTEM_PROCESSOR}")
  message(FATAL_ERROR "STRATA_KIT=${STRATA_KIT} is not a kit for this version of Strata on "
    "${CMAKE_HOST_SYSTEM_PROCESSOR} (its file KIT says \"${kit_stamp}\"): make one with tools/make-kit.sh "
    "and unpack it")
endif()
message(STATUS "dependencies of the kit ${STRATA_KIT}")

# strata_kit_target(NAME file.a... LINKS target...): the kit's headers, and libraries of it.
function(strata_kit_target name)
  cmake_parse_arguments(ARG "" "" "LINKS" ${ARGN})
  list(TRANSFORM ARG_UNPARSED_ARGUMENTS PREPEND ${STRATA_KIT}/lib/)
  add_library(${name} INTERFACE IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES ${STRATA_KIT}/include
    INTERFACE_LINK_LIBRARIES "${ARG_UNPARSED_ARGUMENTS};${ARG_LINKS}")
endfunction()

strata_kit_target(fmt::fmt)
set_target_properties(fmt::fmt PROPERTIES INTERFACE_COMPILE_DEFINITIONS FMT_HEADER_ONLY=1)
strata_kit_target(nlohmann_json::nlohmann_json)
strata_kit_target(CLI11::CLI11)
strata_kit_target(PkgConfig::liburing liburing.a)
strata_kit_target(strata::libaio libaio.a)
strata_kit_target(PkgConfig::xxhash libxxhash.so.0)
strata_kit_target(PkgConfig::hwloc libhwloc.a libudev.so.1 LINKS m Threads::Threads)
set(TOMLPLUSPLUS_INCLUDE_DIR ${STRATA_KIT}/include)
if(STRATA_TESTS)
  strata_kit_target(GTest::gtest libgtest.a LINKS Threads::Threads)
  strata_kit_target(GTest::gmock libgmock.a LINKS GTest::gtest)
  strata_kit_target(GTest::gmock_main libgmock_main.a LINKS GTest::gmock)
endif()

if(STRATA_TESTS)
  strata_kit_target(benchmark::benchmark libbenchmark.so.1debian LINKS Threads::Threads)
  strata_kit_target(benchmark::benchmark_main libbenchmark_main.a LINKS benchmark::benchmark)
endif()

# Several ranks by MPI are the system's affair; the bench beside oneDNN is not for machines with a kit.
if(STRATA_MPI STREQUAL "AUTO")
  set(STRATA_MPI OFF)
endif()
set(STRATA_HAS_GOOGLE_BENCHMARK ${STRATA_TESTS})
set(STRATA_HAS_DNNL FALSE)
