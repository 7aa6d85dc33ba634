#pragma once

#include <cstddef>
#include <new>

// operator new of this program, which counts, and fails on request.
namespace counting {

inline std::size_t allocations = 0;
inline bool fails = false;
inline std::size_t fails_after = 0;  // so many more succeed

// Something else has replaced it, such as valgrind: then there is nothing to test.
inline bool isReplaced() {
    const auto before = allocations;
    operator delete(operator new(1));
    return allocations == before;
}

}  // namespace counting
