# The C library musl, by Debian's musl-gcc. What it builds runs natively. There is no C++ library for musl.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER musl-gcc)
set(CMAKE_CXX_COMPILER NOTFOUND)
# The headers of the kernel, which musl's directory does not have.
set(CMAKE_C_FLAGS_INIT "-idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu")
set(SENDQ_CARGO_TARGET x86_64-unknown-linux-musl CACHE STRING "")
