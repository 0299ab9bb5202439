#include "engine/kernels/cuda/products.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "aio/base/check.h"
#include "aio/base/log.h"

namespace strata::engine::cuda {
namespace {

namespace lt = cublas_lt;

// Beyond this no algorithm asks for more.
constexpr uint32_t kMaxAlignmentBytes = 16;
constexpr uint32_t kWorkspaceAlignmentBytes = 256;

lt::DataType TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return lt::DataType::kF32;
    case DType::kF16:
      return lt::DataType::kF16;
    case DType::kBf16:
      break;
  }
  return lt::DataType::kBf16;
}

uint32_t AlignmentOf(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return static_cast<uint32_t>(std::min<uintptr_t>(address & (~address + 1), kMaxAlignmentBytes));
}

OperandShape ShapeOf(const Matrix& matrix) {
  return {matrix.dtype, matrix.rows, matrix.cols, matrix.stride, AlignmentOf(matrix.data)};
}

size_t RowsOf(const OperandShape& shape, Transpose transpose) {
  return transpose == Transpose::kYes ? shape.cols : shape.rows;
}
size_t ColsOf(const OperandShape& shape, Transpose transpose) {
  return transpose == Transpose::kYes ? shape.rows : shape.cols;
}

std::string Describe(const ProductShape& shape) {
  const auto operand = [](const OperandShape& of, Transpose transpose) {
    return fmt::format("{}x{}{} {}", of.rows, of.cols, transpose == Transpose::kYes ? "^T" : "",
                       DTypeName(of.dtype));
  };
  return fmt::format("product of {} and {} to {}", operand(shape.a, shape.transpose_a),
                     operand(shape.b, shape.transpose_b), operand(shape.out, Transpose::kNo));
}

void CheckShapes(const ProductShape& shape, Output output) {
  STRATA_CHECK(shape.a.dtype == shape.b.dtype);
  STRATA_CHECK(RowsOf(shape.a, shape.transpose_a) == shape.out.rows);
  STRATA_CHECK(ColsOf(shape.b, shape.transpose_b) == shape.out.cols);
  const size_t depth = ColsOf(shape.a, shape.transpose_a);
  STRATA_CHECK(depth == RowsOf(shape.b, shape.transpose_b) && depth > 0);
  STRATA_CHECK(shape.out.dtype == DType::kF32 || output == Output::kOverwrite);
}

Status Failure(const lt::Table& table, lt::Error error, std::string_view what) {
  return Internal(fmt::format("cuBLASLt: {}: {}", what, table.status_string(error)));
}

// Something that the library made, and how it goes.
template <typename Thing>
using Owned = std::unique_ptr<std::remove_pointer_t<Thing>, lt::Error (*)(Thing)>;

// Calls create(&thing, arguments...).
template <typename Thing, typename... Parameters, typename... Arguments>
Status Make(const lt::Table& table, lt::Error (*create)(Thing*, Parameters...),
            lt::Error (*destroy)(Thing), Owned<Thing>* made, Arguments... arguments) {
  Thing thing = nullptr;
  if (const lt::Error error = create(&thing, arguments...); error != lt::kSuccess)
    return Failure(table, error, "create a descriptor");
  *made = Owned<Thing>(thing, destroy);
  return OkStatus();
}

template <typename Thing, typename Attribute, typename Value>
Status Set(const lt::Table& table, lt::Error (*set)(Thing, Attribute, const void*, size_t),
           const Owned<Thing>& thing, Attribute attribute, Value value) {
  const lt::Error error = set(thing.get(), attribute, &value, sizeof value);
  return error == lt::kSuccess ? OkStatus() : Failure(table, error, "set an attribute");
}

// What the library may do: nothing that rounds operands or sums to less than they have.
uint64_t Implementations(DType dtype) {
  constexpr uint64_t kAll = ~uint64_t{0};
  if (dtype != DType::kF32) return kAll & ~lt::kSumsInF16;
  return kAll & ~(lt::kSumsInF16 | lt::kOperandsAsF16 | lt::kOperandsAsBf16 | lt::kOperandsAsTf32);
}

}  // namespace

