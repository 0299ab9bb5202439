// cuBLASLt's functions as plain loops on the emulated machine: defines cublas_lt::Load().
//
// Slow, and strict: what the library's documentation demands of its arguments is checked, and what
// our own rules demand of every product. What breaks one is complained of and fails the call.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/kernels/cuda/cublas_lt.h"

namespace strata::fakes::cuda {

struct CublasLtRecord {
  std::vector<std::string> complaints;
  uint64_t choices = 0;              // how often an algorithm was asked for
  uint64_t products = 0;             // and products were
  int64_t objects = 0;               // handles and descriptors that live
  std::vector<uint64_t> algorithms;  // of the products, in their order
};
CublasLtRecord& RecordOfCublasLt();

// The next call of this function of the table ("choose") fails so.
void FailNextOfCublasLt(const std::string& function, engine::cublas_lt::Error error);
// From now on there is no algorithm for anything, or again one for everything.
void SetCublasLtHasAlgorithms(bool has);

}  // namespace strata::fakes::cuda
