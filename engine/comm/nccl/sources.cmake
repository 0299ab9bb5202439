# What builds with CUDA compile instead of nccl_none.cc; relative to engine/comm.
set(STRATA_NCCL_SOURCES nccl/flights.cc nccl/gpu_meeting.cc nccl/link_gpus.cc nccl/nccl_comm.cc
  nccl/nccl_link.cc nccl/nccl_watch.cc nccl/node_sums.cc nccl/rank_sum.cu)
