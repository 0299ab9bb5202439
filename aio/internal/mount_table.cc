#include "aio/internal/mount_table.h"

#include <algorithm>

#include "aio/internal/attribute.h"

namespace strata::aio {
namespace {

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

// "\040" is how a space in a path is written there.
std::string Unescaped(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    bool escaped = text[i] == '\\' && i + 3 < text.size() && IsOctal(text[i + 1]) &&
                   IsOctal(text[i + 2]) && IsOctal(text[i + 3]);
    if (!escaped) {
      plain += text[i];
      continue;
    }
    plain +=
        static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
    i += 3;
  }
  return plain;
}

void AddOptions(std::string_view list, std::vector<std::string>& options) {
  while (!list.empty()) {
    size_t end = std::min(list.find(','), list.size());
    options.emplace_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
}

// 36 35 98:0 /root /at rw,noatime shared:1 - ext4 /dev/x rw,discard
std::optional<Mount> ParseMount(const std::string& line) {
  std::vector<std::string> words = SplitWords(line);
  auto dash = std::find(words.begin(), words.end(), "-");
  if (dash - words.begin() < 6 || words.end() - dash < 3) return std::nullopt;
  Mount mount{.at = Unescaped(words[4]),
              .device_number = words[2],
              .type = dash[1],
              .source = Unescaped(dash[2]),
              .options = {}};
  AddOptions(words[5], mount.options);
  if (words.end() - dash > 3) AddOptions(dash[3], mount.options);
  return mount;
}

bool IsBelow(std::string_view path, std::string_view at) {
  if (at == "/") return path.starts_with('/');
  return path.starts_with(at) && (path.size() == at.size() || path[at.size()] == '/');
}

}  // namespace

bool Mount::Has(std::string_view option) const {
  return std::find(options.begin(), options.end(), option) != options.end();
}

std::vector<Mount> ReadMounts(const PreflightRoots& roots) {
  std::vector<Mount> mounts;
  std::optional<std::string> text = ReadAttribute(roots.proc + "/self/mountinfo");
  if (!text) return mounts;
  for (const std::string& line : SplitLines(*text)) {
    if (std::optional<Mount> mount = ParseMount(line)) mounts.push_back(std::move(*mount));
  }
  return mounts;
}

std::optional<Mount> MountOf(const std::string& path, const PreflightRoots& roots) {
  std::optional<Mount> nearest;
  for (Mount& mount : ReadMounts(roots)) {
    // Of two at one place, the later covers the earlier.
    bool is_nearer = !nearest || mount.at.size() >= nearest->at.size();
    if (is_nearer && IsBelow(path, mount.at)) nearest = std::move(mount);
  }
  return nearest;
}

}  // namespace strata::aio
