#include "engine/kernels/cuda/cublas_lt.h"

#include <fmt/format.h>

namespace strata::engine::cublas_lt {

Result<Library> Load(const tiering::LibraryPlaces& places) {
  STRATA_ASSIGN_OR_RETURN(const tiering::LoadedCudaLibrary loaded,
                          tiering::LoadCudaLibrary(tiering::kCublasLt, places));
  const DynamicLibrary& from = loaded.library;
  Table t = {};
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtGetStatusString", &t.status_string));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtCreate", &t.create));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtDestroy", &t.destroy));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatmulDescCreate", &t.product_create));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatmulDescDestroy", &t.product_destroy));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatmulDescSetAttribute", &t.product_set));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatrixLayoutCreate", &t.layout_create));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatrixLayoutDestroy", &t.layout_destroy));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatmulPreferenceCreate", &t.preference_create));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatmulPreferenceDestroy", &t.preference_destroy));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatmulPreferenceSetAttribute", &t.preference_set));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatmulAlgoGetHeuristic", &t.choose));
  STRATA_RETURN_IF_ERROR(from.Bind("cublasLtMatmul", &t.multiply));
  return Library{
      t, fmt::format("cuBLASLt {} ({})", tiering::VersionText(loaded.version), from.path())};
}

}  // namespace strata::engine::cublas_lt
