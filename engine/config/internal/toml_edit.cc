#include "engine/config/internal/toml_edit.h"

#include <algorithm>

#include "aio/base/check.h"

namespace strata::engine::config_internal {
namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

bool ContinuesACharacter(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

}  // namespace

size_t OffsetOf(std::string_view text, const toml::source_position& position) {
  size_t offset = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  for (toml::source_index line = 1; line < position.line; ++line) offset = BehindLine(text, offset);
  for (toml::source_index column = 1; column < position.column && offset < text.size(); ++column) {
    ++offset;
    while (offset < text.size() && ContinuesACharacter(text[offset])) ++offset;
  }
  return offset;
}

std::string Apply(std::string_view text, std::vector<Edit> edits) {
  std::stable_sort(edits.begin(), edits.end(),
                   [](const Edit& a, const Edit& b) { return a.offset < b.offset; });
  std::string result;
  size_t done = 0;
  for (const Edit& edit : edits) {
    STRATA_CHECK(edit.offset >= done && edit.offset + edit.length <= text.size());
    result += text.substr(done, edit.offset - done);
    result += edit.replacement;
    done = edit.offset + edit.length;
  }
  return result += text.substr(done);
}

std::string_view LineEndOf(std::string_view text) {
  size_t end = text.find('\n');
  return end != std::string_view::npos && end > 0 && text[end - 1] == '\r' ? "\r\n" : "\n";
}

size_t BehindLine(std::string_view text, size_t offset) {
  size_t end = text.find('\n', offset);
  return end == std::string_view::npos ? text.size() : end + 1;
}

}  // namespace strata::engine::config_internal
