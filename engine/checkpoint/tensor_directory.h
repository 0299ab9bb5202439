// A directory of safetensors files that is whole or not there, and knows when it is damaged.
//
//   DIR/rank-0-of-2.safetensors   named tensors, as any safetensors library reads them
//   DIR/rank-1-of-2.safetensors
//   DIR/manifest.json             what this is about, the files, and checksums (XXH3, 64 bits) of
//                                 each header and of every 4 MiB of every tensor; the last member
//                                 is the manifest's own
//
// It is written under another name beside its place: the files first, then the manifest, each
// flushed, then it is renamed. So what has the name is complete, whatever the writer's end was. It
// holds no path and can be copied anywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aio/base/status.h"
#include "engine/checkpoint/safetensors.h"

namespace strata::engine {

class CheckedFile;

struct TensorManifest {
  static constexpr uint64_t kPieceBytes = 4ULL << 20;

  struct File {
    std::string name;
    uint64_t size_bytes = 0;
    uint64_t header_bytes = 0;
    uint64_t header_hash = 0;
    // In the order of the data: of each tensor every kPieceBytes, the last one of what is left.
    std::vector<uint64_t> piece_hashes;
  };
  std::string about;  // a JSON object: the writer's own
  std::vector<File> files;

  uint64_t size_bytes() const;
};

// A file to be written: tensors in the order of their data, whose offsets are already theirs.
struct TensorFile {
  std::string name;
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata = {};
};

// Takes the bytes of one tensor, in order, in portions of any size.
using TensorSink = std::function<Status(std::span<const std::byte>)>;
// Hands all bytes of files[file].entries[entry] to the sink.
using TensorWriter = std::function<Status(size_t file, size_t entry, const TensorSink& sink)>;

// `about` is the text of a JSON object. kAlreadyExists when something stands at `path`,
// kResourceExhausted, before anything is written, when the file system has not the space. On
// failure nothing is left behind; a killed writer leaves PATH.partial-PID. Needs 4 MiB of memory
// beside the writer's.
Status WriteTensorDirectory(const std::string& path, std::span<const TensorFile> files,
                            std::string_view about, const TensorWriter& write);

// Whether there is a manifest.
bool HoldsTensorDirectory(const std::string& path);
// The manifest alone. kNotFound when there is none, kDataLoss when it is damaged.
Result<TensorManifest> ReadTensorManifest(const std::string& path);

// Whether its files are there, of the sizes that the manifest says: kDataLoss names the first that
// is not. Looks at no content.
Status CheckTensorFiles(const std::string& path, const TensorManifest& manifest);
// Removes the manifest, durably, and then the rest: what a crash leaves is no such directory.
Status RemoveTensorDirectory(const std::string& path);

// Open for reading: every byte that is given out has been checked. Thread-compatible.
class TensorDirectory {
 public:
  // All files are there, of the size that the manifest says, with headers as they were written:
  // else kDataLoss naming the file. Memory: `num_pages` times 4 MiB.
  static Result<std::unique_ptr<TensorDirectory>> Open(const std::string& path, uint32_t num_pages);
  ~TensorDirectory();

  const std::string& path() const { return path_; }
  const TensorManifest& manifest() const { return manifest_; }
  // Of manifest().files[file].
  const std::vector<SafetensorsEntry>& entries(size_t file) const;

  // Bytes of a tensor, one of entries(file). kDataLoss names the file, the tensor and the offset.
  Status Read(size_t file, const SafetensorsEntry& entry, uint64_t offset_bytes,
              std::span<std::byte> out);

 private:
  struct Page {
    size_t file = 0;
    size_t piece = 0;
    std::vector<std::byte> bytes;
  };

  TensorDirectory(std::string path, TensorManifest manifest, uint32_t num_pages);
  Result<std::span<const std::byte>> Load(size_t file, size_t piece);

  std::string path_;
  TensorManifest manifest_;
  std::vector<CheckedFile> files_;
  size_t max_pages_;
  std::list<Page> pages_;  // the last used first
};

// Reads all of it, and tells of everything that is not as it was written: one error for each
// damaged piece, missing file or damaged header; without its header nothing of a file can be looked
// at. Fails itself only where there is no manifest to
// go by.
Status CheckTensorDirectory(
    const std::string& path, const std::function<void(const Status& what)>& on_damage,
    const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& on_progress);

}  // namespace strata::engine
