#include "engine/data/internal/token_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <vector>

namespace strata::engine::data_internal {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kHeaderBytes = 4096;
constexpr std::array<char, 8> kMagic = {'S', 'T', 'R', 'A', 'T', 'O', 'K', '\n'};
constexpr uint64_t kVersion = 1;

struct Header {
  std::array<char, 8> magic = kMagic;
  uint64_t version = kVersion;
  uint64_t key = 0;
  uint64_t num_tokens = 0;
  uint64_t tokens_hash = 0;
  uint64_t header_hash = 0;  // of the fields before it

  uint64_t Hash() const { return XXH3_64bits(this, offsetof(Header, header_hash)); }
  uint64_t FileBytes() const { return kHeaderBytes + num_tokens * sizeof(uint16_t); }
};

constexpr std::string_view kTemporaryMark = ".tmp-";

// False with errno when it is not ours now; EWOULDBLOCK when it is somebody else's.
bool TryLock(const aio::File& file) {
  for (;;) {
    if (flock(file.fd(), LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EINTR) return false;
  }
}

// A new temporary file for `path`, locked where the file system can.
Result<aio::File> MakeTemporary(const std::string& path) {
  // Ranks on several machines may share the directory, so no name is made of a process id.
  std::random_device random;
  for (;;) {
    std::string temporary =
        fmt::format("{}{}{:08x}{:08x}", path, kTemporaryMark, random(), random());
    STRATA_ASSIGN_OR_RETURN(aio::File file,
                            aio::File::Open(temporary, {.access = aio::FileAccess::kReadWrite,
                                                        .create = aio::FileCreate::kCreateNew,
                                                        .direct = false}));
    // Between its creation and its lock, another process may have taken it for an abandoned one.
    bool is_taken = !TryLock(file) && errno == EWOULDBLOCK;
    if (!is_taken && access(temporary.c_str(), F_OK) == 0) return file;
  }
}

Status WriteAt(const aio::File& file, const void* bytes, size_t size_bytes, uint64_t offset_bytes) {
  const char* at = static_cast<const char*>(bytes);
  while (size_bytes > 0) {
    ssize_t length = pwrite(file.fd(), at, size_bytes, static_cast<off_t>(offset_bytes));
    if (length < 0 && errno == EINTR) continue;
    if (length < 0)
      return ErrnoStatus(errno, fmt::format("write {} offset_bytes={} length_bytes={}", file.path(),
                                            offset_bytes, size_bytes));
    at += length;
    offset_bytes += static_cast<uint64_t>(length);
    size_bytes -= static_cast<size_t>(length);
  }
  return OkStatus();
}

Status ReadAt(const aio::File& file, void* bytes, size_t size_bytes, uint64_t offset_bytes) {
  char* at = static_cast<char*>(bytes);
  while (size_bytes > 0) {
    ssize_t length = pread(file.fd(), at, size_bytes, static_cast<off_t>(offset_bytes));
    if (length < 0 && errno == EINTR) continue;
    std::string what = fmt::format("read {} offset_bytes={} length_bytes={}", file.path(),
                                   offset_bytes, size_bytes);
    if (length < 0) return ErrnoStatus(errno, what);
    if (length == 0) return DataLoss(what + ": end of file");
    at += length;
    offset_bytes += static_cast<uint64_t>(length);
    size_bytes -= static_cast<size_t>(length);
  }
  return OkStatus();
}

Result<Header> ReadHeader(const aio::File& file, uint64_t key) {
  Header header;
  STRATA_RETURN_IF_ERROR(ReadAt(file, &header, sizeof(header), 0));
  auto damaged = [&](std::string_view what) {
    return DataLoss(fmt::format("token file {}: {}", file.path(), what));
  };
  if (header.magic != kMagic || header.version != kVersion) return damaged("not of this version");
  if (header.Hash() != header.header_hash) return damaged("header checksum does not match");
  if (header.key != key) return damaged("made of other data");
  STRATA_ASSIGN_OR_RETURN(uint64_t size_bytes, file.SizeBytes());
  if (size_bytes != header.FileBytes())
    return damaged(fmt::format("{} bytes long instead of {}", size_bytes, header.FileBytes()));
  return header;
}

// By read() and not through the mapping, which would make all of it resident.
Status VerifyTokens(const aio::File& file, const Header& header) {
  std::vector<char> piece(size_t{1} << 20);
  Hasher hasher;
  for (uint64_t at = kHeaderBytes; at < header.FileBytes(); at += piece.size()) {
    piece.resize(std::min<uint64_t>(piece.size(), header.FileBytes() - at));
    STRATA_RETURN_IF_ERROR(ReadAt(file, piece.data(), piece.size(), at));
    hasher.Add(piece.data(), piece.size());
  }
  if (hasher.Digest() == header.tokens_hash) return OkStatus();
  return DataLoss(fmt::format("token file {}: checksum does not match", file.path()));
}

}  // namespace

void TokenFileWriter::Remove::operator()(std::string* temporary) const {
  unlink(temporary->c_str());  // best effort: no reader takes it for a token file
  delete temporary;
}

TokenFileWriter::TokenFileWriter(aio::File file, std::string path, uint64_t key)
    : file_(std::move(file)),
      temporary_(new std::string(file_.path())),
      path_(std::move(path)),
      key_(key) {}

Result<TokenFileWriter> TokenFileWriter::Create(const std::string& path, uint64_t key) {
  std::filesystem::path directory = std::filesystem::path(path).parent_path();
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return ErrnoStatus(error.value(), "make data cache " + directory.string());
  STRATA_ASSIGN_OR_RETURN(aio::File file, MakeTemporary(path));
  return TokenFileWriter(std::move(file), path, key);
}

Status TokenFileWriter::Append(std::span<const uint16_t> tokens) {
  uint64_t offset_bytes = kHeaderBytes + num_tokens_ * sizeof(uint16_t);
  STRATA_RETURN_IF_ERROR(WriteAt(file_, tokens.data(), tokens.size_bytes(), offset_bytes));
  hasher_.Add(tokens.data(), tokens.size_bytes());
  num_tokens_ += tokens.size();
  return OkStatus();
}

Status TokenFileWriter::Finish() && {
  Header header = {.key = key_, .num_tokens = num_tokens_, .tokens_hash = hasher_.Digest()};
  header.header_hash = header.Hash();
  std::array<char, kHeaderBytes> page = {};
  std::memcpy(page.data(), &header, sizeof(header));
  STRATA_RETURN_IF_ERROR(WriteAt(file_, page.data(), page.size(), 0));
  if (fsync(file_.fd()) != 0) return ErrnoStatus(errno, "fsync " + file_.path());
  if (std::rename(temporary_->c_str(), path_.c_str()) != 0)
    return ErrnoStatus(errno, "rename " + *temporary_ + " to " + path_);
  delete temporary_.release();
  return OkStatus();  // a crash may forget the new name: then it is tokenised again
}

void RemoveAbandonedTokenFiles(const std::string& directory) {
  std::error_code error;
  std::filesystem::directory_iterator at(directory, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::string path = at->path().string();
    bool is_temporary = at->path().extension().string().starts_with(kTemporaryMark);
    if (!is_temporary) continue;
    Result<aio::File> file =
        aio::File::Open(path, {.access = aio::FileAccess::kReadWrite, .direct = false});
    if (file.ok() && TryLock(*file)) unlink(path.c_str());
  }
}

void Unmap::operator()(void* address) const { STRATA_CHECK(munmap(address, size_bytes) == 0); }

Result<TokenFile> TokenFile::Open(const std::string& path, uint64_t key) {
  STRATA_ASSIGN_OR_RETURN(aio::File file, aio::File::Open(path, {.direct = false}));
  STRATA_ASSIGN_OR_RETURN(Header header, ReadHeader(file, key));
  STRATA_RETURN_IF_ERROR(VerifyTokens(file, header));
  size_t size_bytes = header.FileBytes();
  void* address = mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, file.fd(), 0);
  if (address == MAP_FAILED) return ErrnoStatus(errno, "mmap " + path);
  TokenFile tokens;
  tokens.mapping_ = std::unique_ptr<void, Unmap>(address, Unmap{size_bytes});
  // Samples are read in random order: read-ahead would fetch what nobody asked for.
  if (madvise(address, size_bytes, MADV_RANDOM) != 0) return ErrnoStatus(errno, "madvise " + path);
  const char* payload = static_cast<const char*>(address) + kHeaderBytes;
  tokens.tokens_ = {reinterpret_cast<const uint16_t*>(payload), header.num_tokens};
  tokens.hash_ = header.tokens_hash;
  return tokens;
}

}  // namespace strata::engine::data_internal
