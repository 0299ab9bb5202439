# What builds with CUDA compile instead of cuda_kernels_none.cc; relative to engine/kernels.
set(STRATA_CUDA_KERNEL_SOURCES
  cuda/attention.cc cuda/attention_backward.cu cuda/attention_forward.cu cuda/attention_plain.cu
  cuda/convert.cu cuda/cross_entropy.cu cuda/embedding.cu cuda/launch.cc cuda/plain_product.cu cuda/rms_norm.cu cuda/rope.cu
  cuda/row_kernels.cc cuda/squares.cu cuda/swiglu.cu cuda_kernels.cc)
