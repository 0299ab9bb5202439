#include "tiering/cuda_libraries.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

namespace strata::tiering {
namespace {

namespace fs = std::filesystem;

Result<int> CublasLtVersion(const DynamicLibrary& library) {
  size_t (*get)() = nullptr;
  STRATA_RETURN_IF_ERROR(library.Bind("cublasLtGetVersion", &get));
  return static_cast<int>(get());
}

Result<int> NcclVersion(const DynamicLibrary& library) {
  int (*get)(int*) = nullptr;
  STRATA_RETURN_IF_ERROR(library.Bind("ncclGetVersion", &get));
  int version = 0;
  if (const int error = get(&version); error != 0)
    return Internal(fmt::format("{}: ncclGetVersion failed with {}", library.path(), error));
  return version;
}

constexpr std::array<std::string_view, 2> kCublasLtFiles = {"libcublasLt.so.13",
                                                            "libcublasLt.so.12"};
constexpr std::array<std::string_view, 1> kNcclFiles = {"libnccl.so.2"};

std::vector<std::string> Split(const char* list) {
  std::vector<std::string> parts;
  std::stringstream stream(list == nullptr ? "" : list);
  for (std::string part; std::getline(stream, part, ':');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// What a command prints, line by line; nothing where it fails.
std::vector<std::string> LinesOf(const char* command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command, "r"), &pclose);
  if (!pipe) return {};
  std::string text;
  std::array<char, 4096> piece;
  while (const size_t count = fread(piece.data(), 1, piece.size(), pipe.get()))
    text.append(piece.data(), count);
  std::vector<std::string> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    if (!line.empty()) lines.push_back(line);
  return lines;
}

// nvidia/cu13/lib, nvidia/nccl/lib and the like, wherever that python3 finds packages.
std::vector<LibraryPlace> PythonPlaces() {
  std::vector<LibraryPlace> places;
  for (const std::string& packages :
       LinesOf("python3 -c 'import sys; print(\"\\n\".join(sys.path))' 2>/dev/null")) {
    std::error_code error;
    std::vector<std::string> directories;
    for (const fs::directory_entry& entry :
         fs::directory_iterator(fs::path(packages) / "nvidia", error)) {
      const fs::path lib = entry.path() / "lib";
      if (fs::is_directory(lib, error)) directories.push_back(lib.string());
    }
    std::ranges::sort(directories);  // the same order on every machine
    for (const std::string& directory : directories)
      places.push_back({directory, "Python packages"});
  }
  return places;
}

std::string Describe(const LibraryPlace& place) {
  return place.directory.empty() ? place.origin
                                 : fmt::format("{} ({})", place.directory, place.origin);
}

// A file of a place: loaded, and of a version that will do, or what is wrong with it.
struct Attempt {
  LibraryCopy copy;
  std::optional<LoadedCudaLibrary> loaded;
};

std::string Unfit(const CudaLibrary& library, int version) {
  if (version < library.min_version)
    return fmt::format("is too old: {} or newer is needed", VersionText(library.min_version));
  if (version >= library.end_version)
    return fmt::format("is too new: it has to be older than {}", VersionText(library.end_version));
  return "";
}

// Nothing where there is no such file.
std::optional<Attempt> Try(const CudaLibrary& library, const LibraryPlace& place,
                           std::string_view file_name) {
  std::string path(file_name);
  std::error_code error;
  if (!place.directory.empty()) {
    path = (fs::path(place.directory) / file_name).string();
    if (!fs::exists(path, error)) return std::nullopt;
  }
  Attempt attempt{{path, place.origin, "", ""}, std::nullopt};
  Result<DynamicLibrary> loaded = DynamicLibrary::Load(path);
  if (!loaded.ok()) {
    // What the loader does not find is not there; what it finds and cannot load, it says why.
    const std::string words = loaded.status().message();
    if (place.directory.empty() && words.find(path + ": cannot open") != std::string::npos)
      return std::nullopt;
    attempt.copy.problem = "cannot be loaded: " + words;
    return attempt;
  }
  attempt.copy.path = loaded->path();
  const Result<int> version = library.version(*loaded);
  if (!version.ok()) {
    attempt.copy.problem = "does not say its version: " + version.status().message();
    return attempt;
  }
  attempt.copy.version = VersionText(*version);
  attempt.copy.problem = Unfit(library, *version);
  if (attempt.copy.problem.empty())
    attempt.loaded = LoadedCudaLibrary{*std::move(loaded), *version};
  return attempt;
}

}  // namespace

// From 12.0 on the attributes and types that are used here have not changed.
const CudaLibrary kCublasLt = {
    .name = "cuBLASLt",
    .used_for = "matrix products on GPUs",
    .file_names = kCublasLtFiles,
    .version = CublasLtVersion,
    .min_version = 120000,
    .end_version = 140000,
    .advice = "install it with CUDA (Debian: libcublas-13-0, Python: pip install nvidia-cublas)"};
// 2.18 was the first that can split a communicator; 3 would be another interface.
const CudaLibrary kNccl = {
    .name = "NCCL",
    .used_for = "collectives between GPUs",
    .file_names = kNcclFiles,
    .version = NcclVersion,
    .min_version = 21800,
    .end_version = 30000,
    .advice = "install it (Debian: libnccl2, Python: pip install nvidia-nccl-cu13)"};

std::span<const CudaLibrary* const> CudaLibraries() {
  static constexpr std::array<const CudaLibrary*, 2> kAll = {&kCublasLt, &kNccl};
  return kAll;
}

std::string VersionText(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

LibraryPlaces::LibraryPlaces(std::vector<LibraryPlace> places, Late late)
    : places_(std::move(places)), late_(std::move(late)) {}

LibraryPlaces LibraryPlaces::Standard() {
  std::vector<LibraryPlace> places;
  for (const std::string& directory : Split(getenv("STRATA_CUDA_LIBRARIES")))
    places.push_back({directory, "STRATA_CUDA_LIBRARIES"});
  places.push_back({"", "the loader's places"});
  if (const char* home = getenv("CUDA_HOME"); home != nullptr && *home != '\0')
    places.push_back({fmt::format("{}/lib64", home), "CUDA_HOME"});
  places.push_back({"/usr/local/cuda/lib64", "where CUDA installs itself"});
  return LibraryPlaces(std::move(places), PythonPlaces);
}

void LibraryPlaces::Visit(const std::function<bool(const LibraryPlace&)>& visit) const {
  for (const LibraryPlace& place : places_)
    if (visit(place)) return;
  if (!late_) return;
  for (const LibraryPlace& place : late_())
    if (visit(place)) return;
}

Result<LoadedCudaLibrary> LoadCudaLibrary(const CudaLibrary& library, const LibraryPlaces& places) {
  std::optional<LoadedCudaLibrary> found;
  std::vector<std::string> searched, problems;
  places.Visit([&](const LibraryPlace& place) {
    searched.push_back(Describe(place));
    for (const std::string_view file_name : library.file_names) {
      const std::optional<Attempt> attempt = Try(library, place, file_name);
      if (!attempt) continue;
      found = attempt->loaded;
      if (found) return true;
      const LibraryCopy& copy = attempt->copy;
      problems.push_back(fmt::format("{}{}{} {}", copy.path,
                                     copy.version.empty() ? "" : " of version ", copy.version,
                                     copy.problem));
    }
    return false;
  });
  if (found) return *std::move(found);
  return Unavailable(
      fmt::format("{}, for {}, is missing: looked for {} in {}{}{}: {}, or name its directory in "
                  "STRATA_CUDA_LIBRARIES",
                  library.name, library.used_for, fmt::join(library.file_names, ", "),
                  fmt::join(searched, ", "), problems.empty() ? "" : "; ",
                  fmt::join(problems, "; "), library.advice));
}

std::vector<LibraryCopy> FindCudaLibrary(const CudaLibrary& library, const LibraryPlaces& places) {
  std::vector<LibraryCopy> copies;
  std::set<std::string> seen;
  places.Visit([&](const LibraryPlace& place) {
    for (const std::string_view file_name : library.file_names) {
      const std::optional<Attempt> attempt = Try(library, place, file_name);
      if (!attempt) continue;
      std::error_code error;
      const fs::path file = fs::canonical(attempt->copy.path, error);
      if (seen.insert(error ? attempt->copy.path : file.string()).second)
        copies.push_back(attempt->copy);
    }
    return false;
  });
  return copies;
}

}  // namespace strata::tiering
