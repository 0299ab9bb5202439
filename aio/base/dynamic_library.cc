#include "aio/base/dynamic_library.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <utility>

namespace strata {

Result<DynamicLibrary> DynamicLibrary::Load(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return Unavailable(fmt::format("load {}: {}", path, dlerror()));
  link_map* map = nullptr;
  const bool has_path = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map->l_name != nullptr;
  return DynamicLibrary(handle, has_path ? map->l_name : path);
}

void* DynamicLibrary::Find(const char* name) const { return dlsym(handle_, name); }

Status DynamicLibrary::Lacks(const char* name) const {
  return Unavailable(
      fmt::format("{} has no {}: is it another library, or of another version?", path_, name));
}

}  // namespace strata
