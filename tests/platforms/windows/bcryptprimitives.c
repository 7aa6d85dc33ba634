/* bcryptprimitives.dll for a wine that has none (before 9.0): what Rust's standard library takes
 * from it, the seed of its hash tables. */
#include <windows.h>
/* Not before windows.h. */
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T len) {
    return RtlGenRandom(data, (ULONG)len);
}
