# Flags that every target of ours gets, by linking strata::flags.
add_library(strata_flags INTERFACE)
add_library(strata::flags ALIAS strata_flags)
target_compile_options(strata_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough
  -Werror -fno-strict-aliasing)

set(STRATA_SANITIZE "" CACHE STRING "Sanitizers to build with: empty, address,undefined or thread")
if(STRATA_SANITIZE)
  target_compile_options(strata_flags INTERFACE
    -fsanitize=${STRATA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(strata_flags INTERFACE -fsanitize=${STRATA_SANITIZE})
endif()