// What is row-major to us is, to the library, the transposed matrix in column-major order. So it is
// asked for out^T = op(b)^T op(a)^T: b is its first operand, and transposes stay as they are.
class CudaProducts::Plan {
 public:
  static Result<std::unique_ptr<const Plan>> Make(const lt::Table& table, lt::Handle handle,
                                                  const ProductShape& shape) {
    std::unique_ptr<Plan> plan(new Plan(table));
    STRATA_RETURN_IF_ERROR(plan->Describe(shape));
    STRATA_RETURN_IF_ERROR(plan->Choose(handle, shape));
    return std::unique_ptr<const Plan>(std::move(plan));
  }

  // Else there is nothing to run.
  bool has_algorithm() const { return has_algorithm_; }

  lt::Error Run(lt::Handle handle, const Matrix& a, const Matrix& b, const Matrix& out,
                Output output, std::span<std::byte> workspace, void* stream) const {
    const float alpha = 1, beta = output == Output::kAccumulate ? 1 : 0;
    return table_.multiply(handle, product_.get(), &alpha, b.data, first_.get(), a.data,
                           second_.get(), &beta, out.data, out_.get(), out.data, out_.get(),
                           &algorithm_, workspace.data(), kMatMulWorkspaceBytes, stream);
  }

 private:
  explicit Plan(const lt::Table& table)
      : table_(table),
        product_(nullptr, table.product_destroy),
        first_(nullptr, table.layout_destroy),
        second_(nullptr, table.layout_destroy),
        out_(nullptr, table.layout_destroy) {}

  Status Describe(const ProductShape& shape) {
    const auto operation = [](Transpose transpose) {
      return transpose == Transpose::kYes ? lt::Operation::kTranspose : lt::Operation::kNone;
    };
    STRATA_RETURN_IF_ERROR(cuda::Make(table_, table_.product_create, table_.product_destroy,
                                      &product_, lt::ComputeType::kF32, lt::DataType::kF32));
    STRATA_RETURN_IF_ERROR(Set(table_, table_.product_set, product_,
                               lt::ProductAttribute::kTransposeA, operation(shape.transpose_b)));
    STRATA_RETURN_IF_ERROR(Set(table_, table_.product_set, product_,
                               lt::ProductAttribute::kTransposeB, operation(shape.transpose_a)));
    STRATA_RETURN_IF_ERROR(LayOut(shape.b, &first_));
    STRATA_RETURN_IF_ERROR(LayOut(shape.a, &second_));
    return LayOut(shape.out, &out_);
  }

  Status LayOut(const OperandShape& shape, Owned<lt::Layout>* layout) {
    return cuda::Make(table_, table_.layout_create, table_.layout_destroy, layout,
                      TypeOf(shape.dtype), uint64_t{shape.cols}, uint64_t{shape.rows},
                      static_cast<int64_t>(shape.stride));
  }

