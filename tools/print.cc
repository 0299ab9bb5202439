#include "tools/print.h"

#include <cerrno>

namespace strata::tools {
namespace {

int first_error = 0;

}  // namespace

void PrintText(std::string_view text) {
  bool ok = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  ok = std::fflush(stdout) == 0 && ok;
  if (!ok && first_error == 0) first_error = errno;
}

Status CheckOutput() {
  return first_error == 0 ? OkStatus() : ErrnoStatus(first_error, "write to stdout");
}

}  // namespace strata::tools
