#include "aio/internal/preflight/process.h"

#include <charconv>

#include "aio/internal/attribute.h"

namespace strata::aio {
namespace {

std::optional<std::string> ReadStatus(const PreflightRoots& roots, std::string_view field) {
  std::optional<std::string> text = ReadAttribute(roots.proc + "/self/status");
  return text ? FieldOf(*text, field) : std::nullopt;
}

// In a user namespace of its own, a process has rights over that only.
bool IsInFirstUserNamespace(const PreflightRoots& roots) {
  std::optional<std::string> text = ReadAttribute(roots.proc + "/self/uid_map");
  if (!text) return true;
  std::vector<std::string> words = SplitWords(*text);
  return words == std::vector<std::string>{"0", "0", "4294967295"};
}

}  // namespace

std::optional<Limit> ReadLimit(const PreflightRoots& roots, std::string_view name) {
  std::optional<std::string> text = ReadAttribute(roots.proc + "/self/limits");
  std::optional<std::string> line = text ? FieldOf(*text, name) : std::nullopt;
  if (!line) return std::nullopt;
  std::vector<std::string> words = SplitWords(*line);
  if (words.empty()) return std::nullopt;
  if (words[0] == "unlimited") return Limit{};
  std::optional<uint64_t> soft = ParseNumber(words[0]);
  if (!soft) return std::nullopt;
  return Limit{soft};
}

bool HasCapability(const PreflightRoots& roots, Capability capability) {
  std::optional<std::string> text = ReadStatus(roots, "CapEff:");
  if (!text || !IsInFirstUserNamespace(roots)) return false;
  uint64_t bits = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), bits, 16);
  if (error != std::errc() || end != text->data() + text->size()) return false;
  return (bits >> static_cast<int>(capability) & 1) != 0;
}

bool IsFiltered(const PreflightRoots& roots) { return ReadStatus(roots, "Seccomp:") == "2"; }

}  // namespace strata::aio
