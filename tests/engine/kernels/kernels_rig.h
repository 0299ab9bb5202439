// Which kernels a program's tests are of: those of the host's cores, or of a GPU, emulated or real.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/kernels/kernels.h"

namespace strata::engine {

// Why this machine has no such kernels; empty when it has, or must have by STRATA_REQUIRE.
std::string MissingForTestKernels();
// They take operands in host memory, whatever the device.
std::unique_ptr<Kernels> MakeTestKernels();
// One of each kind: on the host's cores one per instruction set.
std::vector<std::unique_ptr<Kernels>> MakeAllTestKernels();

// A fixture of the kernels of this program.
template <typename Base>
class WithTestKernels : public Base {
 protected:
  void SetUp() override {
    if (const std::string missing = MissingForTestKernels(); !missing.empty())
      GTEST_SKIP() << missing;
    kernels_ = MakeTestKernels();
  }

  std::unique_ptr<Kernels> kernels_;
};

}  // namespace strata::engine
