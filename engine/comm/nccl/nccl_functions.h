// The part of NCCL that is used, as a table: the library is loaded at run time, and a test can put
// another one in its place.
//
// Declared here and not by nccl.h, because CUDA's toolkits come without that file as often as with
// it, and these functions have been as they are since NCCL 2.14. A test compares them with an
// nccl.h where there is one.
#pragma once

#include <climits>
#include <cstddef>

#include "aio/base/status.h"

struct ncclComm;  // the library's own
struct CUstream_st;

namespace strata::engine {

enum class NcclResult : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

// Payloads are bytes to it: what adds them up is ours.
enum class NcclType : int { kByte = 1 };

struct NcclUniqueId {
  char bytes[128];
};

// ncclConfig_t as NCCL 2.14 had it; later ones fill in what they have added.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;
};

struct NcclFunctions {
  using Comm = ncclComm*;
  using Stream = CUstream_st*;

  NcclResult (*get_version)(int* version);
  NcclResult (*get_unique_id)(NcclUniqueId* id);
  NcclResult (*init_rank)(Comm* comm, int num_ranks, NcclUniqueId id, int rank, NcclConfig* config);
  NcclResult (*finalize)(Comm comm);
  NcclResult (*destroy)(Comm comm);
  NcclResult (*abort)(Comm comm);
  NcclResult (*get_async_error)(Comm comm, NcclResult* error);
  const char* (*get_error_string)(NcclResult result);
  const char* (*get_last_error)(Comm comm);  // null: of any
  NcclResult (*group_start)();
  NcclResult (*group_end)();
  NcclResult (*all_gather)(const void* from, void* to, size_t count, NcclType type, Comm comm,
                           Stream stream);
  NcclResult (*broadcast)(const void* from, void* to, size_t count, NcclType type, int root,
                          Comm comm, Stream stream);
  NcclResult (*send)(const void* from, size_t count, NcclType type, int peer, Comm comm,
                     Stream stream);
  NcclResult (*receive)(void* to, size_t count, NcclType type, int peer, Comm comm, Stream stream);
};

// The library of this machine (tiering/cuda_libraries.h says where it is looked for), which stays
// loaded. kUnavailable when it is missing, too old or too new: says what to do.
Result<NcclFunctions> LoadNccl();

}  // namespace strata::engine
