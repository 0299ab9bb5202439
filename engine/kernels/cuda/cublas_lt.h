// The functions of cuBLASLt that are used here, as a table that is filled at run time.
//
// The library's own headers are not needed to compile: what of its binary interface is used (from
// 12.0 on without change) is declared here, and held to those headers where they are
// (cublas_lt_abi_test.cc). So products are built, and tested with a table of stand-ins, everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "aio/base/status.h"
#include "tiering/cuda_libraries.h"

namespace strata::engine::cublas_lt {

using Error = int;  // cublasStatus_t; 0 is success
inline constexpr Error kSuccess = 0;
inline constexpr Error kNotSupported = 15;

// Whatever the library has behind a handle.
struct Context;
struct ProductDescriptor;
struct LayoutDescriptor;
struct PreferenceDescriptor;
using Handle = Context*;
using Product = ProductDescriptor*;
using Layout = LayoutDescriptor*;
using Preference = PreferenceDescriptor*;

enum class DataType : int { kF32 = 0, kF16 = 2, kBf16 = 14 };
// Sums in fp32, of fp32 operands as they are.
enum class ComputeType : int { kF32 = 68 };
enum class Operation : int32_t { kNone = 0, kTranspose = 1 };

enum class ProductAttribute : int { kTransposeA = 3, kTransposeB = 4 };
// Bits of what one product may be split along its depth by: how the parts come together.
inline constexpr uint32_t kReducedInComputeType = 2;  // in fp32, in the workspace, in a fixed order
enum class PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,
  kReductionSchemes = 3,
  kAlignmentA = 5,
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8,
  kImplementations = 12,
};
// Bits of what an implementation does to operands and sums.
inline constexpr uint64_t kSumsInF16 = uint64_t{1} << 8;
inline constexpr uint64_t kOperandsAsF16 = uint64_t{1} << 16;
inline constexpr uint64_t kOperandsAsBf16 = uint64_t{2} << 16;
inline constexpr uint64_t kOperandsAsTf32 = uint64_t{4} << 16;

struct Algorithm {
  uint64_t data[8];
};
struct Choice {
  Algorithm algorithm;
  size_t workspace_bytes;
  Error state;
  float waves;
  int reserved[4];
};

// cuBLASLt's matrices are column-major. `stream` is a cudaStream_t.
struct Table {
  const char* (*status_string)(Error);
  Error (*create)(Handle*);
  Error (*destroy)(Handle);
  Error (*product_create)(Product*, ComputeType, DataType scale_type);
  Error (*product_destroy)(Product);
  Error (*product_set)(Product, ProductAttribute, const void*, size_t);
  Error (*layout_create)(Layout*, DataType, uint64_t rows, uint64_t cols, int64_t stride);
  Error (*layout_destroy)(Layout);
  Error (*preference_create)(Preference*);
  Error (*preference_destroy)(Preference);
  Error (*preference_set)(Preference, PreferenceAttribute, const void*, size_t);
  Error (*choose)(Handle, Product, Layout a, Layout b, Layout c, Layout d, Preference,
                  int requested, Choice*, int* returned);
  Error (*multiply)(Handle, Product, const void* alpha, const void* a, Layout, const void* b,
                    Layout, const void* beta, const void* c, Layout, void* d, Layout,
                    const Algorithm*, void* workspace, size_t workspace_bytes, void* stream);
};

struct Library {
  Table table;
  std::string name;  // "cuBLASLt 13.1.0 (/usr/local/cuda/lib64/libcublasLt.so.13)"
};

// kUnavailable as LoadCudaLibrary() has it.
Result<Library> Load(const tiering::LibraryPlaces& places = tiering::LibraryPlaces::Standard());

}  // namespace strata::engine::cublas_lt
