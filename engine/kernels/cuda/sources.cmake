# What builds with CUDA compile instead of cuda_kernels_none.cc; relative to engine/kernels.
set(STRATA_CUDA_KERNEL_SOURCES
  cuda/convert.cu cuda/cross_entropy.cu cuda/embedding.cu cuda/launch.cc cuda/rms_norm.cu cuda/rope.cu
  cuda/row_kernels.cc cuda/squares.cu cuda/swiglu.cu)
