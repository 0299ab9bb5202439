// A strict look at markup: what is not well-formed XML is an error with its place.
#pragma once

#include <cctype>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace strata::tools {

class XmlCheck {
 public:
  // Empty when the text is one well-formed element behind an optional doctype.
  static std::string Problem(std::string_view text) {
    XmlCheck check(text);
    check.Run();
    return check.problem_;
  }

 private:
  explicit XmlCheck(std::string_view text) : text_(text) {}

  void Run() {
    if (Starts("<!DOCTYPE html>")) at_ += 15;
    bool had_root = false;
    while (problem_.empty() && at_ < text_.size()) {
      if (text_[at_] == '<') {
        if (open_.empty() && had_root && !Starts("</")) return Fail("a second root");
        had_root = true;
        Tag();
      } else {
        Character(open_.empty() ? "space only" : "text");
      }
    }
    if (problem_.empty() && !open_.empty()) Fail("not closed: " + open_.back());
    if (problem_.empty() && !had_root) Fail("no element");
  }

  void Tag() {
    ++at_;
    bool closes = Take('/');
    std::string name = Name();
    if (name.empty()) return Fail("a < without a name");
    if (closes) {
      if (open_.empty() || open_.back() != name) return Fail("closes what is not open: " + name);
      open_.pop_back();
      if (!Take('>')) Fail("more than a name in </" + name);
      return;
    }
    Attributes();
    if (!problem_.empty()) return;
    if (Take('/')) {
      if (!Take('>')) Fail("/ without >");
      return;
    }
    if (!Take('>')) return Fail("no > in " + name);
    open_.push_back(name);
  }

  void Attributes() {
    std::set<std::string> seen;
    while (problem_.empty()) {
      bool had_space = SkipSpace();
      if (at_ >= text_.size() || text_[at_] == '>' || text_[at_] == '/') return;
      if (!had_space) return Fail("no space before an attribute");
      std::string name = Name();
      if (name.empty()) return Fail("not an attribute");
      if (!seen.insert(name).second) return Fail("twice: " + name);
      if (!Take('=') || !Take('"')) return Fail("no =\" after " + name);
      while (problem_.empty() && at_ < text_.size() && text_[at_] != '"') Character("value");
      if (!Take('"')) return Fail("no end of " + name);
    }
  }

  void Character(std::string_view where) {
    auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '<') return Fail("< in a value");
    if (c == '&') return Entity();
    if (c < 0x20 && c != '\n' && c != '\t') return Fail("a control character");
    if (where == "space only" && !std::isspace(c)) return Fail("text outside the root");
    ++at_;
  }

  void Entity() {
    for (std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"})
      if (Starts(entity)) {
        at_ += entity.size();
        return;
      }
    Fail("an & that begins no entity");
  }

  bool SkipSpace() {
    size_t before = at_;
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    return at_ > before;
  }

  std::string Name() {
    std::string name;
    while (at_ < text_.size() &&
           (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '-'))
      name += text_[at_++];
    return name;
  }

  bool Take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool Starts(std::string_view what) const { return text_.substr(at_).starts_with(what); }

  void Fail(const std::string& what) {
    if (problem_.empty())
      problem_ = what + " at: " + std::string(text_.substr(at_ < 20 ? 0 : at_ - 20, 60));
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<std::string> open_;
  std::string problem_;
};

}  // namespace strata::tools
