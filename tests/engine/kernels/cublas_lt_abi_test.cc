// engine/kernels/cuda/cublas_lt.h against the library's own header, and against the library.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "engine/kernels/cuda/cublas_lt.h"

namespace strata::engine::cublas_lt {
namespace {

template <typename Ours, typename Theirs>
constexpr bool Same(Ours ours, Theirs theirs) {
  return sizeof(Ours) == sizeof(Theirs) &&
         static_cast<int64_t>(ours) == static_cast<int64_t>(theirs);
}

static_assert(Same(kSuccess, CUBLAS_STATUS_SUCCESS));
static_assert(Same(kNotSupported, CUBLAS_STATUS_NOT_SUPPORTED));
static_assert(Same(DataType::kF32, CUDA_R_32F));
static_assert(Same(DataType::kF16, CUDA_R_16F));
static_assert(Same(DataType::kBf16, CUDA_R_16BF));
static_assert(Same(ComputeType::kF32, CUBLAS_COMPUTE_32F));
static_assert(Same(Operation::kNone, CUBLAS_OP_N));
static_assert(Same(Operation::kTranspose, CUBLAS_OP_T));
static_assert(Same(ProductAttribute::kTransposeA, CUBLASLT_MATMUL_DESC_TRANSA));
static_assert(Same(ProductAttribute::kTransposeB, CUBLASLT_MATMUL_DESC_TRANSB));
static_assert(kReducedInComputeType == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
static_assert(Same(PreferenceAttribute::kMaxWorkspaceBytes,
                   CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES));
static_assert(Same(PreferenceAttribute::kReductionSchemes,
                   CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK));
static_assert(Same(PreferenceAttribute::kAlignmentA, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES));
static_assert(Same(PreferenceAttribute::kAlignmentB, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES));
static_assert(Same(PreferenceAttribute::kAlignmentC, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES));
static_assert(Same(PreferenceAttribute::kAlignmentD, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES));
static_assert(Same(PreferenceAttribute::kImplementations, CUBLASLT_MATMUL_PREF_IMPL_MASK));
static_assert(kSumsInF16 == CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F);
static_assert(kOperandsAsF16 == CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F);
static_assert(kOperandsAsBf16 == CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF);
static_assert(kOperandsAsTf32 == CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32);
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(Choice) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(Choice, workspace_bytes) ==
              offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(Choice, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));

// The functions of the header can be called as the table calls them: every parameter is as large.
template <typename... Ours, typename... Theirs>
constexpr bool SameCall(Error (*)(Ours...), cublasStatus_t (*)(Theirs...)) {
  if constexpr (sizeof...(Ours) == sizeof...(Theirs)) {
    return ((sizeof(Ours) == sizeof(Theirs) &&
             std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>)&&...);
  }
  return false;
}
constexpr Table kNone = {};
static_assert(SameCall(kNone.create, decltype (&cublasLtCreate)(nullptr)));
static_assert(SameCall(kNone.destroy, decltype (&cublasLtDestroy)(nullptr)));
static_assert(SameCall(kNone.product_create, decltype (&cublasLtMatmulDescCreate)(nullptr)));
static_assert(SameCall(kNone.product_destroy, decltype (&cublasLtMatmulDescDestroy)(nullptr)));
static_assert(SameCall(kNone.product_set, decltype (&cublasLtMatmulDescSetAttribute)(nullptr)));
static_assert(SameCall(kNone.layout_create, decltype (&cublasLtMatrixLayoutCreate)(nullptr)));
static_assert(SameCall(kNone.layout_destroy, decltype (&cublasLtMatrixLayoutDestroy)(nullptr)));
static_assert(SameCall(kNone.preference_create,
                       decltype (&cublasLtMatmulPreferenceCreate)(nullptr)));
static_assert(SameCall(kNone.preference_destroy,
                       decltype (&cublasLtMatmulPreferenceDestroy)(nullptr)));
static_assert(SameCall(kNone.preference_set,
                       decltype (&cublasLtMatmulPreferenceSetAttribute)(nullptr)));
static_assert(SameCall(kNone.choose, decltype (&cublasLtMatmulAlgoGetHeuristic)(nullptr)));
static_assert(SameCall(kNone.multiply, decltype (&cublasLtMatmul)(nullptr)));

TEST(CublasLtTest, TheLibraryOfThisMachineHasAllFunctionsAndMakesDescriptors) {
  const Result<Library> library = Load();
  if (!library.ok()) {
    const char* required = std::getenv("STRATA_REQUIRE");
    if (required != nullptr && std::string(required).find("gpu") != std::string::npos)
      FAIL() << library.status().ToString();
    GTEST_SKIP() << library.status().ToString();
  }
  // What needs no GPU.
  const Table& table = library->table;
  Product product = nullptr;
  ASSERT_EQ(table.product_create(&product, ComputeType::kF32, DataType::kF32), kSuccess);
  const Operation transpose = Operation::kTranspose;
  EXPECT_EQ(table.product_set(product, ProductAttribute::kTransposeB, &transpose, sizeof transpose),
            kSuccess);
  EXPECT_EQ(table.product_destroy(product), kSuccess);
  Layout layout = nullptr;
  ASSERT_EQ(table.layout_create(&layout, DataType::kBf16, 3, 4, 5), kSuccess);
  EXPECT_EQ(table.layout_destroy(layout), kSuccess);
  Preference preference = nullptr;
  ASSERT_EQ(table.preference_create(&preference), kSuccess);
  const uint64_t workspace_bytes = 1 << 20;
  EXPECT_EQ(table.preference_set(preference, PreferenceAttribute::kMaxWorkspaceBytes,
                                 &workspace_bytes, sizeof workspace_bytes),
            kSuccess);
  const uint32_t no_long = 1;
  EXPECT_NE(table.preference_set(preference, PreferenceAttribute::kMaxWorkspaceBytes, &no_long,
                                 sizeof no_long),
            kSuccess);
  EXPECT_EQ(table.preference_destroy(preference), kSuccess);
  EXPECT_NE(std::string(table.status_string(kNotSupported)), "");
}

}  // namespace
}  // namespace strata::engine::cublas_lt
