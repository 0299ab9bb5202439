#include "engine/config/aio_section.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "aio/base/units.h"
#include "aio/file.h"
#include "engine/config/internal/toml_edit.h"
#include "engine/config/internal/toml_layer.h"

namespace strata::engine {
namespace {

using config_internal::Edit;

constexpr std::string_view kThreads = "thread_count";
constexpr std::string_view kThreadsAlias = "intra_op_parallelism";

// "1MiB", "768KiB", "4097".
std::string SizeText(uint64_t bytes) {
  for (auto [unit, suffix] : {std::pair(1_GiB, "GiB"), {1_MiB, "MiB"}, {1_KiB, "KiB"}})
    if (bytes % unit == 0) return fmt::format("{}{}", bytes / unit, suffix);
  return fmt::format("{}", bytes);
}

struct KeyValue {
  std::string key;
  std::string text;    // as TOML writes it
  std::string number;  // the same where the file has a number; else empty
};

std::vector<KeyValue> KeysOf(const AioSection& section) {
  auto number = [](uint64_t value) { return fmt::format("{}", value); };
  return {{"backend", fmt::format("\"{}\"", aio::IoBackendName(section.backend)), ""},
          {"block_size", fmt::format("\"{}\"", SizeText(section.block_size_bytes)),
           number(section.block_size_bytes)},
          {"queue_depth", number(section.queue_depth), ""},
          {std::string(kThreads), number(section.thread_count), ""},
          {"sqpoll", section.sqpoll ? "true" : "false", ""}};
}

std::string CommentLines(std::string_view comment, std::string_view line_end) {
  std::string lines;
  while (!comment.empty()) {
    size_t end = std::min(comment.find('\n'), comment.size());
    lines += fmt::format("# {}{}", comment.substr(0, end), line_end);
    comment.remove_prefix(std::min(end + 1, comment.size()));
  }
  return lines;
}

std::string SectionText(const AioSection& section, std::string_view comment,
                        std::string_view line_end) {
  std::string text = fmt::format("{}[aio]{}", CommentLines(comment, line_end), line_end);
  for (const KeyValue& pair : KeysOf(section))
    text += fmt::format("{} = {}{}", pair.key, pair.text, line_end);
  return text;
}

// One edit of one text.
class Editor {
 public:
  Editor(std::string_view text, const toml::table& root)
      : text_(text), root_(root), expected_(root) {}

  Result<std::string> Run(const AioSection& section, std::string_view comment) {
    const toml::node* node = root_.get("aio");
    if (node != nullptr && !node->is_table())
      return InvalidArgument("aio is not a section: rename that key, or make it [aio]");
    if (node == nullptr || StyleOf(*node->as_table()) == Style::kNone) {
      Append(section, comment);
    } else {
      STRATA_RETURN_IF_ERROR(Change(*node->as_table(), section));
    }
    return config_internal::Apply(text_, std::move(edits_));
  }

  const toml::table& expected() const { return expected_; }

 private:
  enum class Style { kNone, kHeader, kInline, kDotted };
  enum class Value { kAsText, kAsNumber };

  size_t Begin(const toml::node& node) const { return At(node.source().begin); }
  size_t End(const toml::node& node) const { return At(node.source().end); }
  size_t At(const toml::source_position& position) const {
    return config_internal::OffsetOf(text_, position);
  }

  Style StyleOf(const toml::table& table) const {
    if (table.is_inline()) return Style::kInline;
    std::string_view source = text_.substr(Begin(table), End(table) - Begin(table));
    if (!source.starts_with('[')) return Style::kDotted;
    // [aio.something] alone makes an aio, too, but no section of its own.
    return source.find('.') == std::string_view::npos ? Style::kHeader : Style::kNone;
  }

  void Append(const AioSection& section, std::string_view comment) {
    std::string_view line_end = config_internal::LineEndOf(text_);
    std::string gap;
    if (!text_.empty() && !text_.ends_with('\n')) gap += line_end;
    if (!text_.empty()) gap += line_end;
    edits_.push_back({text_.size(), 0, gap + SectionText(section, comment, line_end)});
    expected_.insert("aio", toml::table());  // unless there is an [aio.something]
    for (const KeyValue& pair : KeysOf(section)) Expect(pair, Value::kAsText);
  }

  void Expect(const KeyValue& pair, Value as) {
    const std::string& text = as == Value::kAsNumber ? pair.number : pair.text;
    Result<config_internal::TomlLayer> value =
        config_internal::ParseFileLayer("value = " + text, "value");
    STRATA_CHECK(value.ok());
    expected_.get_as<toml::table>("aio")->insert_or_assign(pair.key, *value->table.get("value"));
  }

  Status Change(const toml::table& table, const AioSection& section) {
    if (table.contains(kThreads) && table.contains(kThreadsAlias))
      return InvalidArgument(fmt::format("[aio] has both {} and {}, which are one: remove one",
                                         kThreads, kThreadsAlias));
    std::vector<KeyValue> missing;
    for (KeyValue& pair : KeysOf(section)) {
      if (pair.key == kThreads && table.contains(kThreadsAlias)) pair.key = kThreadsAlias;
      if (table.contains(pair.key)) {
        STRATA_RETURN_IF_ERROR(Replace(*table.get(pair.key), pair));
      } else {
        missing.push_back(std::move(pair));
      }
    }
    for (const KeyValue& pair : missing) Expect(pair, Value::kAsText);
    if (!missing.empty()) Insert(table, missing);
    return OkStatus();
  }

