# What builds with CUDA compile instead of cuda_adam_none.cc; relative to engine/optimizer.
set(STRATA_CUDA_OPTIMIZER_SOURCES cuda/adam.cu)
