// A shared library that is loaded at run time, so that the program starts where it is missing.
#pragma once

#include <string>

#include "aio/base/status.h"

namespace strata {

// Stays loaded until the process ends: such libraries have threads, and hold on to what called
// them. Copyable; thread-safe.
class DynamicLibrary {
 public:
  // A path, or a bare name, which the loader looks for where it is set to. kUnavailable with the
  // loader's words; its names stay out of everybody else's way.
  static Result<DynamicLibrary> Load(const std::string& path);

  // The file that the loader took.
  const std::string& path() const { return path_; }

  // The address of what has this name in the library, nullptr if nothing has.
  void* Find(const char* name) const;

  // The same as a function of the type that the library's documentation gives it. kUnavailable
  // naming the library.
  template <typename Function>
  Status Bind(const char* name, Function** function) const {
    *function = reinterpret_cast<Function*>(Find(name));
    return *function != nullptr ? OkStatus() : Lacks(name);
  }

 private:
  DynamicLibrary(void* handle, std::string path) : handle_(handle), path_(std::move(path)) {}
  Status Lacks(const char* name) const;

  void* handle_;  // never closed
  std::string path_;
};

}  // namespace strata
