// How the emulation says that a kernel is wrong: a message, and the end of the process.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace jml_cuda_emulation {

// Where a kernel calls a barrier or an exchange. The parameters' defaults are those of the call;
// within braces they would be those of the declaration.
struct Place {
  const char* file;
  int line;
};
#define JML_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline bool operator==(Place a, Place b) { return a.file == b.file && a.line == b.line; }

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "CUDA emulation: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  fflush(stderr);
  abort();
}

}  // namespace jml_cuda_emulation
