/* C and C++: the glue needs nothing before it ... */
#include <sendq/libevent.h>
#include <sendq/openssl.h>

/* ... and may come twice. */
#include <sendq/libevent.h>
#include <sendq/openssl.h>
