# cmake -DBUILD=... -DSOURCE=... -DSCRATCH=folder ... -P install_test.cmake: installs a build, moves
# the tree, and does what its users do: find_package, build the example of docs/, run it.
cmake_minimum_required(VERSION 3.24)

set(tree ${SCRATCH}/moved)
set(example ${SCRATCH}/example)
set(file ${SCRATCH}/file)

# expect(EXIT "text" command...): runs the command; it must exit so, and its output match the text.
function(expect exit_code text)
  execute_process(COMMAND ${ARGN}
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " line "${output}")
  if(NOT result STREQUAL exit_code OR NOT line MATCHES "${text}")
    string(JOIN " " command ${ARGN})
    message(FATAL_ERROR "${command}\nexpected exit ${exit_code} and '${text}', got exit ${result}:\n"
      "${output}")
  endif()
endfunction()

function(install_and_move)
  file(REMOVE_RECURSE ${SCRATCH})
  expect(0 "" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${SCRATCH}/installed)
  file(RENAME ${SCRATCH}/installed ${tree})
  expect(0 "^strata [0-9]" ${tree}/bin/strata version)
  if(HAS_MPI)
    expect(0 " MPI: [A-Z]" ${tree}/bin/strata version)  # the plugin is found and loads
    file(RENAME ${tree}/lib ${tree}/gone)
    expect(0 "no MPI: the MPI plugin is missing: looked for ${tree}/bin/" ${tree}/bin/strata version)
    file(RENAME ${tree}/gone ${tree}/lib)
  endif()
endfunction()

# Whether the file tells where or how it was built. A program's debug information does, as do all
# symbols of a Debug build; what others compile and link otherwise does not.
function(check_that_it_keeps_quiet path)
  if(path STREQUAL "bin/strata" OR (BUILD_TYPE STREQUAL "Debug" AND path MATCHES "[.](a|so)$"))
    return()
  endif()
  file(STRINGS ${tree}/${path} places REGEX "${SOURCE}|${BUILD}")
  set(flags "")
  if(path MATCHES "[.]cmake$")
    file(STRINGS ${tree}/${path} flags REGEX "-Wall|-fsanitize|strata_flags")
  endif()
  if(places OR flags)
    message(FATAL_ERROR "${path} tells how it was built: ${places} ${flags}")
  endif()
endfunction()

function(check_what_is_in_the_tree)
  file(GLOB_RECURSE paths RELATIVE ${tree} ${tree}/*)
  if(NOT "include/strata/aio/io_engine.h" IN_LIST paths)
    message(FATAL_ERROR "no include/strata/aio/io_engine.h among ${paths}")
  endif()
  foreach(path ${paths})
    if(path MATCHES "/internal/|/bench/")
      message(FATAL_ERROR "${path} is not for others")
    endif()
    check_that_it_keeps_quiet(${path})
  endforeach()
endfunction()

function(configure source binary exit_code text)
  set(flags "-Wall -Wextra -Wpedantic -Wshadow -Werror")
  if(SANITIZE)
    set(flags "${flags} -fsanitize=${SANITIZE} -fno-sanitize-recover=all")
  endif()
  expect(${exit_code} "${text}" ${CMAKE_COMMAND} -S ${source} -B ${binary} -G ${GENERATOR}
    -DCMAKE_PREFIX_PATH=${tree} -DCMAKE_BUILD_TYPE=${BUILD_TYPE} -DCMAKE_CXX_COMPILER=${COMPILER}
    -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER} -DCMAKE_CXX_FLAGS=${flags})
endfunction()

function(check_that_what_there_is_not_is_refused)
  file(WRITE ${SCRATCH}/other/CMakeLists.txt "
    cmake_minimum_required(VERSION 3.24)
    project(other LANGUAGES NONE)
    find_package(Strata REQUIRED COMPONENTS aio tiering)")
  configure(${SCRATCH}/other ${SCRATCH}/other/build 1
    "Strata has no component 'tiering'. There is one: aio")
  file(WRITE ${SCRATCH}/newer/CMakeLists.txt "
    cmake_minimum_required(VERSION 3.24)
    project(newer LANGUAGES NONE)
    find_package(Strata 99 REQUIRED)")
  configure(${SCRATCH}/newer ${SCRATCH}/newer/build 1 "compatible with requested version \"99\"")
endfunction()

function(run_the_example)
  expect(0 "^written [0-9.]+ GB/s read [0-9.]+ GB/s $" ${example}/write_and_read ${file})
  expect(1 "^error: already exists: open ${file}: File exists" ${example}/write_and_read ${file})
  file(REMOVE ${file})
  expect(1 "^error: not found: open ${SCRATCH}/nowhere/file: No such file"
    ${example}/write_and_read ${SCRATCH}/nowhere/file)
  expect(1 "^error: .*usage: write_and_read FILE" ${example}/write_and_read)
endfunction()

install_and_move()
check_what_is_in_the_tree()
check_that_what_there_is_not_is_refused()
configure(${SOURCE}/docs/examples/aio ${example} 0 "")
expect(0 "" ${CMAKE_COMMAND} --build ${example})
run_the_example()
file(REMOVE_RECURSE ${SCRATCH})
