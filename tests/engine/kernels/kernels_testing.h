// Matrices of random numbers, and plain double-precision references to hold kernels to.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/kernels/cpu_kernels.h"

namespace strata::engine {

inline const Kernels::Stream kStream{};

inline void ExpectOk(const Status& status) { EXPECT_TRUE(status.ok()) << status.ToString(); }

// A matrix that owns its memory, 64-byte aligned, with whatever stride is asked for.
class TestMatrix {
 public:
  TestMatrix(DType dtype, size_t rows, size_t cols, size_t padding = 0)
      : bytes_(rows * (cols + padding) * SizeOf(dtype) + 2 * kAlign) {
    const size_t misaligned = reinterpret_cast<uintptr_t>(bytes_.data()) % kAlign;
    offset_ = (kAlign - misaligned) % kAlign;
    view_ = {bytes_.data() + offset_, dtype, rows, cols, cols + padding};
  }
  TestMatrix(const TestMatrix& other)
      : TestMatrix(other.view_.dtype, other.view_.rows, other.view_.cols,
                   other.view_.stride - other.view_.cols) {
    std::memcpy(view_.data, other.view_.data, view_.size_bytes());
  }
  TestMatrix& operator=(const TestMatrix&) = delete;

  const Matrix& view() const { return view_; }
  operator const Matrix&() const { return view_; }
  DType dtype() const { return view_.dtype; }
  size_t rows() const { return view_.rows; }
  size_t cols() const { return view_.cols; }

  double Get(size_t row, size_t col) const {
    const size_t i = row * view_.stride + col;
    if (view_.dtype == DType::kF32) return static_cast<double>(floats()[i]);
    if (view_.dtype == DType::kF16)
      return static_cast<double>(FromHalf(reinterpret_cast<const F16*>(view_.data)[i]));
    return static_cast<double>(FromBf16(reinterpret_cast<const Bf16*>(view_.data)[i]));
  }
  void Set(size_t row, size_t col, double value) {
    const size_t i = row * view_.stride + col;
    if (view_.dtype == DType::kF32) {
      floats()[i] = static_cast<float>(value);
    } else if (view_.dtype == DType::kF16) {
      reinterpret_cast<F16*>(view_.data)[i] = ToHalf(static_cast<float>(value));
    } else {
      reinterpret_cast<Bf16*>(view_.data)[i] = ToBf16(static_cast<float>(value));
    }
  }
  float* floats() const { return reinterpret_cast<float*>(view_.data); }
  // Every byte 0xff: NaN in all formats.
  void Poison() { std::memset(view_.data, 0xff, view_.size_bytes()); }

  bool SameBits(const TestMatrix& other) const {
    for (size_t row = 0; row < rows(); ++row) {
      const size_t begin = row * view_.stride * SizeOf(view_.dtype);
      const size_t other_begin = row * other.view_.stride * SizeOf(view_.dtype);
      if (std::memcmp(view_.data + begin, other.view_.data + other_begin,
                      cols() * SizeOf(view_.dtype)) != 0) {
        return false;
      }
    }
    return true;
  }

 private:
  static constexpr size_t kAlign = 64;
  std::vector<std::byte> bytes_;
  size_t offset_ = 0;
  Matrix view_;
};

inline TestMatrix Random(uint32_t seed, DType dtype, size_t rows, size_t cols, size_t padding = 0,
                         double deviation = 1) {
  TestMatrix matrix(dtype, rows, cols, padding);
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal(0, deviation);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t col = 0; col < cols; ++col) matrix.Set(row, col, normal(engine));
  }
  return matrix;
}

inline TestMatrix Poisoned(DType dtype, size_t rows, size_t cols, size_t padding = 0) {
  TestMatrix matrix(dtype, rows, cols, padding);
  matrix.Poison();
  return matrix;
}

inline TestMatrix Filled(DType dtype, size_t rows, size_t cols, double value, size_t padding = 0) {
  TestMatrix matrix(dtype, rows, cols, padding);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t col = 0; col < cols; ++col) matrix.Set(row, col, value);
  }
  return matrix;
}

// Loss and gradient of whole rows of logits, by the kernels that take them piece by piece.
inline void CrossEntropyOf(Kernels& kernels, const Matrix& logits, std::span<const int32_t> targets,
                           float gradient_scale, const Matrix& dlogits, double* loss_sum) {
  std::vector<SoftmaxRow> rows(logits.rows);
  ExpectOk(kernels.SoftmaxStatistics(kStream, logits, targets, 0, Output::kOverwrite, rows));
  ExpectOk(kernels.CrossEntropyLoss(kStream, targets, rows, loss_sum));
  ExpectOk(kernels.CrossEntropy(kStream, logits, targets, 0, rows, gradient_scale, dlogits));
}

// References in double, dense.
using Reference = std::vector<double>;

// The distance between matrix and reference divided by the reference's norm. Rounding the result
// once to bf16 costs at most 2^-9 = 0.002 of each element.
inline double RelativeError(const TestMatrix& matrix, const Reference& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double delta = matrix.Get(i / matrix.cols(), i % matrix.cols()) - expected[i];
    difference += delta * delta;
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference) / std::max(std::sqrt(norm), 1e-30);
}

constexpr double Tolerance(DType dtype) { return dtype == DType::kF32 ? 1e-6 : 3e-3; }

inline Reference ValuesOf(const TestMatrix& matrix) {
  Reference values;
  for (size_t row = 0; row < matrix.rows(); ++row) {
    for (size_t col = 0; col < matrix.cols(); ++col) values.push_back(matrix.Get(row, col));
  }
  return values;
}

inline std::string NameOf(DType dtype) { return std::string(DTypeName(dtype)); }

// d(sum of forward's output * dout) / d(inputs[row, col]) by central differences, where forward
// computes with the kernel under test. The step is a power of two near the cube root of fp32's
// precision, so that x +- step is exact for most x; truncation and rounding both cost about 1e-4.
template <typename Forward>
double FiniteDifference(TestMatrix& input, size_t row, size_t col, Forward forward) {
  constexpr double kStep = 1.0 / 128;
  const double x = input.Get(row, col);
  input.Set(row, col, x + kStep);
  const double above = forward();
  input.Set(row, col, x - kStep);
  const double below = forward();
  input.Set(row, col, x);
  return (above - below) / (2 * kStep);
}

inline double Dot(const TestMatrix& a, const TestMatrix& b) {
  double sum = 0;
  for (size_t row = 0; row < a.rows(); ++row) {
    for (size_t col = 0; col < a.cols(); ++col) sum += a.Get(row, col) * b.Get(row, col);
  }
  return sum;
}

}  // namespace strata::engine