  Status Replace(const toml::node& old, const KeyValue& pair) {
    if (old.is_table() || old.is_array())
      return InvalidArgument(
          fmt::format("[aio] {} is neither a number nor a text: remove it", pair.key));
    Value as = old.is_integer() && !pair.number.empty() ? Value::kAsNumber : Value::kAsText;
    edits_.push_back(
        {Begin(old), End(old) - Begin(old), as == Value::kAsNumber ? pair.number : pair.text});
    Expect(pair, as);
    return OkStatus();
  }

  // Behind the last value of the table's own, or, without any, behind its header or first brace.
  size_t EndOfLastValue(const toml::table& table) const {
    size_t end = table.is_inline() ? Begin(table) + 1 : End(table);
    for (const auto& [key, value] : table)
      if (!value.is_table() || value.as_table()->is_inline()) end = std::max(end, End(value));
    return end;
  }

  void Insert(const toml::table& table, const std::vector<KeyValue>& pairs) {
    size_t last_end = EndOfLastValue(table);
    if (table.is_inline()) return InsertInline(last_end, table.empty(), pairs);
    std::string_view line_end = config_internal::LineEndOf(text_);
    size_t at = config_internal::BehindLine(text_, last_end);
    std::string lines;
    // The last line of a text may have no end.
    if (at == text_.size() && !text_.ends_with('\n')) lines += line_end;
    for (const KeyValue& pair : pairs)
      lines += fmt::format("{}{}{} = {}{}", IndentAt(last_end),
                           StyleOf(table) == Style::kDotted ? "aio." : "", pair.key, pair.text,
                           line_end);
    edits_.push_back({at, 0, std::move(lines)});
  }

  void InsertInline(size_t at, bool was_empty, const std::vector<KeyValue>& pairs) {
    std::string list;
    for (const KeyValue& pair : pairs) {
      list += was_empty && list.empty() ? " " : ", ";
      list += pair.key + " = " + pair.text;
    }
    if (was_empty) list += " ";
    edits_.push_back({at, 0, std::move(list)});
  }

  // Spaces and tabs that the line begins with.
  std::string_view IndentAt(size_t offset) const {
    size_t before = text_.rfind('\n', offset == 0 ? 0 : offset - 1);
    std::string_view line = text_.substr(before == std::string_view::npos ? 0 : before + 1);
    return line.substr(0, std::min(line.find_first_not_of(" \t"), line.size()));
  }

  std::string_view text_;
  const toml::table& root_;  // knows where everything stands; a copy would not
  toml::table expected_;     // what the edited text has to say
  std::vector<Edit> edits_;
};

Status KeepModeAndOwner(const std::string& path, const struct stat& before) {
  struct stat now = {};
  if (stat(path.c_str(), &now) != 0) return ErrnoStatus(errno, "stat " + path);
  bool has_other_owner = now.st_uid != before.st_uid || now.st_gid != before.st_gid;
  if (has_other_owner && chown(path.c_str(), before.st_uid, before.st_gid) != 0)
    return ErrnoStatus(errno, "give back to its owner " + path);
  if (chmod(path.c_str(), before.st_mode & 07777) != 0) return ErrnoStatus(errno, "chmod " + path);
  return OkStatus();
}

}  // namespace

std::string AioSectionText(const AioSection& section, std::string_view comment) {
  return SectionText(section, comment, "\n");
}

Result<std::string> WithAioSection(std::string_view text, const std::string& name,
                                   const AioSection& section, std::string_view comment) {
  STRATA_ASSIGN_OR_RETURN(config_internal::TomlLayer before,
                          config_internal::ParseFileLayer(text, name));
  Editor editor(text, before.table);
  STRATA_ASSIGN_OR_RETURN(std::string edited, editor.Run(section, comment).With(name));
  Result<config_internal::TomlLayer> after = config_internal::ParseFileLayer(edited, name);
  if (!after.ok() || after->table != editor.expected())
    return Unimplemented(
        fmt::format("{}: its [aio] is written in a way that cannot be edited safely: put this "
                    "there by hand\n{}",
                    name, AioSectionText(section, "")));
  return edited;
}

Status CheckAioSectionFile(const std::string& path) {
  std::string directory = std::filesystem::path(path).parent_path().string();
  if (directory.empty()) directory = ".";
  if (access(directory.c_str(), W_OK) != 0) return ErrnoStatus(errno, "write to " + directory);
  Result<std::string> text = aio::ReadSmallFile(path, 16_MiB);
  if (text.status().code() == Code::kNotFound) return OkStatus();
  if (!text.ok()) return text.status();
  return WithAioSection(*text, path, AioSection{.block_size_bytes = 4096}, "").status();
}

Status WriteAioSection(const std::string& path, const AioSection& section,
                       std::string_view comment) {
  struct stat before = {};
  if (stat(path.c_str(), &before) != 0) {
    if (errno != ENOENT) return ErrnoStatus(errno, "stat " + path);
    return aio::WriteFileAtomically(path, AioSectionText(section, comment));
  }
  std::error_code error;
  std::string target = std::filesystem::canonical(path, error).string();
  if (error) return ErrnoStatus(error.value(), "follow " + path);
  STRATA_ASSIGN_OR_RETURN(std::string text, aio::ReadSmallFile(target, 16_MiB));
  STRATA_ASSIGN_OR_RETURN(std::string edited, WithAioSection(text, path, section, comment));
  STRATA_RETURN_IF_ERROR(aio::WriteFileAtomically(target, edited));
  return KeepModeAndOwner(target, before);
}

}  // namespace strata::engine
