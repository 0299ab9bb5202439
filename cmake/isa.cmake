# strata_isa_objects(PREFIX SOURCES a.cc ... LIBRARIES ...): compiles the sources once per instruction
# set into object libraries PREFIX_baseline, PREFIX_avx2, ... with STRATA_ISA naming the namespace.
# The list is the one of STRATA_ISAS in engine/kernels/isa.h. No contraction, so that each gives the
# same bits; no weak symbols may leave them (the linker could pick a copy the machine cannot run), a
# test looks.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(STRATA_ISAS baseline avx2 avx512)
else()
  set(STRATA_ISAS baseline)
endif()
set(STRATA_FLAGS_baseline "")
set(STRATA_FLAGS_avx2 -march=x86-64-v3)
set(STRATA_FLAGS_avx512 -march=x86-64-v4 -mprefer-vector-width=512)

function(strata_isa_objects PREFIX)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBRARIES" ${ARGN})
  foreach(isa ${STRATA_ISAS})
    add_library(${PREFIX}_${isa} OBJECT ${ARG_SOURCES})
    target_compile_definitions(${PREFIX}_${isa} PRIVATE STRATA_ISA=${isa})
    target_compile_options(${PREFIX}_${isa} PRIVATE ${STRATA_FLAGS_${isa}}
      -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off -Wno-psabi)
    target_link_libraries(${PREFIX}_${isa} PRIVATE ${ARG_LIBRARIES} strata::flags)
  endforeach()
endfunction()

# strata_isa_test(NAME folder PREFIX prefix): the test that looks. DW.ref.__gxx_personality_v0, which
# sanitizers bring, is a pointer, not code.
function(strata_isa_test)
  cmake_parse_arguments(ARG "" "NAME;PREFIX" "" ${ARGN})
  foreach(isa ${STRATA_ISAS})
    set(objects "$<JOIN:$<TARGET_OBJECTS:${ARG_PREFIX}_${isa}>, >")
    add_test(NAME ${ARG_NAME}.no_weak_symbols_${isa} COMMAND sh -c
      "! ${CMAKE_NM} --defined-only ${objects} | grep -v ' DW[.]ref[.]' | grep -E ' [WVu] '")
  endforeach()
endfunction()
