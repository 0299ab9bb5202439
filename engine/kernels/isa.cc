#include "engine/kernels/isa.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstddef>
#include <cstdlib>

namespace strata::engine {
namespace {

size_t CountHere() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("x86-64-v3")) return 1;
  return __builtin_cpu_supports("x86-64-v4") ? 3 : 2;
#else
  return 1;
#endif
}

const char* Limit() { return std::getenv("STRATA_MAX_ISA"); }

}  // namespace

std::span<const std::string_view> InstructionSets() {
#define STRATA_NAME(name) #name,
  static constexpr auto kNames = std::to_array<std::string_view>({STRATA_ISAS(STRATA_NAME)});
#undef STRATA_NAME
  static const size_t num_here = CountHere();
  static const char* const limit = Limit();
  for (size_t i = 0; limit != nullptr && i < num_here; ++i)
    if (kNames[i] == limit) return std::span(kNames).first(i + 1);
  return std::span(kNames).first(num_here);
}

Status CheckInstructionSetLimit() {
  const char* limit = Limit();
  if (limit == nullptr || InstructionSets().back() == limit) return OkStatus();
  return InvalidArgument(fmt::format(
      "environment variable STRATA_MAX_ISA='{}' is none of the instruction sets that this program "
      "has and this machine runs: {}; unset it",
      limit, fmt::join(InstructionSets(), ", ")));
}

}  // namespace strata::engine
