#include "engine/data/internal/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <system_error>

#include "engine/data/internal/piece_reader.h"

namespace strata::engine::data_internal {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 22> kTextExtensions = {
    ".txt", ".md", ".cc", ".h",  ".cpp", ".hpp", ".c",    ".py",  ".toml", ".json", ".cmake",
    ".sh",  ".cu", ".rs", ".go", ".js",  ".ts",  ".html", ".css", ".yml",  ".yaml", ".jsonl"};
constexpr std::array<std::string_view, 6> kTextNames = {"LICENSE",  "README",     "NOTICE",
                                                        "Makefile", "Dockerfile", "AUTHORS"};
// Text has no NUL; what has one is found near its start.
constexpr size_t kBinaryProbeBytes = 8192;

bool IsTextName(const fs::path& path) {
  return std::ranges::count(kTextExtensions, path.extension().string()) > 0 ||
         std::ranges::count(kTextNames, path.filename().string()) > 0;
}

FileFormat FormatOf(const fs::path& path) {
  return path.extension() == ".jsonl" ? FileFormat::kJsonLines : FileFormat::kText;
}

// Walks a directory. Links to files are followed, links to directories, which may loop, are not.
class Walk {
 public:
  Walk(fs::path root, const std::vector<std::string>& exclude) : root_(std::move(root)) {
    for (const std::string& directory : exclude) exclude_.push_back(Canonical(directory));
  }

  Result<Corpus> Run() && {
    std::error_code error;
    fs::recursive_directory_iterator at(root_, error);
    for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
      path_ = at->path();
      if (!Enter(*at, error)) at.disable_recursion_pending();
      if (error) break;
    }
    if (error) return ErrnoStatus(error.value(), "read data " + path_.string());
    std::ranges::sort(corpus_.files, {}, &CorpusFile::name);
    return std::move(corpus_);
  }

 private:
  static fs::path Canonical(const fs::path& path) {
    std::error_code error;
    fs::path canonical = fs::weakly_canonical(path, error);
    return error ? path : canonical;
  }

  // What a run writes is not data, wherever its directory is.
  static bool IsRun(const fs::path& directory) {
    std::error_code error;
    return fs::exists(directory / "run_id", error);
  }

  // Counts or keeps one entry; whether to go down into it.
  bool Enter(const fs::directory_entry& entry, std::error_code& error) {
    std::string name = entry.path().filename().string();
    if (name.starts_with('.')) {
      ++corpus_.num_hidden;
      return false;
    }
    fs::file_status status = entry.status(error);
    if (fs::status_known(status)) error.clear();  // a link that leads nowhere is no failure
    if (error) return false;
    if (fs::is_directory(status)) return EnterDirectory(entry, name);
    if (fs::is_regular_file(status) && IsTextName(entry.path())) {
      Keep(entry.path());
    } else {
      ++corpus_.num_other;
    }
    return false;
  }

  bool EnterDirectory(const fs::directory_entry& entry, const std::string& name) {
    bool is_excluded = name.starts_with("build") || name == "runs" || IsRun(entry.path()) ||
                       std::ranges::count(exclude_, Canonical(entry.path())) > 0;
    corpus_.num_excluded += is_excluded ? 1 : 0;
    return !is_excluded;
  }

  void Keep(const fs::path& path) {
    CorpusFile file = {.path = path.string(),
                       .name = path.lexically_relative(root_).generic_string(),
                       .format = FormatOf(path)};
    corpus_.files.push_back(std::move(file));
  }

  fs::path root_;
  std::vector<fs::path> exclude_;
  fs::path path_ = root_;  // where the walk is, for messages
  Corpus corpus_;
};

// Fills in size and hash; false for a binary file.
Result<bool> HashContent(CorpusFile& file) {
  STRATA_ASSIGN_OR_RETURN(PieceReader reader, PieceReader::Open(file.path));
  bool is_first = true;
  for (;;) {
    STRATA_ASSIGN_OR_RETURN(std::string_view piece, reader.Next());
    if (piece.empty()) break;
    if (is_first && piece.substr(0, kBinaryProbeBytes).find('\0') != piece.npos) return false;
    is_first = false;
  }
  file.size_bytes = reader.size_bytes();
  file.content_hash = reader.content_hash();
  return true;
}

Status HashContents(Corpus& corpus) {
  std::vector<CorpusFile> text_files;
  for (CorpusFile& file : corpus.files) {
    STRATA_ASSIGN_OR_RETURN(bool is_text, HashContent(file));
    if (is_text)
      text_files.push_back(std::move(file));
    else
      ++corpus.num_binary;
  }
  corpus.files = std::move(text_files);
  return OkStatus();
}

Status NothingToRead(const std::string& path, const Corpus& corpus) {
  return Status(Code::kNotFound,
                fmt::format("no text in data {}: looked for .txt, .md, .jsonl and source files, "
                            "and skipped {} of other kinds, {} binary, {} hidden, {} directories "
                            "(build*, runs, a run's)",
                            path, corpus.num_other, corpus.num_binary, corpus.num_hidden,
                            corpus.num_excluded));
}

}  // namespace

uint64_t Corpus::TotalBytes() const {
  uint64_t total = 0;
  for (const CorpusFile& file : files) total += file.size_bytes;
  return total;
}

Result<Corpus> ListCorpus(const std::string& path, const std::vector<std::string>& exclude) {
  std::error_code error;
  fs::file_status status = fs::status(path, error);
  if (!fs::status_known(status) || !fs::exists(status))
    return ErrnoStatus(error ? error.value() : ENOENT, "open data " + path);
  Corpus corpus;
  if (fs::is_directory(status)) {
    STRATA_ASSIGN_OR_RETURN(corpus, Walk(fs::path(path).lexically_normal(), exclude).Run());
  } else {
    corpus.files.push_back(
        {.path = path, .name = fs::path(path).filename().string(), .format = FormatOf(path)});
  }
  STRATA_RETURN_IF_ERROR(HashContents(corpus));
  if (corpus.files.empty()) return NothingToRead(path, corpus);
  return corpus;
}

}  // namespace strata::engine::data_internal
