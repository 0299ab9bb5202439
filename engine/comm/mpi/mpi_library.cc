#include "engine/comm/mpi/mpi_library.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <cstdlib>

namespace strata::engine {
namespace {

std::atomic<int> g_users = 0;
std::atomic<bool> g_broken = false;

void EndMpi() {
  if (g_users == 0 && !g_broken) MPI_Finalize();
}

// The library, asked to start in a process that its runtime did not start, makes it a world of one.
Status CheckStartedByRuntime(const RankEnvironment& environment) {
  if (environment.is_under_mpi) return OkStatus();
  const bool is_slurm = environment.world_size_variable == "SLURM_NTASKS";
  return Unavailable(fmt::format(
      "this rank was not started under MPI's runtime, so it cannot find the others: "
      "{}start the job with 'strata launch' or mpirun, or set MASTER_ADDR for all ranks "
      "to the machine of rank 0",
      is_slurm ? "use 'srun --mpi=pmix', or " : ""));
}

Status Init() {
  int provided = MPI_THREAD_SINGLE;
  STRATA_RETURN_IF_ERROR(
      MpiStatus(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "start MPI"));
  STRATA_RETURN_IF_ERROR(MpiStatus(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
                                   "set MPI's error handler"));
  if (std::atexit(&EndMpi) != 0) return Internal("no room for what ends MPI at exit");
  if (provided == MPI_THREAD_MULTIPLE) return OkStatus();
  return Unavailable(
      fmt::format("{} was built without MPI_THREAD_MULTIPLE, and the lanes of a step call it from "
                  "several threads: install one that has it",
                  DescribeMpiLibrary()));
}

Status CheckPlace(const RankEnvironment& environment) {
  int rank = 0;
  int size = 0;
  STRATA_RETURN_IF_ERROR(MpiStatus(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "find this rank"));
  STRATA_RETURN_IF_ERROR(MpiStatus(MPI_Comm_size(MPI_COMM_WORLD, &size), "find the world's size"));
  const bool is_right = static_cast<uint32_t>(rank) == environment.rank &&
                        static_cast<uint32_t>(size) == environment.world_size;
  if (is_right) return OkStatus();
  return InvalidArgument(fmt::format(
      "{} says rank {} of {}, and MPI says rank {} of {}: unset the variables of the "
      "launcher that did not start this process",
      environment.world_size_variable, environment.rank, environment.world_size, rank, size));
}

}  // namespace

Status MpiStatus(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return OkStatus();
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) length = 0;
  return Status(Code::kIoError,
                fmt::format("{}: {}", what,
                            length > 0 ? std::string_view(text.data(), static_cast<size_t>(length))
                                       : "unknown MPI error"));
}

Status StartMpi(const RankEnvironment& environment) {
  int is_started = 0;
  int is_ended = 0;
  MPI_Initialized(&is_started);
  MPI_Finalized(&is_ended);
  if (is_ended || g_broken)
    return FailedPrecondition("MPI has ended in this process and cannot be started again");
  if (!is_started) {
    STRATA_RETURN_IF_ERROR(CheckStartedByRuntime(environment));
    STRATA_RETURN_IF_ERROR(Init());
  }
  STRATA_RETURN_IF_ERROR(CheckPlace(environment));
  ++g_users;
  return OkStatus();
}

void LeaveMpi() { --g_users; }
void SetMpiBroken() { g_broken = true; }
bool IsMpiBroken() { return g_broken; }

std::string DescribeMpiLibrary() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text = {};
  int length = 0;
  if (MPI_Get_library_version(text.data(), &length) != MPI_SUCCESS) return "MPI, unknown version";
  const std::string_view version(text.data(), static_cast<size_t>(length));
  return std::string(version.substr(0, version.find_first_of(",\n")));
}

}  // namespace strata::engine
