# cmake -DROOT=source_tree -P layering.cmake: fails if a file includes what its layer may not know.
#
# The table is the law: a place (a layer, or a room of the engine) and what it may include besides
# itself and the headers of others. What is in an internal/ folder is for the folder around it and those below only.
cmake_minimum_required(VERSION 3.24)

set(below_prefetch aio/base aio tiering)
set(below_engine ${below_prefetch} prefetch)
set(below_optimizer_and_model ${below_engine} engine/kernels)
set(below_rooms ${below_optimizer_and_model} engine/optimizer engine/model)
set(below_train ${below_rooms} engine/data engine/checkpoint engine/config engine/zero engine/comm)
set(below_tools ${below_train} engine/train)

set(may_include_aio/base "")
set(may_include_aio aio/base)
set(may_include_aio/bench aio/base aio)
set(may_include_tiering aio/base aio)
set(may_include_prefetch ${below_prefetch})
set(may_include_engine/kernels ${below_engine})
set(may_include_engine/optimizer ${below_optimizer_and_model})
set(may_include_engine/model ${below_optimizer_and_model})
set(may_include_engine/data ${below_rooms})
set(may_include_engine/checkpoint ${below_rooms})
set(may_include_engine/config ${below_rooms})
set(may_include_engine/zero ${below_rooms})
set(may_include_engine/comm ${below_rooms})
set(may_include_engine/train ${below_train})
set(may_include_tools ${below_tools} aio/bench)

set(breaches "")

# The place of a path: the rooms of aio and of the engine have two parts, the others one.
function(place_of path result)
  if(path MATCHES "^(aio/base|aio/bench|engine/[^/]+|[^/]+)/")
    set(${result} ${CMAKE_MATCH_1} PARENT_SCOPE)
  else()
    set(${result} "" PARENT_SCOPE)
  endif()
endfunction()

function(report file include why)
  set(breaches "${breaches}\n  ${file} includes ${include}: ${why}" PARENT_SCOPE)
endfunction()

macro(check_include file include)
  place_of(${file} from)
  place_of(${include} to)
  string(REGEX REPLACE "/(internal/)?[^/]*$" "" folder ${file})
  string(REGEX REPLACE "/internal/.*$" "" owner ${include})
  if(NOT DEFINED may_include_${from})
    report(${file} ${include} "${from} is not a place that tests/layering.cmake knows: add it there")
  elseif(NOT DEFINED may_include_${to})
    report(${file} ${include} "not the path of a header from the root of the tree")
  elseif(NOT to STREQUAL from AND NOT to IN_LIST may_include_${from})
    report(${file} ${include} "${from} may not know ${to}")
  elseif("${include}" MATCHES "/internal/" AND NOT "${folder}/" MATCHES "^${owner}/")
    report(${file} ${include} "internal to ${owner}")
  endif()
endmacro()

foreach(layer aio tiering prefetch engine tools)
  file(GLOB_RECURSE layer_files RELATIVE ${ROOT}
    ${ROOT}/${layer}/*.h ${ROOT}/${layer}/*.cc ${ROOT}/${layer}/*.cu)
  list(APPEND files ${layer_files})
endforeach()
list(LENGTH files num_files)
if(num_files EQUAL 0)
  message(FATAL_ERROR "no source files in '${ROOT}': give the root of the tree as ROOT")
endif()

# Quoted includes are ours; so are those in angle brackets that begin with a layer.
set(our_include "^[ \t]*#[ \t]*include[ \t]*(\"|<(aio|tiering|prefetch|engine|tools|tests)/)")
foreach(file ${files})
  file(STRINGS ${ROOT}/${file} lines REGEX "${our_include}")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[^\"<]*[\"<]([^\">]*)[\">].*$" "\\1" include "${line}")
    check_include(${file} ${include})
  endforeach()
endforeach()

if(breaches)
  message(FATAL_ERROR "includes that break the order of the layers:${breaches}")
endif()
message(STATUS "${num_files} files keep to their layers")
