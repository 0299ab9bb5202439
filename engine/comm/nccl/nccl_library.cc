#include "engine/comm/nccl/nccl_functions.h"
#include "tiering/cuda_libraries.h"

namespace strata::engine {

Result<NcclFunctions> LoadNccl() {
  STRATA_ASSIGN_OR_RETURN(const tiering::LoadedCudaLibrary nccl,
                          tiering::LoadCudaLibrary(tiering::kNccl));
  NcclFunctions functions = {};
  const DynamicLibrary& library = nccl.library;
  STRATA_RETURN_IF_ERROR(library.Bind("ncclGetVersion", &functions.get_version));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclGetUniqueId", &functions.get_unique_id));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclCommInitRankConfig", &functions.init_rank));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclCommFinalize", &functions.finalize));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclCommDestroy", &functions.destroy));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclCommAbort", &functions.abort));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclCommGetAsyncError", &functions.get_async_error));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclGetErrorString", &functions.get_error_string));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclGetLastError", &functions.get_last_error));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclGroupStart", &functions.group_start));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclGroupEnd", &functions.group_end));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclAllGather", &functions.all_gather));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclBroadcast", &functions.broadcast));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclSend", &functions.send));
  STRATA_RETURN_IF_ERROR(library.Bind("ncclRecv", &functions.receive));
  return functions;
}

}  // namespace strata::engine
