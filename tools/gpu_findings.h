// What strata doctor says of GPUs, their driver and the libraries of CUDA.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "aio/base/status.h"
#include "aio/preflight.h"
#include "tiering/copy_rates.h"
#include "tiering/cuda_device.h"
#include "tiering/cuda_libraries.h"
#include "tiering/gpu_driver.h"

namespace strata::tools {

struct GpuFacts {
  Result<tiering::GpuDriver> driver;
  Result<std::vector<tiering::CudaGpu>> gpus;  // as CUDA shows them to this process
  // By the GPU's PCI bus id; where they could be measured.
  std::map<std::string, tiering::CopyRates> copies = {};
};
// Of this machine; measures copies of 256 MiB on GPUs that have as much free.
GpuFacts LookAtGpus();

// "GPUs", then each one by its name. Without one training runs on the cpu device, which is said and
// no problem.
std::vector<aio::Preflight> GpuFindings(const GpuFacts& facts);

// A library and its copies on this machine, the first good one is taken.
struct LibraryFacts {
  const tiering::CudaLibrary* library = nullptr;
  std::vector<tiering::LibraryCopy> copies = {};
};
std::vector<LibraryFacts> LookAtCudaLibraries();
// A missing one is a problem only where there is a GPU for it.
aio::Preflight LibraryFindings(std::span<const LibraryFacts> libraries, size_t num_gpus);

}  // namespace strata::tools
