/* rustc's ThreadSanitizer calls these for a copy that it compiled; the runtime of gcc 12 has them
 * under their plain names alone, and intercepts those. */
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

void* __tsan_memcpy(void* to, const void* from, size_t len);
void* __tsan_memmove(void* to, const void* from, size_t len);
void* __tsan_memset(void* to, int byte, size_t len);

void* __tsan_memcpy(void* to, const void* from, size_t len) {
    return memcpy(to, from, len);
}
void* __tsan_memmove(void* to, const void* from, size_t len) {
    return memmove(to, from, len);
}
void* __tsan_memset(void* to, int byte, size_t len) {
    return memset(to, byte, len);
}

#ifdef __cplusplus
}
#endif
