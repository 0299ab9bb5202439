#include "engine/kernels/isa.h"

#include <array>
#include <cstddef>

namespace strata::engine {
namespace {

size_t CountSupported() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("x86-64-v3")) return 1;
  return __builtin_cpu_supports("x86-64-v4") ? 3 : 2;
#else
  return 1;
#endif
}

}  // namespace

std::span<const std::string_view> InstructionSets() {
#define STRATA_NAME(name) #name,
  static constexpr auto kNames = std::to_array<std::string_view>({STRATA_ISAS(STRATA_NAME)});
#undef STRATA_NAME
  static const size_t num_supported = CountSupported();
  return std::span(kNames).first(num_supported);
}

}  // namespace strata::engine
