// What must not compile, one mistake at a time, and what the compiler says about it. What is merely
// no overload is a static_assert beside the tests.
#include <sendq/sendq.hpp>

using sendq::part;

struct descriptor {
    int release() noexcept { return 0; }
    void reset(int) noexcept {}
};

sendq::result misuse(sendq::queue& q, std::string_view text) {
    auto owner = std::make_unique<int>();
    [[maybe_unused]] descriptor file;
#if defined(OWNER_NOT_GIVEN)
    return q.append_message({text}, owner);
#elif defined(OWNER_OF_PART_NOT_GIVEN)
    return q.append_message(sendq::parts(part::own(owner, text)));
#elif defined(FILE_NOT_GIVEN)
    return q.append_message(sendq::parts(part::owned_file(file, 0, 1)));
#elif defined(RELEASE_THAT_THROWS)
    return q.append_message({text}, [](std::error_code) {});
#elif defined(RELEASE_OF_SOMETHING_ELSE)
    return q.append_message({text}, [](const char*) noexcept {});
#elif defined(POINTER_THAT_OWNS_NOTHING)
    return q.append_owned(owner.get(), text);
#else
    // It has to be given, also where a move is a copy. NOLINTNEXTLINE(performance-move-const-arg)
    return q.append_message(sendq::parts(text, part::owned_file(std::move(file), 0, 1)),
                            std::move(owner));
#endif
}
