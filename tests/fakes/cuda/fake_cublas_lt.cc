#include "tests/fakes/cuda/fake_cublas_lt.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>

#include "engine/kernels/dtype.h"
#include "tests/fakes/cuda/emulator.h"

namespace strata::engine::cublas_lt {

struct Context {};
struct ProductDescriptor {
  Operation transpose_a = Operation::kNone, transpose_b = Operation::kNone;
  ComputeType compute;
  DataType scale;
};
struct LayoutDescriptor {
  DataType type;
  uint64_t rows, cols;
  int64_t stride;
};
struct PreferenceDescriptor {
  std::map<PreferenceAttribute, uint64_t> values;
};

}  // namespace strata::engine::cublas_lt

namespace strata::fakes::cuda {
namespace {

namespace lt = engine::cublas_lt;
using engine::Bf16;
using engine::F16;

constexpr lt::Error kInvalidValue = 7;
constexpr uint64_t kWorkspaceBytes = uint64_t{1} << 20;  // what every algorithm here asks for

struct State {
  std::mutex mutex;  // ranks may be threads
  CublasLtRecord record;
  std::map<std::string, lt::Error> failures;
  bool has_algorithms = true;
};
State& TheState() {
  static State state;
  return state;
}

template <typename Change>
void Note(Change change) {
  const std::lock_guard lock(TheState().mutex);
  change(TheState().record);
}

lt::Error Complain(std::string what) {
  Note([&](CublasLtRecord& record) { record.complaints.push_back(std::move(what)); });
  return kInvalidValue;
}

// A failure that was asked for, or 0.
lt::Error Enter(const std::string& function) {
  const std::lock_guard lock(TheState().mutex);
  const auto node = TheState().failures.extract(function);
  return node ? node.mapped() : lt::kSuccess;
}

template <typename Thing>
lt::Error Create(const std::string& function, Thing** made, Thing content) {
  if (const lt::Error error = Enter(function); error != lt::kSuccess) return error;
  *made = new Thing(std::move(content));
  Note([](CublasLtRecord& record) { ++record.objects; });
  return lt::kSuccess;
}
template <typename Thing>
lt::Error Destroy(Thing* thing) {
  delete thing;
  Note([](CublasLtRecord& record) { --record.objects; });
  return lt::kSuccess;
}

lt::Error SetProduct(lt::Product product, lt::ProductAttribute attribute, const void* value,
                     size_t size) {
  if (size != sizeof(lt::Operation)) return Complain("an operation has 4 bytes");
  auto& target =
      attribute == lt::ProductAttribute::kTransposeA ? product->transpose_a : product->transpose_b;
  std::memcpy(&target, value, size);
  return lt::kSuccess;
}

lt::Error SetPreference(lt::Preference preference, lt::PreferenceAttribute attribute,
                        const void* value, size_t size) {
  const bool is_long = attribute == lt::PreferenceAttribute::kMaxWorkspaceBytes ||
                       attribute == lt::PreferenceAttribute::kImplementations;
  if (size != (is_long ? 8u : 4u)) return Complain("a preference of another size");
  uint64_t number = 0;
  std::memcpy(&number, value, size);
  preference->values[attribute] = number;
  return lt::kSuccess;
}

// What one product is made of.
struct Described {
  lt::ProductDescriptor product;
  lt::LayoutDescriptor a, b, d;