  Status Choose(lt::Handle handle, const ProductShape& shape) {
    using enum lt::PreferenceAttribute;
    Owned<lt::Preference> preference(nullptr, table_.preference_destroy);
    STRATA_RETURN_IF_ERROR(
        cuda::Make(table_, table_.preference_create, table_.preference_destroy, &preference));
    const auto set = [&](lt::PreferenceAttribute attribute, auto value) {
      return Set(table_, table_.preference_set, preference, attribute, value);
    };
    STRATA_RETURN_IF_ERROR(set(kMaxWorkspaceBytes, uint64_t{kMatMulWorkspaceBytes}));
    STRATA_RETURN_IF_ERROR(set(kReductionSchemes, lt::kReducedInComputeType));
    STRATA_RETURN_IF_ERROR(set(kImplementations, Implementations(shape.a.dtype)));
    STRATA_RETURN_IF_ERROR(set(kAlignmentA, shape.b.alignment_bytes));
    STRATA_RETURN_IF_ERROR(set(kAlignmentB, shape.a.alignment_bytes));
    STRATA_RETURN_IF_ERROR(set(kAlignmentC, shape.out.alignment_bytes));
    STRATA_RETURN_IF_ERROR(set(kAlignmentD, shape.out.alignment_bytes));
    lt::Choice choice = {};
    int count = 0;
    const lt::Error error =
        table_.choose(handle, product_.get(), first_.get(), second_.get(), out_.get(), out_.get(),
                      preference.get(), 1, &choice, &count);
    const lt::Error state = error != lt::kSuccess ? error : choice.state;
    if (state == lt::kNotSupported || (state == lt::kSuccess && count == 0)) {
      Log(Severity::kWarning, "kernels",
          "cuBLASLt has no algorithm for the {}: it is multiplied without tensor cores, many times "
          "slower; a newer cuBLASLt may have one",
          cuda::Describe(shape));
      return OkStatus();
    }
    if (state != lt::kSuccess) return Failure(table_, state, "choose an algorithm");
    STRATA_CHECK(choice.workspace_bytes <= kMatMulWorkspaceBytes);
    algorithm_ = choice.algorithm;
    has_algorithm_ = true;
    return OkStatus();
  }

  const lt::Table& table_;
  Owned<lt::Product> product_;
  Owned<lt::Layout> first_, second_, out_;
  lt::Algorithm algorithm_ = {};
  bool has_algorithm_ = false;
};

CudaProducts::CudaProducts(const lt::Library& library, lt::Handle handle, SlowProduct slow_product)
    : library_(library), handle_(handle), slow_product_(slow_product) {}

CudaProducts::~CudaProducts() {
  plans_.clear();
  library_.table.destroy(handle_);
}

Result<std::unique_ptr<CudaProducts>> CudaProducts::Create(const lt::Library& library,
                                                           SlowProduct slow_product) {
  lt::Handle handle = nullptr;
  if (const lt::Error error = library.table.create(&handle); error != lt::kSuccess)
    return Failure(library.table, error, "begin").With(library.name);
  return std::unique_ptr<CudaProducts>(new CudaProducts(library, handle, slow_product));
}

Result<const CudaProducts::Plan*> CudaProducts::PlanOf(const ProductShape& shape) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<const Plan>& plan = plans_[shape];
  if (!plan) {
    STRATA_ASSIGN_OR_RETURN(plan, Plan::Make(library_.table, handle_, shape));
  }
  return plan.get();
}

Status CudaProducts::MatMul(const Kernels::Stream& stream, const Matrix& a, Transpose transpose_a,
                            const Matrix& b, Transpose transpose_b, const Matrix& out,
                            Output output, std::span<std::byte> workspace) {
  const ProductShape shape{ShapeOf(a), ShapeOf(b), ShapeOf(out), transpose_a, transpose_b};
  CheckShapes(shape, output);
  STRATA_CHECK(workspace.size() >= kMatMulWorkspaceBytes);
  STRATA_CHECK(reinterpret_cast<uintptr_t>(workspace.data()) % kWorkspaceAlignmentBytes == 0);
  if (out.rows == 0 || out.cols == 0) return OkStatus();
  if (out.dtype != DType::kF32 && out.dtype != a.dtype) {
    return Unimplemented(
        fmt::format("{}: on CUDA a product is written in fp32 or in the format of "
                    "its operands: multiply to fp32 and Cast()",
                    Describe(shape)));
  }
  STRATA_ASSIGN_OR_RETURN(const Plan* plan, PlanOf(shape));
  if (!plan->has_algorithm())
    return slow_product_(stream, a, transpose_a, b, transpose_b, out, output);
  const lt::Error error = plan->Run(handle_, a, b, out, output, workspace, stream.native_stream);
  return error == lt::kSuccess ? OkStatus() : Failure(library_.table, error, Describe(shape));
}

}  // namespace strata::engine::cuda
