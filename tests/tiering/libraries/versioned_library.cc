// A library that says a version, and nothing else. CMake makes several of it.
#include <cstddef>

extern "C" size_t cublasLtGetVersion() { return VERSION; }