  bool flips_a() const { return product.transpose_a == lt::Operation::kTranspose; }
  bool flips_b() const { return product.transpose_b == lt::Operation::kTranspose; }
  uint64_t depth() const { return flips_a() ? a.rows : a.cols; }
};

std::string WrongWith(const Described& of, const lt::LayoutDescriptor& c) {
  if (of.product.compute != lt::ComputeType::kF32 || of.product.scale != lt::DataType::kF32)
    return "sums must be in fp32";
  for (const lt::LayoutDescriptor* layout : {&of.a, &of.b, &c, &of.d}) {
    if (layout->stride < static_cast<int64_t>(layout->rows) || layout->rows == 0 ||
        layout->cols == 0)
      return "columns must be at least as far apart as they are long, and there must be some";
  }
  if ((of.flips_a() ? of.a.cols : of.a.rows) != of.d.rows) return "op(a) has not the rows of d";
  if ((of.flips_b() ? of.b.rows : of.b.cols) != of.d.cols) return "op(b) has not the columns of d";
  if ((of.flips_b() ? of.b.cols : of.b.rows) != of.depth()) return "depths differ";
  if (c.rows != of.d.rows || c.cols != of.d.cols || c.type != of.d.type || c.stride != of.d.stride)
    return "c is not d";
  if (of.a.type != of.b.type) return "operands of two types";
  if (of.d.type != lt::DataType::kF32 && of.d.type != of.a.type) return "no such output";
  return "";
}

// Our own rules: the same bits in every run, and nothing rounded that need not be.
std::string WrongWith(const lt::PreferenceDescriptor& preference, lt::DataType operands) {
  using enum lt::PreferenceAttribute;
  const auto value = [&](lt::PreferenceAttribute attribute) {
    const auto at = preference.values.find(attribute);
    return at == preference.values.end() ? std::optional<uint64_t>() : at->second;
  };
  if (value(kMaxWorkspaceBytes).value_or(0) < kWorkspaceBytes) return "no workspace";
  // The default allows sums in the output's format, too.
  if (value(kReductionSchemes).value_or(7) != lt::kReducedInComputeType)
    return "parts of sums may be rounded";
  const uint64_t implementations = value(kImplementations).value_or(~uint64_t{0});
  if (implementations & lt::kSumsInF16) return "sums may be in fp16";
  if (operands == lt::DataType::kF32 &&
      implementations & (lt::kOperandsAsTf32 | lt::kOperandsAsBf16 | lt::kOperandsAsF16))
    return "fp32 operands may be rounded";
  for (const auto attribute : {kAlignmentA, kAlignmentB, kAlignmentC, kAlignmentD}) {
    // The default promises 256 bytes; more than 16 would hang on where a slot is.
    if (!std::has_single_bit(value(attribute).value_or(256)) || value(attribute).value_or(256) > 16)
      return "an alignment that depends on the place";
  }
  return "";
}

uint64_t Mix(uint64_t hash, uint64_t value) {
  return (hash ^ value) * 0x9e3779b97f4a7c15u + (hash >> 29);
}

// An algorithm says what it is for.
lt::Algorithm AlgorithmFor(const Described& of, const uint64_t (&alignments)[4]) {
  uint64_t hash = Mix(of.flips_a(), of.flips_b());
  for (const lt::LayoutDescriptor* layout : {&of.a, &of.b, &of.d}) {
    hash = Mix(hash, static_cast<uint64_t>(layout->type));
    hash = Mix(Mix(Mix(hash, layout->rows), layout->cols), static_cast<uint64_t>(layout->stride));
  }
  lt::Algorithm algorithm = {};
  algorithm.data[0] = hash;
  std::memcpy(algorithm.data + 1, alignments, sizeof alignments);
  return algorithm;
}

lt::Error Choose(lt::Handle handle, lt::Product product, lt::Layout a, lt::Layout b, lt::Layout c,
                 lt::Layout d, lt::Preference preference, int requested, lt::Choice* choice,
                 int* returned) {
  if (const lt::Error error = Enter("choose"); error != lt::kSuccess) return error;
  Note([](CublasLtRecord& record) { ++record.choices; });
  *returned = 0;
  if (handle == nullptr || requested < 1) return Complain("nothing is asked for");
  const Described described{*product, *a, *b, *d};
  if (const std::string wrong = WrongWith(described, *c); !wrong.empty()) return Complain(wrong);
  if (const std::string wrong = WrongWith(*preference, a->type); !wrong.empty())
    return Complain(wrong);
  if (!TheState().has_algorithms) return lt::kNotSupported;
  using enum lt::PreferenceAttribute;
  std::map<lt::PreferenceAttribute, uint64_t>& values = preference->values;
  const uint64_t alignments[4] = {values[kAlignmentA], values[kAlignmentB], values[kAlignmentC],
                                  values[kAlignmentD]};
  *choice = {.algorithm = AlgorithmFor(described, alignments),
             .workspace_bytes = kWorkspaceBytes,
             .state = lt::kSuccess,
             .waves = 1,
             .reserved = {}};
  *returned = 1;
  return lt::kSuccess;
}

float Load(const void* data, lt::DataType type, uint64_t index) {
  if (type == lt::DataType::kF32) return static_cast<const float*>(data)[index];
  if (type == lt::DataType::kF16) return engine::FromHalf(static_cast<const F16*>(data)[index]);
  return engine::FromBf16(static_cast<const Bf16*>(data)[index]);
}

// To nearest, ties to even, as the library does.
uint16_t RoundedToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void Store(void* data, lt::DataType type, uint64_t index, float value) {
  if (type == lt::DataType::kF32) {
    static_cast<float*>(data)[index] = value;
  } else if (type == lt::DataType::kF16) {
    static_cast<F16*>(data)[index] = engine::ToHalf(value);
  } else {
    static_cast<uint16_t*>(data)[index] = RoundedToBf16(value);
  }
}

struct Work {
  Described of;
  const void *a, *b;
  void* d;
  float alpha, beta;
  void* workspace;

