// Stands in for the project's header of the same name, which has PTX.
#pragma once

#include <mma.h>

namespace strata::engine::cuda {

template <typename Fragment>
void LoadFragment(Fragment& to, const typename Fragment::element_type* from, unsigned stride) {
  nvcuda::wmma::load_matrix_sync(to, from, stride);
}

}  // namespace strata::engine::cuda
