# What builds with CUDA compile instead of cuda_device_none.cc.
set(STRATA_CUDA_TIERING_SOURCES cuda_device.cc internal/cuda_events.cc internal/cuda_stream.cc)