  void operator()() const {
    std::memset(workspace, 0xff, kWorkspaceBytes);
    for (uint64_t col = 0; col < of.d.cols; ++col)
      for (uint64_t row = 0; row < of.d.rows; ++row) Element(row, col);
  }
  void Element(uint64_t row, uint64_t col) const {
    const auto stride_a = static_cast<uint64_t>(of.a.stride);
    const auto stride_b = static_cast<uint64_t>(of.b.stride);
    float sum = 0;
    for (uint64_t k = 0; k < of.depth(); ++k) {
      sum =
          std::fma(Load(a, of.a.type, of.flips_a() ? k + row * stride_a : row + k * stride_a),
                   Load(b, of.b.type, of.flips_b() ? col + k * stride_b : k + col * stride_b), sum);
    }
    const uint64_t at = row + col * static_cast<uint64_t>(of.d.stride);
    const float before = beta == 0 ? 0 : beta * Load(d, of.d.type, at);
    Store(d, of.d.type, at, alpha * sum + before);
  }
};

bool IsAligned(const void* data, uint64_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

lt::Error Multiply(lt::Handle handle, lt::Product product, const void* alpha, const void* a,
                   lt::Layout a_layout, const void* b, lt::Layout b_layout, const void* beta,
                   const void* c, lt::Layout c_layout, void* d, lt::Layout d_layout,
                   const lt::Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                   void* stream) {
  if (const lt::Error error = Enter("multiply"); error != lt::kSuccess) return error;
  Note([](CublasLtRecord& record) { ++record.products; });
  if (handle == nullptr || algorithm == nullptr) return Complain("no handle or no algorithm");
  const Described described{*product, *a_layout, *b_layout, *d_layout};
  if (const std::string wrong = WrongWith(described, *c_layout); !wrong.empty())
    return Complain(wrong);
  uint64_t alignments[4];
  std::memcpy(alignments, algorithm->data + 1, sizeof alignments);
  const lt::Algorithm right = AlgorithmFor(described, alignments);
  if (std::memcmp(algorithm, &right, sizeof right) != 0)
    return Complain("an algorithm that was chosen for another product");
  const void* pointers[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (!IsAligned(pointers[i], alignments[i])) return Complain("less aligned than was promised");
  if (c != d) return Complain("c is not d");
  if (workspace_bytes < kWorkspaceBytes || !IsAligned(workspace, 256))
    return Complain("a workspace that is too small or not aligned to 256 bytes");
  Note([&](CublasLtRecord& record) { record.algorithms.push_back(right.data[0]); });
  float alpha_value, beta_value;
  std::memcpy(&alpha_value, alpha, sizeof alpha_value);
  std::memcpy(&beta_value, beta, sizeof beta_value);
  const Work work{described, a, b, d, alpha_value, beta_value, workspace};
  return Enqueue(static_cast<cudaStream_t>(stream), work) == cudaSuccess ? lt::kSuccess : 13;
}

const char* StatusString(lt::Error error) {
  static thread_local std::string text;
  text = fmt::format("status {}", error);
  return text.c_str();
}

constexpr lt::Table kTable = {
    .status_string = StatusString,
    .create = [](lt::Handle* handle) { return Create("create", handle, lt::Context{}); },
    .destroy = Destroy<lt::Context>,
    .product_create =
        [](lt::Product* product, lt::ComputeType compute, lt::DataType scale) {
          return Create(
              "product_create", product,
              lt::ProductDescriptor{lt::Operation::kNone, lt::Operation::kNone, compute, scale});
        },
    .product_destroy = Destroy<lt::ProductDescriptor>,
    .product_set = SetProduct,
    .layout_create =
        [](lt::Layout* layout, lt::DataType type, uint64_t rows, uint64_t cols, int64_t stride) {
          return Create("layout_create", layout, lt::LayoutDescriptor{type, rows, cols, stride});
        },
    .layout_destroy = Destroy<lt::LayoutDescriptor>,
    .preference_create =
        [](lt::Preference* preference) {
          return Create("preference_create", preference, lt::PreferenceDescriptor{});
        },
    .preference_destroy = Destroy<lt::PreferenceDescriptor>,
    .preference_set = SetPreference,
    .choose = Choose,
    .multiply = Multiply,
};

}  // namespace

CublasLtRecord& RecordOfCublasLt() { return TheState().record; }
void FailNextOfCublasLt(const std::string& function, lt::Error error) {
  TheState().failures[function] = error;
}
void SetCublasLtHasAlgorithms(bool has) { TheState().has_algorithms = has; }

}  // namespace strata::fakes::cuda

namespace strata::engine::cublas_lt {

Result<Library> Load(const tiering::LibraryPlaces&) {
  return Library{fakes::cuda::kTable, "a stand-in for cuBLASLt"};
}

}  // namespace strata::engine::cublas_lt
