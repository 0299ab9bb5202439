#include "engine/kernels/internal/product.h"

#include <fmt/format.h>
#include <omp.h>

#include <unordered_map>

namespace strata::engine {
namespace {

using dnnl::memory;

memory::data_type TypeOf(DType dtype) {
  return dtype == DType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
}

memory::desc Describe(size_t rows, size_t cols, DType dtype, Transpose transpose, size_t stride) {
  const auto step = static_cast<memory::dim>(stride);
  return memory::desc({static_cast<memory::dim>(rows), static_cast<memory::dim>(cols)},
                      TypeOf(dtype),
                      transpose == Transpose::kNo ? memory::dims{step, 1} : memory::dims{1, step});
}

dnnl::primitive_attr Attributes(Output output) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (output == Output::kAccumulate) {
    dnnl::post_ops post_ops;
    post_ops.append_sum(1.0f);
    attributes.set_post_ops(post_ops);
  }
  return attributes;
}

Status Failure(const ProductShape& shape, const dnnl::error& error) {
  return Internal(fmt::format("oneDNN product {} [{} x {}] * [{} x {}]: {} (status {})",
                              DTypeName(shape.dtype), shape.rows, shape.depth, shape.depth,
                              shape.cols, error.what(), static_cast<int>(error.status)));
}

}  // namespace

Product::Product(const dnnl::matmul::primitive_desc& description, const ProductShape& shape)
    : primitive_(description),
      a_(description.src_desc()),
      b_(description.weights_desc()),
      out_(description.dst_desc()),
      scratch_(description.scratchpad_desc()),
      engine_(description.get_engine()),
      shape_(shape) {}

Result<Product> Product::Create(const dnnl::engine& engine, const ProductShape& shape) {
  omp_set_num_threads(1);  // of the calling thread; what is prepared depends on it, too
  try {
    const dnnl::matmul::desc operation(
        Describe(shape.rows, shape.depth, shape.dtype, shape.transpose_a, shape.stride_a),
        Describe(shape.depth, shape.cols, shape.dtype, shape.transpose_b, shape.stride_b),
        Describe(shape.rows, shape.cols, DType::kF32, Transpose::kNo, shape.stride_out));
    return Product({operation, Attributes(shape.output), engine}, shape);
  } catch (const dnnl::error& error) {
    return Failure(shape, error);
  }
}

Status Product::Run(ProductThread& thread, const void* a, const void* b, float* out) const {
  omp_set_num_threads(1);
  try {
    if (thread.scratch.size() < scratch_.get_size()) thread.scratch.resize(scratch_.get_size());
    // oneDNN's memory objects take pointers to mutable data for inputs, too.
    primitive_.execute(thread.stream,
                       {{DNNL_ARG_SRC, memory(a_, engine_, const_cast<void*>(a))},
                        {DNNL_ARG_WEIGHTS, memory(b_, engine_, const_cast<void*>(b))},
                        {DNNL_ARG_DST, memory(out_, engine_, out)},
                        {DNNL_ARG_SCRATCHPAD, memory(scratch_, engine_, thread.scratch.data())}});
    return OkStatus();
  } catch (const dnnl::error& error) {
    return Failure(shape_, error);
  }
}

ProductCache::ProductCache(uint32_t num_threads) : engine_(dnnl::engine::kind::cpu, 0) {
  for (uint32_t thread = 0; thread < num_threads; ++thread) threads_.emplace_back(engine_);
}

Result<Product> ProductCache::Get(const ProductShape& shape) {
  if (const auto found = products_.find(shape); found != products_.end()) return found->second;
  STRATA_ASSIGN_OR_RETURN(Product product, Product::Create(engine_, shape));
  if (products_.size() >= kMaxProducts) products_.clear();
  products_.emplace(shape, product);
  return product;
}

}  // namespace strata::engine
