# What builds with CUDA compile instead of cuda_kernels_none.cc; relative to engine/kernels.
set(STRATA_CUDA_KERNEL_SOURCES cuda/launch.cc)
