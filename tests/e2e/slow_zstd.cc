// Preloaded into a sidecar: every compression takes 30 ms longer. So a test can see whether the time is told where it
// was spent.
#include <dlfcn.h>
#include <time.h>

#include <cstddef>

struct ZSTD_CCtx_s;

extern "C" size_t ZSTD_compressCCtx(ZSTD_CCtx_s* context, void* to, size_t room, const void* from, size_t size,
                                    int level) {
  using Compress = size_t (*)(ZSTD_CCtx_s*, void*, size_t, const void*, size_t, int);
  static const auto compress = reinterpret_cast<Compress>(dlsym(RTLD_NEXT, "ZSTD_compressCCtx"));
  const timespec pause{.tv_sec = 0, .tv_nsec = 30'000'000};
  nanosleep(&pause, nullptr);
  return compress(context, to, room, from, size, level);
}
