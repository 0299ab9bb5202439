#include "engine/data/internal/documents.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "aio/base/units.h"
#include "engine/data/internal/piece_reader.h"
#include "engine/data/internal/utf8.h"

namespace strata::engine::data_internal {
namespace {

// A line is held in memory, parsed: this much bounds it.
constexpr size_t kMaxLineBytes = 64_MiB;

class TextParser {
 public:
  TextParser(const CorpusFile& file, const DocumentHandler& handler)
      : file_(file), handler_(handler) {}

  Status Add(std::string_view piece) {
    pending_.append(piece);
    Utf8Scan scan = ScanUtf8(pending_);
    if (scan.is_invalid) return Invalid(scan.valid_bytes);
    if (scan.valid_bytes == 0) return OkStatus();
    STRATA_RETURN_IF_ERROR(
        handler_.on_text(std::string_view(pending_).substr(0, scan.valid_bytes)));
    offset_bytes_ += scan.valid_bytes;
    pending_.erase(0, scan.valid_bytes);
    return OkStatus();
  }

  Status Finish() {
    if (!pending_.empty()) return Invalid(0);
    return offset_bytes_ == 0 ? OkStatus() : handler_.on_end_of_document();
  }

 private:
  Status Invalid(size_t at) const {
    return InvalidArgument(
        fmt::format("data {} offset_bytes={}: not UTF-8 text: convert the file, or move it away",
                    file_.path, offset_bytes_ + at));
  }

  const CorpusFile& file_;
  const DocumentHandler& handler_;
  std::string pending_;        // what was not handed on: part of a character at most
  uint64_t offset_bytes_ = 0;  // of pending_ in the file
};

// The one place where nlohmann may throw.
Result<std::string> TextOf(std::string_view line) {
  try {
    nlohmann::json record = nlohmann::json::parse(line);
    auto text = record.is_object() ? record.find("text") : record.end();
    if (text == record.end() || !text->is_string())
      return InvalidArgument("not an object with a string \"text\"");
    return text->get<std::string>();
  } catch (const nlohmann::json::parse_error& error) {
    return InvalidArgument(fmt::format("not valid JSON at byte {} of the line", error.byte));
  } catch (const std::exception& error) {
    return InvalidArgument(fmt::format("not valid JSON: {}", error.what()));
  }
}

class JsonLinesParser {
 public:
  JsonLinesParser(const CorpusFile& file, const DocumentHandler& handler)
      : file_(file), handler_(handler) {}

  Status Add(std::string_view piece) {
    for (size_t end; (end = piece.find('\n')) != piece.npos; piece.remove_prefix(end + 1)) {
      line_.append(piece.substr(0, end));
      STRATA_RETURN_IF_ERROR(EndLine());
    }
    line_.append(piece);
    if (line_.size() <= kMaxLineBytes) return OkStatus();
    return Bad(InvalidArgument("longer than " + FormatBytes(kMaxLineBytes)));
  }

  Status Finish() { return EndLine(); }

 private:
  Status EndLine() {
    ++line_number_;
    if (line_.find_first_not_of(" \t\r") == line_.npos) {
      line_.clear();
      return OkStatus();
    }
    Result<std::string> text = TextOf(line_);
    line_.clear();
    if (!text.ok()) return Bad(text.status());
    if (text->empty()) return OkStatus();
    STRATA_RETURN_IF_ERROR(handler_.on_text(*text));
    return handler_.on_end_of_document();
  }

  Status Bad(const Status& status) const {
    return status.With(fmt::format("data {}:{}", file_.path, line_number_));
  }

  const CorpusFile& file_;
  const DocumentHandler& handler_;
  std::string line_;
  uint64_t line_number_ = 0;
};

template <typename Parser>
Status Feed(const CorpusFile& file, const DocumentHandler& handler) {
  Parser parser(file, handler);
  STRATA_ASSIGN_OR_RETURN(PieceReader reader, PieceReader::Open(file.path));
  for (;;) {
    STRATA_ASSIGN_OR_RETURN(std::string_view piece, reader.Next());
    if (piece.empty()) break;
    STRATA_RETURN_IF_ERROR(parser.Add(piece));
    handler.on_read(piece.size());
  }
  STRATA_RETURN_IF_ERROR(parser.Finish());
  if (reader.content_hash() == file.content_hash) return OkStatus();
  return DataLoss("data " + file.path + " changed while it was read: start again");
}

}  // namespace

Status ReadDocuments(const CorpusFile& file, const DocumentHandler& handler) {
  if (file.format == FileFormat::kJsonLines) return Feed<JsonLinesParser>(file, handler);
  return Feed<TextParser>(file, handler);
}

}  // namespace strata::engine::data_internal
