// How products ask cuBLASLt, held to a stand-in that checks what it is asked. That results are
// right is in matmul_test.cc.
#include "engine/kernels/cuda/products.h"

#include <gmock/gmock.h>

#include <optional>

#include "engine/kernels/cuda/plain_product.h"
#include "tests/engine/kernels/device_copy.h"
#include "tests/engine/kernels/matmul_testing.h"
#include "tests/fakes/cuda/emulator.h"
#include "tests/fakes/cuda/fake_cublas_lt.h"
#include "tests/or_die.h"

namespace strata::engine::cuda {
namespace {

using fakes::cuda::FailNextOfCublasLt;
using fakes::cuda::RecordOfCublasLt;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ProductsTest : public testing::Test {
 protected:
  ProductsTest() : workspace_(workspace_memory_.view()) {
    RecordOfCublasLt() = {};
    products_ = OrDie(CudaProducts::Create(OrDie(cublas_lt::Load()), &PlainProduct));
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  ~ProductsTest() override {
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    products_.reset();
    EXPECT_EQ(RecordOfCublasLt().objects, 0);  // all that was made is gone
    EXPECT_THAT(RecordOfCublasLt().complaints, IsEmpty());
  }

  Status Multiply(const Matrix& a, const Matrix& b, const Matrix& out,
                  Output output = Output::kOverwrite) {
    const tiering::StreamContext context{.native_stream = stream_};
    const Status status =
        products_->MatMul(context, a, Transpose::kNo, b, Transpose::kYes, out, output,
                          {workspace_.view().data, kMatMulWorkspaceBytes});
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);  // before the matrices go
    return status;
  }

  cudaStream_t stream_ = nullptr;
  // Aligned to 256 bytes with whatever the test matrix has.
  TestMatrix workspace_memory_{DType::kF32, 1, (kMatMulWorkspaceBytes + 256) / sizeof(float)};
  struct Aligned {
    explicit Aligned(const Matrix& host) : copy(host), matrix(copy.view()) {
      matrix.data += (256 - reinterpret_cast<uintptr_t>(matrix.data) % 256) % 256;
    }
    const Matrix& view() const { return matrix; }
    DeviceMatrix copy;
    Matrix matrix;
  } workspace_;
  std::unique_ptr<CudaProducts> products_;
};

TEST_F(ProductsTest, AnAlgorithmIsAskedForOncePerShape) {
  const TestMatrix a = Random(1, DType::kBf16, 9, 12), b = Random(2, DType::kBf16, 7, 12);
  const TestMatrix out = Poisoned(DType::kF32, 9, 7);
  const DeviceMatrix on_a(a), on_b(b), on_out(out);
  for (const Output output : {Output::kOverwrite, Output::kAccumulate, Output::kAccumulate})
    ExpectOk(Multiply(on_a, on_b, on_out, output));
  EXPECT_EQ(RecordOfCublasLt().choices, 1u);
  EXPECT_EQ(RecordOfCublasLt().products, 3u);
  Matrix fewer = on_a, fewer_out = on_out;
  fewer.rows = fewer_out.rows = 8;
  ExpectOk(Multiply(fewer, on_b, fewer_out));
  EXPECT_EQ(RecordOfCublasLt().choices, 2u);
}

// Slots are multiples of 256 bytes: where in memory a block is must not change its product's bits.
TEST_F(ProductsTest, TheSameShapeElsewhereTakesTheSameAlgorithmInEveryProcess) {
  const TestMatrix a = Random(1, DType::kBf16, 40, 64), b = Random(2, DType::kBf16, 16, 64);
  const TestMatrix out = Poisoned(DType::kF32, 16, 16);
  const DeviceMatrix on_a(a), on_b(b), on_out(out);
  const auto multiply_at = [&](size_t row) {  // 128 bytes per row
    Matrix part = on_a;
    part.data += row * 64 * SizeOf(DType::kBf16);
    part.rows = 16;
    ExpectOk(Multiply(part, on_b, on_out));
  };
  multiply_at(0);
  multiply_at(2);
  multiply_at(3);
  EXPECT_EQ(RecordOfCublasLt().choices, 1u);
  products_ = OrDie(
      CudaProducts::Create(OrDie(cublas_lt::Load()), &PlainProduct));  // as another process has it
  multiply_at(5);
  const std::vector<uint64_t>& algorithms = RecordOfCublasLt().algorithms;
  ASSERT_EQ(algorithms.size(), 4u);
  EXPECT_THAT(algorithms, testing::Each(algorithms[0]));
}

TEST_F(ProductsTest, PromisesNoMoreAlignmentThanThereIs) {
  // Rows of 22 bytes: the stand-in compares pointers with what was promised of them.
  const TestMatrix a = Random(1, DType::kBf16, 9, 11), b = Random(2, DType::kBf16, 7, 11);
  const TestMatrix out = Poisoned(DType::kF32, 9, 7);
  const DeviceMatrix on_a(a), on_b(b), on_out(out);
  for (size_t row = 0; row < 8; ++row) {
    Matrix part = on_a;
    part.data += row * 11 * SizeOf(DType::kBf16);
    part.rows = 1;
    Matrix one = on_out;
    one.rows = 1;
    ExpectOk(Multiply(part, on_b, one));
  }
  EXPECT_EQ(RecordOfCublasLt().choices, 4u);  // 2, 4, 8 and 16 bytes
}

TEST_F(ProductsTest, WhatTheLibraryCannotDoIsSaidOnceAndMultipliedWithoutIt) {
  const Case size{9, 7, 12};
  const TestMatrix a = Random(1, DType::kBf16, 9, 12), b = Random(2, DType::kBf16, 7, 12);
  const TestMatrix out = Poisoned(DType::kF32, 9, 7);
  const DeviceMatrix on_a(a), on_b(b), on_out(out);
  fakes::cuda::SetCublasLtHasAlgorithms(false);
  testing::internal::CaptureStderr();
  ExpectOk(Multiply(on_a, on_b, on_out));
  ExpectOk(Multiply(on_a, on_b, on_out, Output::kAccumulate));
  fakes::cuda::SetCublasLtHasAlgorithms(true);
  const std::string told = testing::internal::GetCapturedStderr();
  const std::string which = "9x12 bf16 and 7x12^T bf16 to 9x7 fp32";
  EXPECT_NE(told.find(which), std::string::npos) << told;
  EXPECT_EQ(told.find(which), told.rfind(which)) << told;
  EXPECT_EQ(RecordOfCublasLt().products, 0u);
  on_out.CopyBack();
  Bounded twice = engine::Multiply(a, Transpose::kNo, b, Transpose::kYes, size, DType::kF32);
  for (double& value : twice.values) value *= 2;
  for (double& bound : twice.bounds) bound *= 2;
  ExpectWithin(out, twice, "products");
}

TEST_F(ProductsTest, AnOutputOfAThirdFormatIsRefusedWithTheWayOut) {
  const TestMatrix a = Random(1, DType::kF32, 9, 12), b = Random(2, DType::kF32, 7, 12);
  const TestMatrix out = Poisoned(DType::kBf16, 9, 7);
  const DeviceMatrix on_a(a), on_b(b), on_out(out);
  const Status status = Multiply(on_a, on_b, on_out);
  EXPECT_EQ(status.code(), Code::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("multiply to fp32 and Cast()"));
}

TEST_F(ProductsTest, EveryFailureOfTheLibraryIsReportedAndLeavesNothingBehind) {
  const TestMatrix a = Random(1, DType::kBf16, 9, 12), b = Random(2, DType::kBf16, 7, 12);
  const TestMatrix out = Poisoned(DType::kF32, 9, 7);
  const DeviceMatrix on_a(a), on_b(b), on_out(out);
  constexpr cublas_lt::Error kAllocFailed = 3;
  for (const char* function :
       {"product_create", "layout_create", "preference_create", "choose", "multiply"}) {
    FailNextOfCublasLt(function, kAllocFailed);
    const Status status = Multiply(on_a, on_b, on_out);
    EXPECT_EQ(status.code(), Code::kInternal) << function;
    EXPECT_THAT(status.message(), HasSubstr("cuBLASLt: ")) << function;
    EXPECT_THAT(status.message(), HasSubstr("status 3")) << function;
  }
  ExpectOk(Multiply(on_a, on_b, on_out));
  FailNextOfCublasLt("create", kAllocFailed);
  const Status status = CudaProducts::Create(OrDie(cublas_lt::Load()), &PlainProduct).status();
  EXPECT_EQ(status.code(), Code::kInternal);
  EXPECT_THAT(status.message(), HasSubstr("a stand-in for cuBLASLt"));
}

TEST_F(ProductsTest, NothingIsAskedForAnEmptyProduct) {
  const TestMatrix a(DType::kBf16, 0, 12), b = Random(2, DType::kBf16, 7, 12);
  const TestMatrix out(DType::kF32, 0, 7);
  const DeviceMatrix on_a(a), on_b(b), on_out(out);
  ExpectOk(Multiply(on_a, on_b, on_out));
  EXPECT_EQ(RecordOfCublasLt().products, 0u);
}

}  // namespace
}  // namespace strata::engine::cuda
