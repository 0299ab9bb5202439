// Matrix products of one tile on one thread, by oneDNN.
//
// oneDNN would split the work by the number of its OpenMP threads; here every thread of ours calls
// it for tiles of ours with OpenMP held to one thread, so that a tile's bits depend on its shape
// and values alone.
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <vector>

#include "aio/base/status.h"
#include "aio/base/units.h"
#include "engine/kernels/internal/row_kernels.h"
#include "engine/kernels/kernels.h"

namespace strata::engine {

// out [rows, cols] = or += op(a) [rows, depth] * op(b) [depth, cols]; out is fp32.
struct ProductShape {
  DType dtype = DType::kF32;  // of a and b
  Transpose transpose_a = Transpose::kNo;
  Transpose transpose_b = Transpose::kNo;
  Output output = Output::kOverwrite;
  size_t rows = 0, cols = 0, depth = 0;
  size_t stride_a = 0, stride_b = 0, stride_out = 0;

  auto operator<=>(const ProductShape&) const = default;
};

// What oneDNN needs per thread.
struct ProductThread {
  ProductThread(const dnnl::engine& engine, const RowKernels& rows_in)
      : stream(engine), rows(&rows_in) {}
  dnnl::stream stream;
  const RowKernels* rows;
  std::vector<float> wide_a, wide_b;  // fp16 operands on their way into a product
  std::vector<std::byte> scratch;     // grows to the largest product's need, well below 1 MiB
};

// A shape prepared. oneDNN has no fp16 on most processors: such operands are made fp32 piece by
// piece of the depth, which costs cache, not arena, and rounds nothing. Copies are cheap and share;
// any number of threads may run one at a time.
class Product {
 public:
  static Result<Product> Create(const dnnl::engine& engine, const ProductShape& shape);

  Status Run(ProductThread& thread, const void* a, const void* b, float* out) const;

 private:
  Product(const dnnl::matmul::primitive_desc& description, const ProductShape& shape);
  explicit Product(const ProductShape& shape) : shape_(shape) {}

  static Result<Product> CreateWidened(const dnnl::engine& engine, const ProductShape& shape);
  Status RunWidened(ProductThread& thread, const std::byte* a, const std::byte* b,
                    float* out) const;

  dnnl::matmul primitive_;
  dnnl::memory::desc a_, b_, out_, scratch_;
  dnnl::engine engine_;
  ProductShape shape_;
  std::vector<Product> pieces_;  // fp16: the first piece of the depth, inner ones, the last one
};

// Products by shape: preparing one costs more than running a small one.
class ProductCache {
 public:
  // `rows` outlives it.
  ProductCache(uint32_t num_threads, const RowKernels& rows);

  Result<Product> Get(const ProductShape& shape);
  ProductThread& thread(uint32_t index) { return threads_[index]; }

 private:
  static constexpr size_t kMaxProducts = 512;

  dnnl::engine engine_;
  std::vector<ProductThread> threads_;
  std::map<ProductShape, Product> products_;
};

// A length cut into pieces of one size, the last one perhaps smaller.
struct Cuts {
  size_t total = 0;
  size_t piece = 0;

  size_t count() const { return CeilDiv(total, piece); }
  size_t begin(size_t i) const { return i * piece; }
  size_t size(size_t i) const { return std::min(piece, total - begin(i)); }
};

// The products of tiles that two lengths are cut into: of inner tiles, of those at either edge, of
// the corner.
class TileProducts {
 public:
  // shape_of(first_size, second_size) says what is computed for a tile of these sizes.
  template <typename ShapeOf>
  static Result<TileProducts> Prepare(ProductCache& cache, const Cuts& first, const Cuts& second,
                                      ShapeOf shape_of) {
    TileProducts products(first.size(0), second.size(0));
    for (const size_t i : {size_t{0}, first.count() - 1}) {
      for (const size_t j : {size_t{0}, second.count() - 1}) {
        STRATA_ASSIGN_OR_RETURN(Product product,
                                cache.Get(shape_of(first.size(i), second.size(j))));
        products.At(first.size(i), second.size(j)) = std::move(product);
      }
    }
    return products;
  }
  const Product& For(size_t first_size, size_t second_size) const {
    return *const_cast<TileProducts*>(this)->At(first_size, second_size);
  }

 private:
  TileProducts(size_t first_size, size_t second_size)
      : first_size_(first_size), second_size_(second_size) {}
  std::optional<Product>& At(size_t first_size, size_t second_size) {
    return products_[first_size != first_size_][second_size != second_size_];
  }

  size_t first_size_, second_size_;
  std::optional<Product> products_[2][2];
};

}  // namespace strata::engine
