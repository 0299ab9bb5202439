#include "tiering/cuda_libraries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/tiering/temp_dir.h"

namespace strata::tiering {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// Libraries that only say a version: tests/tiering/CMakeLists.txt.
const std::string kLibraries = std::string(STRATA_BINARY_DIR) + "/tests/tiering/libraries/";

LibraryPlace In(const std::string& folder) { return {kLibraries + folder, "a test's places"}; }

// An environment variable for as long as it lives.
class Setting {
 public:
  Setting(const char* name, const std::string& value) : name_(name) {
    if (const char* before = getenv(name)) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  ~Setting() { before_.empty() ? unsetenv(name_) : setenv(name_, before_.c_str(), 1); }

 private:
  const char* name_;
  std::string before_;
};

TEST(CudaLibrariesTest, TakesTheFirstPlaceThatHasTheLibrary) {
  const LibraryPlaces places({In("none"), In("v12"), In("v13")});
  const Result<LoadedCudaLibrary> loaded = LoadCudaLibrary(kCublasLt, places);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded->version, 120900);
  EXPECT_EQ(loaded->library.path(), kLibraries + "v12/libcublasLt.so.12");
}

TEST(CudaLibrariesTest, GoesOnWhereAVersionWillNotDo) {
  const LibraryPlaces places({In("old"), In("next"), In("nameless"), In("v13")});
  const Result<LoadedCudaLibrary> loaded = LoadCudaLibrary(kCublasLt, places);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded->version, 130100);
}

TEST(CudaLibrariesTest, AMissingLibraryNamesEveryPlaceWhatWasWrongThereAndWhatToDo) {
  const TempDir garbage;
  std::ofstream(garbage.path() + "/libcublasLt.so.13") << "not a library";
  const LibraryPlaces places({In("none"), In("old"), In("next"), In("nameless")}, [&] {
    return std::vector<LibraryPlace>{{garbage.path(), "Python packages"}};
  });
  const Status status = LoadCudaLibrary(kCublasLt, places).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  const std::string& words = status.message();
  EXPECT_THAT(words, HasSubstr("cuBLASLt, for matrix products on GPUs, is missing"));
  EXPECT_THAT(words, HasSubstr("libcublasLt.so.13, libcublasLt.so.12"));
  EXPECT_THAT(words, HasSubstr(kLibraries + "none (a test's places)"));
  EXPECT_THAT(words, HasSubstr(garbage.path() + " (Python packages)"));
  EXPECT_THAT(words, HasSubstr("old/libcublasLt.so.12 of version 11.8.0 is too old: 12.0.0 or"));
  EXPECT_THAT(words, HasSubstr("next/libcublasLt.so.13 of version 14.0.0 is too new"));
  EXPECT_THAT(words, HasSubstr("nameless/libcublasLt.so.13 does not say its version"));
  EXPECT_THAT(words, HasSubstr(garbage.path() + "/libcublasLt.so.13 cannot be loaded: "));
  EXPECT_THAT(words, HasSubstr("pip install nvidia-cublas"));
  EXPECT_THAT(words, HasSubstr("STRATA_CUDA_LIBRARIES"));
}

TEST(CudaLibrariesTest, PythonIsAskedOnlyWhereNothingElseHasTheLibrary) {
  int times = 0;
  const LibraryPlaces::Late late = [&] {
    ++times;
    return std::vector<LibraryPlace>{In("v13")};
  };
  EXPECT_TRUE(LoadCudaLibrary(kCublasLt, LibraryPlaces({In("v12")}, late)).ok());
  EXPECT_EQ(times, 0);
  EXPECT_TRUE(LoadCudaLibrary(kCublasLt, LibraryPlaces({In("none")}, late)).ok());
  EXPECT_EQ(times, 1);
}

TEST(CudaLibrariesTest, ListsEveryCopyOnceWithItsVersionAndWhatIsWrongWithIt) {
  const LibraryPlaces places({In("old"), In("v13"), In("v13"), In("v12")});
  const std::vector<LibraryCopy> copies = FindCudaLibrary(kCublasLt, places);
  ASSERT_THAT(copies, SizeIs(3));
  EXPECT_EQ(copies[0].version, "11.8.0");
  EXPECT_THAT(copies[0].problem, HasSubstr("too old"));
  EXPECT_THAT(copies[1].path, EndsWith("v13/libcublasLt.so.13"));
  EXPECT_EQ(copies[1].version, "13.1.0");
  EXPECT_EQ(copies[1].origin, "a test's places");
  EXPECT_THAT(copies[1].problem, IsEmpty());
  EXPECT_EQ(copies[2].version, "12.9.0");
  EXPECT_THAT(FindCudaLibrary(kCublasLt, LibraryPlaces({In("none")})), IsEmpty());
}

TEST(CudaLibrariesTest, TheEnvironmentComesFirst) {
  const Setting setting("STRATA_CUDA_LIBRARIES", kLibraries + "none:" + kLibraries + "v12");
  const Result<LoadedCudaLibrary> loaded = LoadCudaLibrary(kCublasLt);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  EXPECT_EQ(loaded->library.path(), kLibraries + "v12/libcublasLt.so.12");
}

TEST(CudaLibrariesTest, PlacesOfAProcessAreInTheDocumentedOrder) {
  const TempDir bin;  // its python3 says where packages are
  const std::string packages = bin.path() + "/packages";
  for (const char* name : {"/nvidia/nccl/lib", "/nvidia/cu13/lib", "/nvidia/empty"})
    std::filesystem::create_directories(packages + name);
  std::ofstream(bin.path() + "/python3") << "#!/bin/sh\necho\necho " << packages << "\n";
  std::filesystem::permissions(bin.path() + "/python3", std::filesystem::perms::owner_all);
  const Setting ours("STRATA_CUDA_LIBRARIES", "/a:/b"), home("CUDA_HOME", "/opt/cuda");
  const Setting path("PATH", bin.path() + ":" + getenv("PATH"));
  std::vector<std::string> directories;
  LibraryPlaces::Standard().Visit([&](const LibraryPlace& place) {
    directories.push_back(place.directory);
    return false;
  });
  EXPECT_THAT(directories,
              testing::ElementsAre("/a", "/b", "", "/opt/cuda/lib64", "/usr/local/cuda/lib64",
                                   packages + "/nvidia/cu13/lib", packages + "/nvidia/nccl/lib"));
}

}  // namespace
}  // namespace strata::tiering
