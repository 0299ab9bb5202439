#include <fmt/format.h>
#include <mpi.h>

#include "tools/probes.h"

namespace strata::tools {

std::string DescribeMpi() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "MPI: unknown version";
  std::string version(text, static_cast<size_t>(length));
  return fmt::format("MPI: {}; training uses one rank in this version",
                     version.substr(0, version.find(',')));
}

}  // namespace strata::tools
