#include "litert_api.h"

#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>

namespace firsttoken {
namespace {

// litert_common.h
const char* meaning(int status) {
  switch (status) {
    case 1: return "invalid argument";
    case 2: return "out of memory";
    case 3: return "runtime failure";
    case 4: return "missing input";
    case 5: return "unsupported";
    case 6: return "not found";
    case 8: return "wrong version";
    case 500: return "file cannot be read";
    case 501: return "invalid flatbuffer";
    case 502: return "library cannot be loaded";
    case 504: return "compilation failed";
    default: return "see litert_common.h";
  }
}

std::unique_ptr<Api> loaded(const std::string& library) {
  void* opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) throw Failure("LiteRT's library cannot be loaded: " + std::string(dlerror()));
  auto api = std::make_unique<Api>();
  auto find = [&](const char* name) {
    void* found = dlsym(opened, name);
    if (found == nullptr) throw Failure(library + " has no " + name + "; it is not LiteRT 2, or a version that this app does not know");
    return found;
  };
#define FIRSTTOKEN_FIND(result, name, parameters) api->name = reinterpret_cast<result(*) parameters>(find("LiteRt" #name));
  FIRSTTOKEN_LITERT_FUNCTIONS(FIRSTTOKEN_FIND)
#undef FIRSTTOKEN_FIND
  return api;
}

}  // namespace

const Api& litert(const std::string& library) {
  static std::mutex mutex;
  static auto* libraries = new std::map<std::string, std::unique_ptr<Api>>();  // never freed: programs may outlive static objects
  std::lock_guard<std::mutex> lock(mutex);
  auto& api = (*libraries)[library];
  if (!api) api = loaded(library);
  return *api;
}

void check(int status, const std::string& what, const std::string& todo) {
  if (status != 0) throw Failure("LiteRT: " + what + " failed with status " + std::to_string(status) + " (" + meaning(status) + "); " + todo);
}

}  // namespace firsttoken
