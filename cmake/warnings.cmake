# Flags that every target of ours gets, by linking strata::flags.
add_library(strata_flags INTERFACE)
add_library(strata::flags ALIAS strata_flags)
# OFF for compilers that CI does not have: theirs are other warnings, and what is to be found out there
# is something else.
option(STRATA_WARNINGS_ARE_ERRORS "Warnings of compilers are errors" ON)
set(strata_warnings
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough
  -fno-strict-aliasing)
if(STRATA_WARNINGS_ARE_ERRORS)
  list(APPEND strata_warnings -Werror)
endif()
# nvcc's own warnings, then those of the host compiler; what nvcc makes for that one is not pedantic.
# --fmad=false is -ffp-contract=off: a kernel says where it fuses (fmaf).
list(JOIN strata_warnings "," strata_cuda_warnings)
string(REPLACE ",-Wpedantic" "" strata_cuda_warnings ${strata_cuda_warnings})
string(CONCAT strata_cuda_flags "-Xcompiler=${strata_cuda_warnings}"
  " --Wdefault-stream-launch --expt-relaxed-constexpr --fmad=false")
if(STRATA_WARNINGS_ARE_ERRORS)
  string(PREPEND strata_cuda_flags "-Werror all-warnings ")
endif()
target_compile_options(strata_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:${strata_warnings}>"
  "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:${strata_cuda_flags}>")

set(STRATA_SANITIZE "" CACHE STRING "Sanitizers to build with: empty, address,undefined or thread")
if(STRATA_SANITIZE)
  target_compile_options(strata_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${STRATA_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  target_link_options(strata_flags INTERFACE -fsanitize=${STRATA_SANITIZE})
endif()
