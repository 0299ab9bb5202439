// Libraries of CUDA that are loaded at run time: what needs them says so when it is used, and the
// program starts on every machine. In this order they are looked for in
//
//   1. the directories of the environment variable STRATA_CUDA_LIBRARIES, separated by colons,
//   2. the loader's own places: LD_LIBRARY_PATH, ld.so.cache, /usr/lib,
//   3. $CUDA_HOME/lib64 and /usr/local/cuda/lib64,
//   4. the Python packages nvidia/*/lib of the python3 that is first on the PATH.
//
// The first of a version that will do is taken.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/dynamic_library.h"
#include "aio/base/status.h"

namespace strata::tiering {

// A library that somebody here knows how to use.
struct CudaLibrary {
  std::string_view name;                                  // "cuBLASLt"
  std::string_view used_for;                              // "matrix products on GPUs"
  std::span<const std::string_view> file_names;           // the best first
  Result<int> (*version)(const DynamicLibrary& library);  // as the library counts: 130100
  int min_version = 0;
  int end_version = 0;      // the first that is too new
  std::string_view advice;  // how to come by it
};

// Those of this program.
extern const CudaLibrary kCublasLt;
extern const CudaLibrary kNccl;
std::span<const CudaLibrary* const> CudaLibraries();

// 130100 is "13.1.0", as cuBLASLt and NCCL count.
std::string VersionText(int version);

struct LoadedCudaLibrary {
  DynamicLibrary library;
  int version = 0;
};

// Somewhere to look. An empty directory is the loader's places.
struct LibraryPlace {
  std::string directory;
  std::string origin;  // "STRATA_CUDA_LIBRARIES"
};

// The places above, in order. The last are asked for late: python3 is run for them.
class LibraryPlaces {
 public:
  using Late = std::function<std::vector<LibraryPlace>()>;
  explicit LibraryPlaces(std::vector<LibraryPlace> places, Late late = {});
  // Of this process.
  static LibraryPlaces Standard();

  // Visits place after place until visit(place) is true.
  void Visit(const std::function<bool(const LibraryPlace&)>& visit) const;

 private:
  std::vector<LibraryPlace> places_;
  Late late_;
};

// kUnavailable naming every place, what was wrong with what was there, and how to come by it.
Result<LoadedCudaLibrary> LoadCudaLibrary(const CudaLibrary& library,
                                          const LibraryPlaces& places = LibraryPlaces::Standard());

// A file that was found, good or not.
struct LibraryCopy {
  std::string path;
  std::string origin;
  std::string version;  // "13.1.0"; empty where it could not be asked
  std::string problem;  // empty: it would do
};

// All copies of a library, in the order of the places: the first without a problem is the one that
// is taken. For people: loads every one of them.
std::vector<LibraryCopy> FindCudaLibrary(const CudaLibrary& library,
                                         const LibraryPlaces& places = LibraryPlaces::Standard());

}  // namespace strata::tiering
