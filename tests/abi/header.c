/* C and C++: sendq.h needs nothing before it ... */
#include <sendq/sendq.h>

/* ... and may come twice. */
#include <sendq/sendq.h>

#if SENDQ_VERSION < 1 || SENDQ_VERSION_MAJOR > 255
#error "SENDQ_VERSION is for the preprocessor too"
#endif

int main(void) {
    return sendq_version() == SENDQ_VERSION ? 0 : 1;
}
