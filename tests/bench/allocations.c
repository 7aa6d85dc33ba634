/* Counts the allocations of a program that it is preloaded into (LD_PRELOAD), those of libraries
 * included. At the end of the program it writes their number to the file that the environment
 * variable ALLOCATIONS names. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

static atomic_size_t allocations;

void* malloc(size_t size) {
    allocations++;
    return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
    allocations++;
    return __libc_calloc(count, size);
}

void* realloc(void* old, size_t size) {
    allocations++;
    return __libc_realloc(old, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
    allocations++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, size_t alignment, size_t size) {
    allocations++;
    *out = __libc_memalign(alignment, size);
    return *out == NULL ? ENOMEM : 0;
}

__attribute__((destructor)) static void report(void) {
    size_t counted = allocations;
    const char* path = getenv("ALLOCATIONS");
    FILE* file = path == NULL ? NULL : fopen(path, "w");
    if (file == NULL) {
        return;
    }
    fprintf(file, "%zu\n", counted);
    fclose(file);
}
