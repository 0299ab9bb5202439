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

// 512 KiB of a tile's fp32 operand at most.
constexpr size_t kWidenedDepth = 256;

// `rows` x `depth` elements of an operand, as they lie in memory when it is transposed or not.
Matrix OperandPart(const std::byte* data, Transpose transpose, size_t rows, size_t first_depth,
                   size_t depth, size_t stride) {
  // As Matrix is for outputs, too, it points to mutable data.
  Matrix part{.data = const_cast<std::byte*>(data), .dtype = DType::kF16, .stride = stride};
  bool depth_is_columns = transpose == Transpose::kNo;
  part.data += first_depth * (depth_is_columns ? 1 : stride) * SizeOf(DType::kF16);
  part.rows = depth_is_columns ? rows : depth;
  part.cols = depth_is_columns ? depth : rows;
  return part;
}

// b is [depth, cols]: its depth lies in columns when it is transposed.
Transpose Other(Transpose transpose) {
  return transpose == Transpose::kNo ? Transpose::kYes : Transpose::kNo;
}

const float* Widen(const RowKernels& rows, const Matrix& from, std::vector<float>& buffer) {
  const size_t elements = from.rows * from.cols;
  if (buffer.size() < elements) buffer.resize(elements);
  rows.cast(from, DenseMatrix(reinterpret_cast<std::byte*>(buffer.data()), DType::kF32, from.rows,
                              from.cols));
  return buffer.data();
}

// What a piece of the depth is in fp32, its operands dense.
ProductShape WidenedShape(const ProductShape& shape, size_t depth, Output output) {
  ProductShape piece = shape;
  piece.dtype = DType::kF32;
  piece.output = output;
  piece.depth = depth;
  piece.stride_a = shape.transpose_a == Transpose::kNo ? depth : shape.rows;
  piece.stride_b = shape.transpose_b == Transpose::kNo ? shape.cols : depth;
  return piece;
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
  if (shape.dtype == DType::kF16) return CreateWidened(engine, shape);
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

Result<Product> Product::CreateWidened(const dnnl::engine& engine, const ProductShape& shape) {
  Product product(shape);
  const Cuts cuts{shape.depth, kWidenedDepth};
  for (const size_t i : {size_t{0}, size_t{1}, cuts.count() - 1}) {
    const Output output = i == 0 ? shape.output : Output::kAccumulate;
    const size_t depth = cuts.size(std::min(i, cuts.count() - 1));
    STRATA_ASSIGN_OR_RETURN(Product piece, Create(engine, WidenedShape(shape, depth, output)));
    product.pieces_.push_back(std::move(piece));
  }
  return product;
}

Status Product::RunWidened(ProductThread& thread, const std::byte* a, const std::byte* b,
                           float* out) const {
  const Cuts cuts{shape_.depth, kWidenedDepth};
  for (size_t i = 0; i < cuts.count(); ++i) {
    const Matrix part_a = OperandPart(a, shape_.transpose_a, shape_.rows, cuts.begin(i),
                                      cuts.size(i), shape_.stride_a);
    const Matrix part_b = OperandPart(b, Other(shape_.transpose_b), shape_.cols, cuts.begin(i),
                                      cuts.size(i), shape_.stride_b);
    const Product& piece = pieces_[i == 0 ? 0 : i + 1 < cuts.count() ? 1 : 2];
    STRATA_RETURN_IF_ERROR(piece.Run(thread, Widen(*thread.rows, part_a, thread.wide_a),
                                     Widen(*thread.rows, part_b, thread.wide_b), out));
  }
  return OkStatus();
}

Status Product::Run(ProductThread& thread, const void* a, const void* b, float* out) const {
  if (shape_.dtype == DType::kF16) {
    return RunWidened(thread, static_cast<const std::byte*>(a), static_cast<const std::byte*>(b),
                      out);
  }
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

ProductCache::ProductCache(uint32_t num_threads, const RowKernels& rows)
    : engine_(dnnl::engine::kind::cpu, 0) {
  for (uint32_t thread = 0; thread < num_threads; ++thread) threads_.emplace_back(engine_, rows);
}

Result<Product> ProductCache::Get(const ProductShape& shape) {
  if (const auto found = products_.find(shape); found != products_.end()) return found->second;
  STRATA_ASSIGN_OR_RETURN(Product product, Product::Create(engine_, shape));
  if (products_.size() >= kMaxProducts) products_.clear();
  products_.emplace(shape, product);
  return product;
}

}  // namespace strata::engine
