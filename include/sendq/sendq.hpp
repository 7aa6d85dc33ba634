// sendq.hpp: sendq.h for C++17. Header-only: the same library, the same calls, the same costs.
//
//     auto q = sendq::queue::create();
//     if (!q) return q.error();
//     if (auto r = q->append(std::move(reply)); !r) return r.error();
//     if (auto r = q->append_message({header, sendq::part::ref(item->value), "\r\n"},
//                                    std::move(item)); !r) return r.error();
//     if (auto r = q->flush(fd); !r) return r.error();      the connection is over
//     else if (r.blocked()) ...                             flush again when fd is writable
//
// The manual is sendq.h. The comments here describe what C++ adds to it.
//
// Errors. Only or_throw(), which does not exist with -fno-exceptions, and stats_json(), if there is
// no memory for its string, throw exceptions.
//
// Ownership. An append that takes an owner or a callable moves it into the queue, and destroys it,
// once, when sendq does not need the memory any more. If the append fails, the caller's object is
// as it was before the call, even if it was passed by std::move() or memory is short. A queue_view
// owns nothing: it has the calls of a queue for who was given a sendq_t, such as a callback.
//
// Cost. The calls are those of sendq.h, inlined. An append allocates memory only for an owner or
// callable that does not fit into a pointer, as its comment says, and at most once. If there is no
// memory, the append fails with ENOMEM.
//
// Callbacks and destructors run inside the calls of sendq, where sendq.h says that release is
// called. They must not throw. They may call anything on the queue, and may destroy it.
//
// Empty handles. A handle that was moved from or default-constructed is empty: its calls fail with
// EINVAL, its numbers are 0.

#ifndef SENDQ_SENDQ_HPP
#define SENDQ_SENDQ_HPP

#if __cplusplus < 201703L && (!defined(_MSVC_LANG) || _MSVC_LANG < 201703L)
#error "sendq.hpp wants C++17; sendq.h does not"
#endif

#include <sendq/sendq.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define SENDQ_HPP_THROWS 1
#else
#define SENDQ_HPP_THROWS 0
#endif

namespace sendq {

/// The hints of a call of sendq.h: bits that say what the host has to do next.
class hints {
  public:
    constexpr explicit hints(int bits = 0) noexcept : bits_(bits) {}

    /// Of append: no bytes were queued before. Make sure that a flush is scheduled.
    constexpr bool wake() const noexcept { return (bits_ & SENDQ_WAKE) != 0; }
    /// Of append: the queue is at or over the high watermark. Pause the producer. Of state: the
    /// high watermark was reached, and resume has not been returned since.
    constexpr bool high() const noexcept { return (bits_ & SENDQ_HIGH) != 0; }
    /// Of flush and state: bytes remain, and the socket takes no more. Wait until it is writable.
    constexpr bool blocked() const noexcept { return (bits_ & SENDQ_BLOCKED) != 0; }
    /// Of flush: bytes remain, and the budget of the call is spent. Flush again soon. Of state: a
    /// flush would offer bytes now.
    constexpr bool more() const noexcept { return (bits_ & SENDQ_MORE) != 0; }
    /// What is queued has dropped to the low watermark after having been high. The producer may
    /// continue.
    constexpr bool resume() const noexcept { return (bits_ & SENDQ_RESUME) != 0; }
    /// Of flush_with and state: bytes remain, and the writer can continue once its connection is
    /// readable (TLS).
    constexpr bool want_read() const noexcept { return (bits_ & SENDQ_WANT_READ) != 0; }
    /// Of flush, reap and state: all is sent, and the kernel still reads memory of it (zerocopy).
    constexpr bool unacked() const noexcept { return (bits_ & SENDQ_UNACKED) != 0; }
    /// Of state: what is appended is held back.
    constexpr bool corked() const noexcept { return (bits_ & SENDQ_CORKED) != 0; }
    /// Of state: appends are refused, after close or the end of the connection. Of send: the
    /// message was taken, and then the connection has failed, so that its owner was released with
    /// that error.
    constexpr bool closed() const noexcept { return (bits_ & SENDQ_CLOSED) != 0; }
    /// All bits, as in sendq.h. 0: nothing to do.
    constexpr int bits() const noexcept { return bits_; }

  private:
    int bits_;
};

namespace detail {

inline std::error_code code(int number) noexcept {
    return number == 0 ? std::error_code() : std::error_code(number, std::generic_category());
}

}  // namespace detail

/// The result of a call: success with hints, or an error. An error has no hints.
class [[nodiscard]] result : public hints {
  public:
    /// Made from the return value of a function of sendq.h.
    constexpr explicit result(int returned) noexcept
        : hints(SENDQ_FAILED(returned) ? 0 : returned),
          errno_(SENDQ_FAILED(returned) ? -returned : 0) {}

    /// True after a success.
    constexpr explicit operator bool() const noexcept { return errno_ == 0; }
    /// An errno in the generic category, comparable with std::errc. Zero after a success.
    std::error_code error() const noexcept { return detail::code(errno_); }
#if SENDQ_HPP_THROWS
    /// Throws the error as a std::system_error. Returns the hints after a success.
    hints or_throw() const {
        if (errno_ != 0) {
            throw std::system_error(error(), "sendq");
        }
        return *this;
    }
#endif

  private:
    int errno_;
};

/// A new handle, or the error that prevented it, as in std::expected of C++23.
template <class T>
class [[nodiscard]] expected {
  public:
    /// Made from the return value of a function of sendq.h, and the handle.
    expected(result made, T value) noexcept : made_(made), value_(std::move(value)) {}

    /// True if there is a handle.
    explicit operator bool() const noexcept { return static_cast<bool>(made_); }
    /// The error, or zero.
    std::error_code error() const noexcept { return made_.error(); }
    /// The handle, which is empty after an error.
    T& operator*() & noexcept { return value_; }
    T&& operator*() && noexcept { return std::move(value_); }
    T* operator->() noexcept { return &value_; }
#if SENDQ_HPP_THROWS
    /// Throws the error as a std::system_error, or returns the handle:
    /// `queue q = queue::create().or_throw();`
    T or_throw() && {
        static_cast<void>(made_.or_throw());
        return std::move(value_);
    }
#endif

  private:
    result made_;
    T value_;
};

/// A view of memory that is not text.
inline std::string_view bytes(const void* data, std::size_t len) noexcept {
    return {static_cast<const char*>(data), len};
}

namespace detail {

template <class T, class = void>
constexpr bool is_bytes = false;
template <class T>
constexpr bool is_bytes<T, std::void_t<decltype(std::data(std::declval<const T&>()) +
                                                std::size(std::declval<const T&>()))>> =
    sizeof(*std::data(std::declval<const T&>())) == 1;

template <class T>
constexpr bool is_text = std::is_convertible_v<const T&, std::string_view>;

}  // namespace detail

/// The same for an array, vector or span of single bytes.
template <class Bytes, std::enable_if_t<detail::is_bytes<Bytes>, int> = 0>
std::string_view bytes(const Bytes& memory) noexcept {
    return bytes(std::data(memory), std::size(memory));
}

namespace detail {

/// A pointer to a C handle.
template <class T>
class pointer {
  public:
    using element_type = T;

    /// True if it is not empty.
    explicit operator bool() const noexcept { return handle_ != nullptr; }
    /// For calls of sendq.h. Who owned the handle still does.
    T* get() const noexcept { return handle_; }

  protected:
    explicit pointer(T* handle = nullptr) noexcept : handle_(handle) {}
    pointer(const pointer&) noexcept = default;
    pointer& operator=(const pointer&) noexcept = default;
    ~pointer() = default;

    T* handle_;
};

/// A unique owner of a C handle, with the calls of Calls.
template <class Calls, auto Free>
class handle : public Calls {
    using T = typename Calls::element_type;

  public:
    handle() noexcept = default;
    /// Takes ownership of a handle of sendq.h.
    explicit handle(T* owned) noexcept : Calls(owned) {}
    handle(handle&& other) noexcept : Calls(other.release()) {}
    handle& operator=(handle&& other) noexcept {
        reset(other.release());
        return *this;
    }
    ~handle() { reset(); }

    /// Gives up ownership: the caller frees the handle with sendq.h. This object is empty
    /// afterwards.
    [[nodiscard]] T* release() noexcept { return std::exchange(this->handle_, nullptr); }
    /// Frees the handle, and takes ownership of another.
    void reset(T* other = nullptr) noexcept { Free(std::exchange(this->handle_, other)); }
};

// Holders convert a C++ object to the `arg` of a sendq_release_fn, and back:
//
//     store     moves it in. false: out of memory, and nothing was moved
//     restore   moves it back to where it came from, because the append failed
//     place     where a view of the object's bytes points to once the object is stored
//     release   the sendq_release_fn: destroys it (a callable is called first)

/// For any object: on the heap.
template <class T>
struct heap_holder {
    static bool store(T& from, void*& arg) noexcept {
        // It may be one that was moved before, and restored.
        // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
        arg = ::new (std::nothrow) T(std::move(from));
        return arg != nullptr;
    }

    static void restore(T& to, void* arg) noexcept {
        T* held = static_cast<T*>(arg);
        if constexpr (std::is_trivially_copyable_v<T>) {
            // A move has not changed it.
        } else if constexpr (std::is_nothrow_move_assignable_v<T>) {
            to = std::move(*held);
        } else {
            // Such as a lambda. NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
            to.~T();
            ::new (static_cast<void*>(std::addressof(to))) T(std::move(*held));
        }
        ::delete held;
    }

    /// Bytes inside the object itself, such as those of a short std::string, move with it.
    static std::string_view place(std::string_view view, const T& from, const void* arg) noexcept {
        const auto offset = reinterpret_cast<std::uintptr_t>(view.data()) -
                            reinterpret_cast<std::uintptr_t>(std::addressof(from));
        return offset < sizeof(T) ? bytes(static_cast<const char*>(arg) + offset, view.size())
                                  : view;
    }

    static void release(void* arg, const void*, std::size_t, int) noexcept {
        ::delete static_cast<T*>(arg);
    }
};

/// For a unique_ptr whose deleter has no state: the pointer is the arg.
template <class Owner>
struct pointer_holder {
    using pointer = typename Owner::pointer;

    static bool store(Owner& from, void*& arg) noexcept {
        arg = const_cast<void*>(static_cast<const volatile void*>(from.release()));
        return true;
    }
    static void restore(Owner& to, void* arg) noexcept { to.reset(static_cast<pointer>(arg)); }
    static std::string_view place(std::string_view view, const Owner&, const void*) noexcept {
        return view;
    }
    static void release(void* arg, const void*, std::size_t, int) noexcept {
        const Owner last(static_cast<pointer>(arg));
    }
};

template <class T>
struct holder_of_owner {
    using type = heap_holder<T>;
};

template <class T, class Deleter>
struct holder_of_owner<std::unique_ptr<T, Deleter>> {
    using owner = std::unique_ptr<T, Deleter>;
    using pointer = typename owner::pointer;
    static constexpr bool fits =
        std::is_pointer_v<pointer> && !std::is_function_v<std::remove_pointer_t<pointer>> &&
        std::is_empty_v<Deleter> && std::is_nothrow_default_constructible_v<Deleter>;
    using type = std::conditional_t<fits, pointer_holder<owner>, heap_holder<owner>>;
};

template <class T>
using owner_holder = typename holder_of_owner<T>::type;

template <class F>
constexpr bool is_released = std::is_invocable_v<F&, std::error_code>;
/// The release of a message may also ask how many bytes of it were sent.
template <class F>
constexpr bool is_released_at = std::is_invocable_v<F&, std::error_code, std::size_t>;

template <class F>
void call_released(F& released, std::size_t sent, int reason) noexcept {
    if constexpr (is_released<F>) {
        static_cast<void>(sent);
        released(code(-reason));
    } else {
        released(code(-reason), sent);
    }
}

/// For any callable: on the heap.
template <class F>
struct heap_callable : heap_holder<F> {
    static void release(void* arg, const void*, std::size_t len, int reason) noexcept {
        F* held = static_cast<F*>(arg);
        call_released(*held, len, reason);
        ::delete held;
    }
};

/// For a trivially copyable callable that is no larger than a pointer, such as a function or a
/// lambda that captures `this`: its bytes are in the arg itself.
template <class F>
struct inline_callable {
    static bool store(F& from, void*& arg) noexcept {
        if constexpr (!std::is_empty_v<F>) {
            std::memcpy(&arg, std::addressof(from), sizeof(F));
        }
        return true;
    }
    static void restore(F&, void*) noexcept {}
    static std::string_view place(std::string_view view, const F&, const void*) noexcept {
        return view;
    }
    static void release(void* arg, const void*, std::size_t len, int reason) noexcept {
        alignas(F) unsigned char held[sizeof(F)];
        std::memcpy(held, &arg, sizeof(F));
        call_released(*std::launder(reinterpret_cast<F*>(held)), len, reason);
    }
};

template <class F>
using callable_holder =
    std::conditional_t<std::is_trivially_copyable_v<F> && sizeof(F) <= sizeof(void*),
                       inline_callable<F>, heap_callable<F>>;

/// Where the bytes of a view are once their owner is stored.
template <class Holder, class T>
struct placement {
    const T& from;
    const void* arg;
    std::string_view operator()(std::string_view view) const noexcept {
        return Holder::place(view, from, arg);
    }
};

/// Stores `object` for `append(place, release, arg)`, and restores it if that fails. After a
/// success it may be destroyed already, and so may the place where it came from.
template <class Holder, class T, class Append>
int append_held(T& object, Append append) noexcept {
    static_assert(std::is_nothrow_move_constructible_v<T>, "moving it must not throw");
    static_assert(std::is_nothrow_destructible_v<T>, "destroying it must not throw");
    void* arg = nullptr;
    if (!Holder::store(object, arg)) {
        return -ENOMEM;
    }
    const int returned = append(placement<Holder, T>{object, arg}, &Holder::release, arg);
    if (SENDQ_FAILED(returned)) {
        Holder::restore(object, arg);
    }
    return returned;
}

template <class T>
constexpr bool is_shared_ptr = false;
template <class T>
constexpr bool is_shared_ptr<std::shared_ptr<T>> = true;

template <class Owner, class Append>
int append_owner(Owner&& owner, Append append) noexcept {
    using object = std::decay_t<Owner>;
    static_assert(!std::is_pointer_v<object>, "a pointer owns nothing");
    if constexpr (is_shared_ptr<object> && !std::is_same_v<Owner, object>) {
        object copy(owner);
        return append_held<owner_holder<object>>(copy, append);
    } else {
        static_assert(!std::is_lvalue_reference_v<Owner>, "give the owner up: std::move(owner)");
        return append_held<owner_holder<Owner>>(owner, append);
    }
}

template <class F, class Append>
int append_callable(F&& released, Append append) noexcept {
    using callable = std::decay_t<F>;
    static_assert(std::is_nothrow_invocable_v<callable&, std::error_code> ||
                      std::is_nothrow_invocable_v<callable&, std::error_code, std::size_t>,
                  "it is called as released(std::error_code), and must be noexcept");
    if constexpr (std::is_lvalue_reference_v<F>) {
        static_assert(std::is_nothrow_constructible_v<callable, F>,
                      "copying it must not throw: std::move(released)");
        callable copy(released);
        return append_held<callable_holder<callable>>(copy, append);
    } else {
        return append_held<callable_holder<callable>>(released, append);
    }
}

template <class T, class = void>
constexpr bool has_call_operator = false;
template <class T>
constexpr bool has_call_operator<T, std::void_t<decltype(&T::operator())>> = true;

/// In place of an owner.
struct no_owner {
    std::string_view operator()(std::string_view view) const noexcept { return view; }
};

/// What a message or a part may own: an object, or a callable.
template <class T>
constexpr bool is_ownable = std::is_class_v<std::decay_t<T>> || is_released<std::decay_t<T>> ||
                            is_released_at<std::decay_t<T>>;

template <class Owner, class Append>
int append_owned(Owner&& owner, Append append) noexcept {
    using object = std::decay_t<Owner>;
    if constexpr (std::is_same_v<object, no_owner>) {
        return append(no_owner(), nullptr, nullptr);
    } else if constexpr (is_released<object> || is_released_at<object>) {
        return append_callable(std::forward<Owner>(owner), append);
    } else {
        static_assert(!has_call_operator<object>,
                      "it is called as released(std::error_code), or with a std::size_t as well");
        return append_owner(std::forward<Owner>(owner), append);
    }
}

/// Memory for a call, on the stack if it is little.
template <class T, std::size_t Few>
class scratch {
  public:
    explicit scratch(std::size_t count) noexcept
        : many_(count > Few ? new (std::nothrow) T[count] : nullptr),
          data_(count > Few ? many_.get() : few_) {}
    /// nullptr: out of memory.
    T* data() noexcept { return data_; }

  private:
    T few_[Few];
    const std::unique_ptr<T[]> many_;
    T* const data_;
};

// Times are std::chrono::nanoseconds here, which are signed and so have one bit less. A value that
// does not fit becomes the nearest one that does.

inline std::chrono::nanoseconds from_ns(std::uint64_t ns) noexcept {
    constexpr auto most = std::chrono::nanoseconds::max().count();
    return std::chrono::nanoseconds(ns < static_cast<std::uint64_t>(most)
                                        ? static_cast<std::chrono::nanoseconds::rep>(ns)
                                        : most);
}

/// Empty for SENDQ_NEVER.
inline std::optional<std::chrono::nanoseconds> to_wait(std::uint64_t ns) noexcept {
    return ns == SENDQ_NEVER ? std::nullopt : std::optional(from_ns(ns));
}

inline std::uint64_t to_ns(std::chrono::nanoseconds time) noexcept {
    return time.count() < 0 ? 0 : static_cast<std::uint64_t>(time.count());
}

template <class Rep, class Period>
std::uint64_t to_ns(std::chrono::duration<Rep, Period> time) noexcept {
    return to_ns(std::chrono::duration_cast<std::chrono::nanoseconds>(time));
}

template <class Clock, class Duration>
std::uint64_t to_ns(std::chrono::time_point<Clock, Duration> time) noexcept {
    return to_ns(time.time_since_epoch());
}

/// The arg for an object that is held by reference.
template <class T>
void* to_arg(T& object) noexcept {
    return const_cast<void*>(static_cast<const volatile void*>(std::addressof(object)));
}

/// Copying a shorter string costs less than holding it.
constexpr std::size_t min_owned_string = 256;

}  // namespace detail

/// Flag of pool_config and queue_config: any thread may use it, at the price of a lock per call.
constexpr std::uint32_t threadsafe = SENDQ_THREADSAFE;
/// Flag of pool_config, a promise: all sockets that its queues are flushed to are non-blocking.
constexpr std::uint32_t sockets_nonblocking = SENDQ_SOCKETS_NONBLOCKING;
/// Flag of pool_config, a promise: the process ignores SIGPIPE. With both promises, a file costs
/// one system call; without them, up to six.
constexpr std::uint32_t sigpipe_ignored = SENDQ_SIGPIPE_IGNORED;

/// Flag of queue_config: the queue counts messages.
constexpr std::uint32_t messages = SENDQ_MESSAGES;
/// Flag of queue_config: large borrowed pieces are sent without a copy (SENDQ_ZEROCOPY).
constexpr std::uint32_t zerocopy = SENDQ_ZEROCOPY;

/// The configuration of a pool: the fields of sendq_pool_config_t. They are 0, which means the
/// default, until set.
/// `config.flags = sendq::sockets_nonblocking | sendq::sigpipe_ignored;`
struct pool_config : sendq_pool_config_t {
    pool_config() noexcept : sendq_pool_config_t() { size = sizeof(sendq_pool_config_t); }

    /// The pool's queues read the time from Clock, such as std::chrono::steady_clock.
    template <class Clock>
    void set_clock() noexcept {
        static_assert(noexcept(Clock::now()), "it is called by C, and must be noexcept");
        now = [](void*) noexcept { return detail::to_ns(Clock::now()); };
        now_arg = nullptr;
    }

    /// The same for an object that is called as clock() and returns a duration or a time_point, for
    /// tests and simulations. It is held by reference, and must outlive the pool and its queues. It
    /// must be noexcept, and thread-safe if the pool and its queues are.
    template <class F>
    void set_clock(F& clock) noexcept {
        static_assert(std::is_nothrow_invocable_v<F&>, "it is called by C, and must be noexcept");
        now = [](void* arg) noexcept { return detail::to_ns((*static_cast<F*>(arg))()); };
        now_arg = detail::to_arg(clock);
    }

    /// The pool's blocks are allocated by memory.allocate(std::size_t), which returns a void*, and
    /// freed by memory.deallocate(void*, std::size_t). Both must be noexcept. memory is held by
    /// reference, and must live until all blocks are freed (alloc_arg in sendq_pool_config_t). See
    /// sendq_alloc_fn for what it has to observe.
    template <class Memory>
    void set_allocator(Memory& memory) noexcept {
        static_assert(noexcept(memory.allocate(std::size_t()))&& noexcept(
                          memory.deallocate(std::declval<void*>(), std::size_t())),
                      "it is called by C, and must be noexcept");
        alloc = [](void* arg, std::size_t len) noexcept -> void* {
            return static_cast<Memory*>(arg)->allocate(len);
        };
        dealloc = [](void* arg, void* block, std::size_t len) noexcept {
            static_cast<Memory*>(arg)->deallocate(block, len);
        };
        alloc_arg = detail::to_arg(memory);
    }

    /// Called as waker() when a queue becomes ready while no other is (see wake in sendq.h). It is
    /// held by reference, and must outlive the pool and its queues. It must be noexcept, and
    /// thread-safe if the pool and its queues are.
    template <class F>
    void set_wake(F& waker) noexcept {
        static_assert(std::is_nothrow_invocable_v<F&>, "it is called by C, and must be noexcept");
        wake = [](void* arg) noexcept { (*static_cast<F*>(arg))(); };
        wake_arg = detail::to_arg(waker);
    }
};

/// The configuration of a queue: the fields of sendq_config_t. They are 0, which means the default,
/// until set.
struct queue_config : sendq_config_t {
    queue_config() noexcept : sendq_config_t() { size = sizeof(sendq_config_t); }
};

class queue;
class queue_calls;
class queue_view;

/// Memory and a byte budget that many queues share. The queues keep the pool alive; this handle may
/// be destroyed before them.
class pool : public detail::handle<detail::pointer<sendq_pool_t>, sendq_pool_free> {
  public:
    using handle::handle;

    /// sendq_pool_new.
    static expected<pool> create(const pool_config& config = {}) noexcept {
        sendq_pool_t* made = nullptr;
        const result r(sendq_pool_new(&config, &made));
        return {r, pool(made)};
    }

    /// sendq_pool_stats: the current statistics. All 0 for an empty handle.
    sendq_pool_stats_t stats() const noexcept {
        sendq_pool_stats_t figures = {};
        sendq_pool_stats(get(), &figures, sizeof figures);
        return figures;
    }

    /// sendq_pool_reap: releases what freed queues have left in the kernel's hands.
    result reap() const noexcept { return result(sendq_pool_reap(get())); }

    /// sendq_pool_heaviest: fills up to count entries of out with the queues that hold most memory,
    /// the heaviest first, and returns how many; 0 also if there is no memory to sort them. The
    /// queues still belong to their owners; queue_view(out[i]).user() identifies each.
    std::size_t heaviest(sendq_t** out, std::size_t count) const noexcept {
        const int found = sendq_pool_heaviest(get(), out, count);
        return found < 0 ? 0 : static_cast<std::size_t>(found);
    }
    template <std::size_t Count>
    std::size_t heaviest(sendq_t* (&out)[Count]) const noexcept {
        return heaviest(out, Count);
    }

    /// sendq_pool_stalled: fills up to count entries of out with the queues that have stalled for
    /// more than older_than, and returns how many. A negative time is like 0.
    std::size_t stalled(std::chrono::nanoseconds older_than, sendq_t** out,
                        std::size_t count) const noexcept {
        const std::uint64_t ns = detail::to_ns(older_than);
        const int found = sendq_pool_stalled(get(), ns, out, count);
        return found < 0 ? 0 : static_cast<std::size_t>(found);
    }
    template <std::size_t Count>
    std::size_t stalled(std::chrono::nanoseconds older_than,
                        sendq_t* (&out)[Count]) const noexcept {
        return stalled(older_than, out, Count);
    }

    /// sendq_pool_bytes: all that counts against the budget now.
    std::uint64_t bytes() const noexcept { return sendq_pool_bytes(get()); }

    /// sendq_pool_next: the next queue that is ready, each once a turn; an empty view ends the
    /// turn.
    ///
    ///     while (auto q = pool.next()) on_flushed(q, q.flush(q.user<connection>()->fd));
    queue_view next() noexcept;

    /// sendq_pool_retry_after_ns: in what time a queue is ready; empty if only an append or a
    /// socket can make one ready.
    std::optional<std::chrono::nanoseconds> retry_after() const noexcept {
        return detail::to_wait(sendq_pool_retry_after_ns(get()));
    }

    /// sendq_pool_set_rate: limits the rate of all queues together. 0: no limit.
    result set_rate(std::uint64_t bytes_per_second, std::uint64_t burst = 0) noexcept {
        return result(sendq_pool_set_rate(get(), bytes_per_second, burst));
    }
};

/// A shared buffer: one payload that many queues send. Copying this object takes another reference,
/// as with std::shared_ptr, at the cost of an atomic increment. Moving it costs nothing. Any thread
/// may use and destroy it.
class buffer {
  public:
    buffer() noexcept = default;
    /// Takes ownership of a reference of sendq.h, to a payload of that size.
    buffer(sendq_buf_t* owned, std::size_t size) noexcept : owned_(owned), size_(size) {}
    buffer(const buffer& other) noexcept
        : owned_(sendq_buf_ref(other.owned_)), size_(other.size_) {}
    buffer(buffer&& other) noexcept { swap(other); }
    buffer& operator=(buffer other) noexcept {
        swap(other);
        return *this;
    }
    ~buffer() { sendq_buf_unref(owned_); }

    /// Copies view: sendq_buf_copy with the default pool, because buffers may outlive all others.
    static expected<buffer> copy(std::string_view view) noexcept {
        sendq_buf_t* made = nullptr;
        const result r(sendq_buf_copy(nullptr, view.data(), view.size(), &made));
        return {r, buffer(made, view.size())};
    }

    /// Does not copy view, which must stay valid and unchanged for good.
    static expected<buffer> immortal(std::string_view view) noexcept {
        sendq_buf_t* made = nullptr;
        const result r(sendq_buf_wrap(nullptr, view.data(), view.size(), nullptr, nullptr, &made));
        return {r, buffer(made, view.size())};
    }

    /// Does not copy view, which must stay valid and unchanged while owner lives. The buffer owns
    /// owner. On failure owner is as it was before the call. See append_owned of queue.
    template <class Owner>
    static expected<buffer> own(Owner&& owner, std::string_view view) noexcept {
        sendq_buf_t* made = nullptr;
        const auto wrap = [&made, view](auto place, sendq_release_fn fn, void* arg) {
            return sendq_buf_wrap(nullptr, place(view).data(), view.size(), fn, arg, &made);
        };
        const result r(detail::append_owner(std::forward<Owner>(owner), wrap));
        return {r, buffer(made, view.size())};
    }

    /// The same for a string that is the whole payload.
    static expected<buffer> own(std::string&& text) noexcept {
        const std::string_view view = text;
        return own(std::move(text), view);
    }

    /// True if it is not empty.
    explicit operator bool() const noexcept { return owned_ != nullptr; }
    /// Bytes of the payload.
    std::size_t size() const noexcept { return size_; }
    /// For calls of sendq.h. This object still owns the reference.
    sendq_buf_t* get() const noexcept { return owned_; }
    /// Gives up the reference: the caller calls sendq_buf_unref. This object is empty afterwards.
    [[nodiscard]] sendq_buf_t* release() noexcept {
        size_ = 0;
        return std::exchange(owned_, nullptr);
    }

    void swap(buffer& other) noexcept {
        std::swap(owned_, other.owned_);
        std::swap(size_, other.size_);
    }

  private:
    sendq_buf_t* owned_ = nullptr;
    std::size_t size_ = 0;
};

namespace detail {

template <class Owner>
class own_part;
template <class File>
class own_file_part;

}  // namespace detail

/// A part of a message: a sendq_part_t, which owns nothing. Text, memory and buffers convert to it:
///
///     q.append_message({"HTTP/1.1 200 OK\r\n", fields, part::ref(body), buf});
///
/// What it refers to has to live until append_message or send returns, and what is borrowed until
/// the message is released.
struct part : sendq_part_t {
    /// No bytes.
    part() noexcept : sendq_part_t() {}
    /// A part of C.
    explicit part(const sendq_part_t& other) noexcept : sendq_part_t(other) {}

    /// Copies text, such as a std::string_view or a literal ...
    template <class Text, std::enable_if_t<detail::is_text<Text>, int> = 0>
    part(const Text& text) noexcept : part(copy(std::string_view(text))) {}
    /// ... or an array, vector or span of single bytes.
    template <class Bytes,
              std::enable_if_t<detail::is_bytes<Bytes> && !detail::is_text<Bytes>, int> = 0>
    part(const Bytes& memory) noexcept : part(copy(bytes(memory))) {}
    part(std::nullptr_t) = delete;
    /// All of a shared buffer.
    part(const buffer& buf) noexcept : part(share(buf, 0, buf.size())) {}

    /// Copies view.
    static part copy(std::string_view view) noexcept {
        return part(sendq_part_copy(view.data(), view.size()));
    }
    /// Borrows view, which must stay valid and unchanged until the message is released.
    static part ref(std::string_view view) noexcept {
        return part(sendq_part_ref(view.data(), view.size()));
    }
    /// The bytes of a temporary string are gone before they are sent: use own.
    template <class Text,
              std::enable_if_t<std::is_same_v<std::remove_cv_t<Text>, std::string>, int> = 0>
    static part ref(Text&& text) = delete;
    /// len bytes of a shared buffer, from offset.
    static part share(const buffer& buf, std::size_t offset, std::size_t len) noexcept {
        return part(sendq_part_buf(buf.get(), offset, len));
    }
    /// len bytes of a file, from offset. It stays open until the message is released.
    static part file(sendq_fd_t fd, std::uint64_t offset, std::uint64_t len) noexcept {
        return part(sendq_part_file(fd, offset, len));
    }
    /// The same for a file that sendq closes when it needs it no more. If the append fails, fd
    /// still belongs to the caller.
    static part owned_file(sendq_fd_t fd, std::uint64_t offset, std::uint64_t len) noexcept {
        return part(sendq_part_owned_file(fd, offset, len));
    }

    // These two own something that they give back if the append fails, so their type depends on it,
    // and they are only used in sendq::parts(...).

    /// Borrows view, which stays valid and unchanged while owner lives: sendq_part_own. owner is
    /// what append_message takes as one.
    template <class Owner>
    static detail::own_part<Owner> own(Owner&& owner, std::string_view view) noexcept {
        return {std::forward<Owner>(owner), view};
    }
    /// owned_file for any owner of a descriptor: file.release() gives it up and returns it,
    /// file.reset(fd) takes it back if the append fails. Both must be noexcept.
    template <class File, std::enable_if_t<std::is_class_v<std::decay_t<File>>, int> = 0>
    static detail::own_file_part<File> owned_file(File&& file, std::uint64_t offset,
                                                  std::uint64_t len) noexcept {
        return {std::forward<File>(file), offset, len};
    }
};

static_assert(std::is_standard_layout_v<part> && sizeof(part) == sizeof(sendq_part_t),
              "an array of it is one of sendq_part_t");

/// The parts of a message: `{...}`, or an array, vector or span of part.
class part_span {
  public:
    part_span(std::initializer_list<part> parts) noexcept
        : part_span(parts.begin(), parts.size()) {}
    template <class Parts,
              std::enable_if_t<std::is_convertible_v<
                                   decltype(std::data(std::declval<const Parts&>())), const part*>,
                               int> = 0>
    part_span(const Parts& parts) noexcept : part_span(std::data(parts), std::size(parts)) {}
    part_span(const part* parts, std::size_t count) noexcept : parts_(parts), count_(count) {}

    const part* data() const noexcept { return parts_; }
    std::size_t size() const noexcept { return count_; }

  private:
    const part* parts_;
    std::size_t count_;
};

namespace detail {

/// Follows the bytes of parts that have moved with their owner.
template <class Place>
bool follow(sendq_part_t& part, Place place) noexcept {
    if (part.data == nullptr) {
        return false;
    }
    const void* data = part.data;
    part.data = place(bytes(data, static_cast<std::size_t>(part.len))).data();
    return part.data != data;
}

/// The append of append_owned for a message: `call(parts, count, release, arg)`.
template <class Call>
struct message_to {
    const sendq_part_t* parts;
    std::size_t count;
    Call call;

    template <class Place>
    int operator()(Place place, sendq_release_fn fn, void* arg) const noexcept {
        if (count > INT_MAX) {
            return -EINVAL;
        }
        for (std::size_t i = 0; i < count; i++) {
            sendq_part_t moved = parts[i];
            if (follow(moved, place)) {
                return followed(place, fn, arg);
            }
        }
        return call(parts, static_cast<int>(count), fn, arg);
    }

  private:
    /// Some bytes are inside the owner itself, such as those of a short std::string.
    template <class Place>
    int followed(Place place, sendq_release_fn fn, void* arg) const noexcept {
        scratch<sendq_part_t, 16> copies(count);
        if (copies.data() == nullptr) {
            return -ENOMEM;
        }
        for (std::size_t i = 0; i < count; i++) {
            copies.data()[i] = parts[i];
            follow(copies.data()[i], place);
        }
        return call(copies.data(), static_cast<int>(count), fn, arg);
    }
};

template <class Call>
message_to(const sendq_part_t*, std::size_t, Call) -> message_to<Call>;

/// part::own. It refers to the owner, which moves when the message is appended.
template <class Owner>
class own_part {
  public:
    own_part(Owner&& owner, std::string_view view) noexcept
        : owner_(std::addressof(owner)), view_(view) {}

    part describe() const noexcept {
        return part(sendq_part_own(view_.data(), view_.size(), nullptr, nullptr));
    }

    /// Gives the owner to the i-th of the parts for next(), and takes it back if that fails.
    template <std::size_t Count, class Next>
    int give(sendq_part_t (&parts)[Count], std::size_t i, Next next) const noexcept {
        return append_owned(static_cast<Owner&&>(*owner_),
                            [&parts, i, next](auto place, sendq_release_fn fn, void* arg) {
                                parts[i].release = fn;
                                parts[i].arg = arg;
                                for (sendq_part_t& each : parts) {
                                    follow(each, place);
                                }
                                return next();
                            });
    }

  private:
    static_assert(is_ownable<Owner>, "it owns nothing");
    std::remove_reference_t<Owner>* owner_;
    std::string_view view_;
};

/// part::owned_file for an owner of a descriptor.
template <class File>
class own_file_part {
  public:
    own_file_part(File&& file, std::uint64_t offset, std::uint64_t len) noexcept
        : file_(file), offset_(offset), len_(len) {}

    part describe() const noexcept { return part::owned_file(SENDQ_NO_FD, offset_, len_); }

    template <std::size_t Count, class Next>
    int give(sendq_part_t (&parts)[Count], std::size_t i, Next next) const noexcept {
        const auto fd = file_.release();
        parts[i].fd = static_cast<sendq_fd_t>(fd);
        const int returned = next();
        if (SENDQ_FAILED(returned)) {
            file_.reset(fd);
        }
        return returned;
    }

  private:
    static_assert(!std::is_lvalue_reference_v<File>, "give the file up: std::move(file)");
    static_assert(noexcept(std::declval<File&>().reset(std::declval<File&>().release())),
                  "release() and reset(fd) must be noexcept");
    File& file_;
    std::uint64_t offset_;
    std::uint64_t len_;
};

template <class T>
constexpr bool is_owning_part = false;
template <class Owner>
constexpr bool is_owning_part<own_part<Owner>> = true;
template <class File>
constexpr bool is_owning_part<own_file_part<File>> = true;

/// sendq::parts. At least one, so that {} is none.
template <class First, class... Rest>
class part_list {
  public:
    explicit part_list(const First& first, const Rest&... rest) noexcept : parts_(first, rest...) {}

    /// Calls append(parts, count) while the owners of the parts are stored, and restores them if it
    /// fails.
    template <class Append>
    int append(Append append) const noexcept {
        return append_from(append, std::index_sequence_for<First, Rest...>());
    }

  private:
    using tuple = std::tuple<First, Rest...>;
    static constexpr std::size_t count = 1 + sizeof...(Rest);

    template <class Append, std::size_t... I>
    int append_from(Append append, std::index_sequence<I...>) const noexcept {
        sendq_part_t array[count] = {describe(std::get<I>(parts_))...};
        return give<0>(array, append);
    }

    static part describe(const part& plain) noexcept { return plain; }
    template <class Owning>
    static part describe(const Owning& owning) noexcept {
        return owning.describe();
    }

    template <std::size_t I, class Append>
    int give(sendq_part_t (&array)[count], Append append) const noexcept {
        if constexpr (I == count) {
            return append(array, I);
        } else if constexpr (is_owning_part<std::tuple_element_t<I, tuple>>) {
            return std::get<I>(parts_).give(
                array, I, [this, &array, append] { return give<I + 1>(array, append); });
        } else {
            return give<I + 1>(array, append);
        }
    }

    tuple parts_;
};

template <class T>
using listed_part = std::conditional_t<is_owning_part<std::decay_t<T>>, std::decay_t<T>, part>;

}  // namespace detail

/// The parts of a message, some of which have owners of their own:
///
///     q.append_message(parts(header, part::own(std::move(value), view), "\r\n"));
///
/// It is made for one call, and refers to what it was made from. If the call fails, the owners are
/// as they were before.
template <class... Parts>
detail::part_list<detail::listed_part<Parts>...> parts(Parts&&... each) noexcept {
    return detail::part_list<detail::listed_part<Parts>...>(
        detail::listed_part<Parts>(std::forward<Parts>(each))...);
}

/// A hole in a queue: make_hole. It has to be filled, or no flush sends what is behind it. Moving
/// it makes the other one empty. It holds no pointer, so the queue may be destroyed before it.
class [[nodiscard]] hole {
  public:
    hole() noexcept = default;
    /// Takes over a hole of sendq.h.
    explicit hole(sendq_hole_t open) noexcept : open_(open) {}
    hole(hole&& other) noexcept : open_(other.release()) {}
    hole& operator=(hole&& other) noexcept {
        open_ = other.release();
        return *this;
    }

    /// True if it is to be filled.
    explicit operator bool() const noexcept { return open_.id != 0; }
    /// For calls of sendq.h.
    sendq_hole_t get() const noexcept { return open_; }
    /// Gives it up: the caller fills it with sendq.h. This object is empty afterwards.
    [[nodiscard]] sendq_hole_t release() noexcept { return std::exchange(open_, sendq_hole_t()); }

  private:
    sendq_hole_t open_ = {};
};

/// Memory of the queue to write into: reserve of queue. commit ends it. If it is destroyed before,
/// nothing is appended. The queue must outlive it.
class [[nodiscard]] reservation {
  public:
    reservation(reservation&& other) noexcept
        : q_(std::exchange(other.q_, nullptr)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          made_(other.made_) {}
    reservation& operator=(reservation&&) = delete;
    ~reservation() {
        if (q_ != nullptr) {
            sendq_commit(q_, 0);
        }
    }

    /// True if there is memory to write to.
    explicit operator bool() const noexcept { return q_ != nullptr; }
    /// The error of reserve, or zero.
    std::error_code error() const noexcept { return made_.error(); }
    /// The memory: size() bytes, until commit. nullptr if there is none.
    char* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

    /// sendq_commit: appends the first used bytes. EINVAL: used is more than size(), and the
    /// reservation stays. If reserve failed, its error.
    result commit(std::size_t used) noexcept {
        if (!made_) {
            return made_;
        }
        const int returned = sendq_commit(q_, used);
        if (returned != -EINVAL) {
            q_ = nullptr;
            data_ = nullptr;
            size_ = 0;
        }
        return result(returned);
    }

  private:
    friend class queue_calls;
    reservation(sendq_t* q, std::size_t size) noexcept : q_(q), size_(size), made_(0) {
        void* memory = nullptr;
        made_ = result(sendq_reserve(q, size, &memory));
        data_ = static_cast<char*>(memory);
        if (!made_) {
            q_ = nullptr;
            size_ = 0;
        }
    }

    sendq_t* q_;
    char* data_ = nullptr;
    std::size_t size_;
    result made_;
};

/// Holds back what is appended: cork of queue. uncork or rollback ends it. If it is destroyed
/// before, it rolls back, and a SENDQ_RESUME of that rollback is lost: a host that pauses its
/// producers should call rollback itself. In a callback of the queue, what a rollback discards is
/// released after that callback has returned. The queue must outlive this object, and this object
/// must outlive reservations made meanwhile.
class [[nodiscard]] cork_scope {
  public:
    cork_scope(cork_scope&& other) noexcept
        : q_(std::exchange(other.q_, nullptr)), made_(other.made_) {}
    cork_scope& operator=(cork_scope&&) = delete;
    ~cork_scope() {
        if (q_ != nullptr) {
            sendq_rollback(q_);
        }
    }

    /// True while it holds the queue corked.
    explicit operator bool() const noexcept { return q_ != nullptr; }
    /// The error of cork, or zero.
    std::error_code error() const noexcept { return made_.error(); }

    /// sendq_uncork: makes available what was held back. EBUSY: memory is reserved, and the queue
    /// stays corked. If cork failed, its error.
    result uncork() noexcept { return end(sendq_uncork); }
    /// sendq_rollback: discards what was held back. Errors as for uncork.
    result rollback() noexcept { return end(sendq_rollback); }

  private:
    friend class queue_calls;
    explicit cork_scope(sendq_t* q) noexcept : q_(q), made_(sendq_cork(q)) {
        if (!made_) {
            q_ = nullptr;
        }
    }

    result end(int (*how)(sendq_t*)) noexcept {
        if (!made_) {
            return made_;
        }
        // Set before the call, because a callback inside may destroy this object. With EBUSY no
        // callback runs.
        sendq_t* q = std::exchange(q_, nullptr);
        const int returned = how(q);
        if (returned == -EBUSY) {
            q_ = q;
        }
        return result(returned);
    }

    sendq_t* q_;
    result made_;
};

/// The calls of a queue: those of queue, which owns it, and of queue_view, which does not.
class queue_calls : public detail::pointer<sendq_t> {
    // Above the calls that use them, because their types are deduced.

    auto borrow(std::string_view view) noexcept {
        return [q = get(), view](auto place, sendq_release_fn fn, void* arg) {
            return sendq_append_ref(q, place(view).data(), view.size(), fn, arg);
        };
    }
    auto message(const sendq_part_t* parts, std::size_t count) noexcept {
        return detail::message_to{
            parts, count, [q = get()](auto... args) { return sendq_append_message(q, args...); }};
    }
    auto message(const sendq_part_t* parts, std::size_t count, sendq_fd_t fd,
                 std::size_t max_bytes) noexcept {
        return detail::message_to{parts, count, [q = get(), fd, max_bytes](auto... args) {
                                      return sendq_send(q, fd, args..., max_bytes);
                                  }};
    }

  public:
    // Appends have the hints and errors of sendq_append, and are all or nothing.

    /// Copies view.
    result append(std::string_view view) noexcept { return append(view.data(), view.size()); }
    /// Copies len bytes.
    result append(const void* data, std::size_t len) noexcept {
        return result(sendq_append(get(), data, len));
    }

    /// Takes an rvalue std::string, and holds it until it is sent, which costs one allocation. A
    /// string shorter than copy_below is copied. One shorter than 256 bytes is copied without the
    /// allocation. As after any move, text has an unspecified value and may be reused.
    template <class String, std::enable_if_t<std::is_same_v<String, std::string>, int> = 0>
    result append(String&& text) noexcept {
        if (text.size() < detail::min_owned_string) {
            return append(std::string_view(text));
        }
        const std::string_view view = text;
        return append_owned(std::move(text), view);  // NOLINT(bugprone-move-forwarding-reference)
    }

    /// Appends all of buf: sendq_append_buf.
    result append(const buffer& buf) noexcept { return append(buf, 0, buf.size()); }
    /// Appends len bytes of buf, from offset.
    result append(const buffer& buf, std::size_t offset, std::size_t len) noexcept {
        return result(sendq_append_buf(get(), buf.get(), offset, len));
    }

    /// Copies the pieces as one append: all or none. `q.appendv({header, body})`. More than 64
    /// pieces cost an allocation during the call.
    result appendv(std::initializer_list<std::string_view> pieces) noexcept {
        return appendv(pieces.begin(), pieces.size());
    }
    /// The same for an array, vector or span of std::string_view, or of what converts to it.
    template <class Pieces, class = decltype(std::data(std::declval<const Pieces&>()))>
    result appendv(const Pieces& pieces) noexcept {
        return appendv(std::data(pieces), std::size(pieces));
    }
    template <class Piece>
    result appendv(const Piece* pieces, std::size_t count) noexcept {
        if (count > INT_MAX) {
            return result(-EINVAL);
        }
        detail::scratch<iovec, 64> iov(count);
        if (iov.data() == nullptr) {
            return result(-ENOMEM);
        }
        for (std::size_t i = 0; i < count; i++) {
            const std::string_view piece = pieces[i];
            iov.data()[i].iov_base = const_cast<char*>(piece.data());
            iov.data()[i].iov_len = piece.size();
        }
        return appendv(iov.data(), count);
    }
    /// sendq_appendv.
    result appendv(const iovec* iov, std::size_t count) noexcept {
        return count > INT_MAX ? result(-EINVAL)
                               : result(sendq_appendv(get(), iov, static_cast<int>(count)));
    }

    /// Borrows view, and holds owner until the bytes are sent or discarded. view must stay valid
    /// and unchanged while owner lives. Fewer than copy_below bytes are copied, and owner is
    /// destroyed before this returns.
    ///
    /// owner may be of any type that moves without throwing. A std::shared_ptr may also be copied.
    /// A std::unique_ptr costs no allocation unless its deleter has state; any other owner costs
    /// one. The bytes may be inside owner itself, like those of a std::array or a short
    /// std::string.
    ///
    /// An empty view succeeds on an open queue, and owner is destroyed before this returns. ENOMEM
    /// also if there is no memory to hold owner. On any failure owner is as it was before the call.
    template <class Owner>
    result append_owned(Owner&& owner, std::string_view view) noexcept {
        return result(detail::append_owner(std::forward<Owner>(owner), borrow(view)));
    }

    /// Borrows view, which must stay valid and unchanged until released(std::error_code) is called,
    /// once. The error is zero if the bytes were sent or copied, std::errc::operation_canceled if
    /// the host has discarded them, or another one with which the connection has failed. Then
    /// released is destroyed.
    ///
    /// released must be noexcept. It costs no allocation if it is trivially copyable and no larger
    /// than a pointer, such as a function or a lambda that captures `this`; otherwise it costs one.
    /// An empty view succeeds on an open queue, and released is called before this returns. On any
    /// failure released is not called, and is as it was before the call.
    template <class F>
    result append_ref(std::string_view view, F&& released) noexcept {
        return result(detail::append_callable(std::forward<F>(released), borrow(view)));
    }
    /// Borrows view, which stays valid for good, or until the host has learned in another way that
    /// it is not needed any more (notify).
    result append_ref(std::string_view view) noexcept {
        return result(sendq_append_ref(get(), view.data(), view.size(), nullptr, nullptr));
    }

    /// sendq_append_file, with released as for append_ref. A callable that owns the file can close
    /// it.
    template <class F>
    result append_file(sendq_fd_t fd, std::uint64_t offset, std::uint64_t len,
                       F&& released) noexcept {
        const auto append = [this, fd, offset, len](auto, sendq_release_fn fn, void* arg) {
            return sendq_append_file(get(), fd, offset, len, fn, arg);
        };
        return result(detail::append_callable(std::forward<F>(released), append));
    }
    /// The same for a file that stays open until the host has learned in another way that it is not
    /// needed any more (notify).
    result append_file(sendq_fd_t fd, std::uint64_t offset, std::uint64_t len) noexcept {
        return result(sendq_append_file(get(), fd, offset, len, nullptr, nullptr));
    }

    /// Calls released when all bytes that are queued now have been sent or discarded; before this
    /// returns if nothing is queued. released is as for append_ref.
    template <class F>
    result notify(F&& released) noexcept {
        const auto append = [this](auto, sendq_release_fn fn, void* arg) {
            return sendq_notify(get(), fn, arg);
        };
        return result(detail::append_callable(std::forward<F>(released), append));
    }

    /// sendq_append_message: appends a message, all of its parts or none, and holds owner until the
    /// last part that was not copied is sent or discarded. What parts borrow must stay valid and
    /// unchanged while owner lives; without an owner, for good.
    ///
    ///     q.append_message({header, part::ref(item->value), "\r\n"}, std::move(item));
    ///
    /// owner is as for append_owned, or a callable as for append_ref, which may also be called as
    /// released(std::error_code, std::size_t sent): how many bytes of this message were sent. If
    /// all parts are copied, or there are no bytes, owner is released before this returns; in a
    /// release callback, after that callback. Bytes of the parts may be inside owner itself; with
    /// more than 16 parts, following them costs another allocation. ENOMEM also if there is no
    /// memory for owner. On any failure owner is as it was before the call.
    template <class Owner = detail::no_owner, std::enable_if_t<detail::is_ownable<Owner>, int> = 0>
    result append_message(part_span parts, Owner&& owner = Owner()) noexcept {
        return result(
            detail::append_owned(std::forward<Owner>(owner), message(parts.data(), parts.size())));
    }
    /// The same for parts with owners of their own.
    template <class... Parts, class Owner = detail::no_owner,
              std::enable_if_t<detail::is_ownable<Owner>, int> = 0>
    result append_message(detail::part_list<Parts...>&& parts, Owner&& owner = Owner()) noexcept {
        return result(parts.append([this, &owner](const sendq_part_t* array, std::size_t count) {
            return detail::append_owned(std::forward<Owner>(owner), message(array, count));
        }));
    }
    /// sendq_end_message: what was appended since the last boundary is a message.
    result end_message() noexcept { return result(sendq_end_message(get())); }

    /// sendq_hole: a hole for at most max_len bytes. Appends go on behind it, and no flush sends
    /// them until it is filled.
    expected<hole> make_hole(std::size_t max_len) noexcept {
        sendq_hole_t made = {};
        const result r(sendq_hole(get(), max_len, &made));
        return {r, hole(made)};
    }
    /// sendq_fill: fills a hole of this queue with a copy of view, and makes it empty. EINVAL: view
    /// is too long, or the hole is empty. On failure the hole stays as it is. Filling a hole that
    /// was discarded succeeds.
    result fill(hole& open, std::string_view view) noexcept {
        if (!open) {
            return result(-EINVAL);
        }
        const sendq_hole_t filled = open.release();
        const result r(sendq_fill(get(), filled, view.data(), view.size()));
        if (!r) {
            open = hole(filled);
        }
        return r;
    }

    /// sendq_reserve: memory for len bytes. Check that there is some: `if (!memory)`.
    reservation reserve(std::size_t len) noexcept { return {get(), len}; }

    /// sendq_cork: holds back what is appended while the scope lives. Check that it does: `if
    /// (!scope)`. Its destructor discards what was held back, unless uncork was called.
    cork_scope cork() noexcept { return cork_scope(get()); }

    /// sendq_splice: moves all that is queued in from to the end of this queue.
    result splice(queue_view from) noexcept;
    /// sendq_splice_n: moves at most the first max_bytes bytes.
    result splice(queue_view from, std::uint64_t max_bytes) noexcept;

    /// sendq_flush: sends what is queued to the socket fd. max_bytes 0: no limit.
    result flush(sendq_fd_t fd, std::size_t max_bytes = 0) noexcept {
        return result(sendq_flush(get(), fd, max_bytes));
    }

    /// sendq_reap: takes what the kernel acknowledges of what was sent to fd without a copy.
    result reap(sendq_fd_t fd) noexcept { return result(sendq_reap(get(), fd)); }

    /// sendq_send: append_message and flush in one, which allocates nothing for the bytes if the
    /// socket takes all. parts and owner are as for append_message, hints and max_bytes as for
    /// flush. After an error the message was not taken, and owner is as it was before the call;
    /// error() says whether the connection is over. Hint closed(): the message was taken, and then
    /// the connection failed.
    ///
    ///     q.send(fd, {header, part::ref(item->value), "\r\n"}, std::move(item));
    template <class Owner = detail::no_owner, std::enable_if_t<detail::is_ownable<Owner>, int> = 0>
    result send(sendq_fd_t fd, part_span parts, Owner&& owner = Owner(),
                std::size_t max_bytes = 0) noexcept {
        return result(detail::append_owned(std::forward<Owner>(owner),
                                           message(parts.data(), parts.size(), fd, max_bytes)));
    }
    result send(sendq_fd_t fd, part_span parts, std::size_t max_bytes) noexcept {
        return send(fd, parts, detail::no_owner(), max_bytes);
    }
    /// The same for parts with owners of their own.
    template <class... Parts, class Owner = detail::no_owner,
              std::enable_if_t<detail::is_ownable<Owner>, int> = 0>
    result send(sendq_fd_t fd, detail::part_list<Parts...>&& parts, Owner&& owner = Owner(),
                std::size_t max_bytes = 0) noexcept {
        return result(
            parts.append([&, this, fd, max_bytes](const sendq_part_t* array, std::size_t count) {
                return detail::append_owned(std::forward<Owner>(owner),
                                            message(array, count, fd, max_bytes));
            }));
    }
    template <class... Parts>
    result send(sendq_fd_t fd, detail::part_list<Parts...>&& parts,
                std::size_t max_bytes) noexcept {
        return send(fd, std::move(parts), detail::no_owner(), max_bytes);
    }

    /// sendq_flush_with: sends what is queued through write, which is called as
    /// write(std::string_view) until this returns. It returns what a sendq_write_fn returns: how
    /// many bytes it took; -EAGAIN; SENDQ_WRITE_WANT_READ; another -errno. It must be noexcept.
    template <class F>
    result flush_with(F&& write, std::size_t max_bytes = 0) noexcept {
        using callable = std::remove_reference_t<F>;
        static_assert(
            std::is_nothrow_invocable_r_v<std::int64_t, callable&, std::string_view>,
            "it is called by C as write(std::string_view), gives an int64_t, and must be noexcept");
        const auto call = [](void* arg, const void* data, std::size_t len) noexcept {
            return static_cast<std::int64_t>((**static_cast<callable**>(arg))(bytes(data, len)));
        };
        callable* writer = std::addressof(write);
        return flush_with(call, &writer, max_bytes);
    }
    /// The same with a function of C, such as sendq_ssl_write.
    result flush_with(sendq_write_fn write, void* arg, std::size_t max_bytes = 0) noexcept {
        return result(sendq_flush_with(get(), write, arg, max_bytes));
    }

#if !defined(_WIN32)
    /// sendq_sendmsg, in place of sendmsg(2). It returns how many bytes of msg were taken, which
    /// may be fewer than msg has, or -1 with errno.
    ssize_t sendmsg(sendq_fd_t fd, const msghdr& msg, int flags = 0) noexcept {
        return sendq_sendmsg(get(), fd, &msg, flags);
    }
#endif
    /// sendq_verify: the old path has sent the first bytes of iov. EILSEQ, which is
    /// std::errc::illegal_byte_sequence: the queue has other bytes, from the offset *mismatch_at in
    /// the stream.
    result verify(const iovec* iov, std::size_t count, std::size_t bytes,
                  std::uint64_t* mismatch_at = nullptr) noexcept {
        return count > INT_MAX
                   ? result(-EINVAL)
                   : result(sendq_verify(get(), iov, static_cast<int>(count), bytes, mismatch_at));
    }
    /// The same for bytes that the old path sent with send(2).
    result verify(std::string_view sent, std::uint64_t* mismatch_at = nullptr) noexcept {
        const iovec piece = {const_cast<char*>(sent.data()), sent.size()};
        return verify(&piece, 1, sent.size(), mismatch_at);
    }

    /// sendq_peek: fills up to count entries of iov with the oldest queued bytes, and returns how
    /// many were filled.
    std::size_t peek(iovec* iov, std::size_t count) const noexcept {
        const int filled =
            sendq_peek(get(), iov, count < INT_MAX ? static_cast<int>(count) : INT_MAX);
        return filled < 0 ? 0 : static_cast<std::size_t>(filled);
    }
    template <std::size_t Count>
    std::size_t peek(iovec (&iov)[Count]) const noexcept {
        return peek(iov, Count);
    }
    /// sendq_peek_parts: peek with parts of files, as parts of the kinds SENDQ_PART_REF and
    /// SENDQ_PART_FILE.
    std::size_t peek_parts(part* parts, std::size_t count) const noexcept {
        const int filled =
            sendq_peek_parts(get(), parts, count < INT_MAX ? static_cast<int>(count) : INT_MAX);
        return filled < 0 ? 0 : static_cast<std::size_t>(filled);
    }
    template <std::size_t Count>
    std::size_t peek_parts(part (&parts)[Count]) const noexcept {
        return peek_parts(parts, Count);
    }
    /// sendq_consume: consumes the first bytes, which the host has sent itself.
    result consume(std::size_t bytes) noexcept {
        return result(sendq_consume(get(), bytes));
    }

    /// sendq_close: refuses appends; what is queued is still flushed.
    result close() noexcept {
        return result(sendq_close(get()));
    }
    /// sendq_close_within: close, and discard what is not sent by then (ETIMEDOUT). A negative
    /// timeout has passed at once, like 0.
    result close_within(std::chrono::nanoseconds timeout) noexcept {
        return result(sendq_close_within(get(), detail::to_ns(timeout)));
    }
    /// sendq_discard: discards what is queued.
    result discard() noexcept {
        return result(sendq_discard(get()));
    }
    /// sendq_discard_unstarted: discards the messages of which no byte was sent. EINVAL: the queue
    /// counts no messages.
    result discard_unstarted() noexcept {
        return result(sendq_discard_unstarted(get()));
    }
    /// sendq_reset: makes the queue as new, with its config. (reset frees it.)
    result renew() noexcept {
        return result(sendq_reset(get()));
    }
    /// sendq_fail: ends the connection with an error that the host has found. EINVAL: error is not
    /// an errno, which is one of the generic or the system category.
    result fail(std::error_code error) noexcept {
        const bool is_errno = error.category() == std::generic_category() ||
                              error.category() == std::system_category();
        return is_errno && error.value() > 0 ? result(sendq_fail(get(), -error.value()))
                                             : result(-EINVAL);
    }
    result fail(std::errc error) noexcept {
        return fail(std::make_error_code(error));
    }

    /// Bytes queued.
    std::uint64_t queued_bytes() const noexcept {
        return sendq_queued_bytes(get());
    }
    /// Bytes queued that are not in files: these count against high, max and the pool's budget.
    std::uint64_t queued_memory() const noexcept {
        return sendq_queued_memory(get());
    }
    /// Bytes of memory that the queue holds: blocks, borrowed memory, shared buffers.
    std::uint64_t memory() const noexcept {
        return sendq_memory(get());
    }
    /// Bytes that may be appended before the high watermark or the pool's budget; 0 while paused.
    std::uint64_t room() const noexcept {
        return sendq_room(get());
    }
    /// Bytes sent in total. Only increases.
    std::uint64_t sent_bytes() const noexcept {
        return sendq_sent_bytes(get());
    }
    /// Messages that are not wholly sent. 0 unless the queue counts messages.
    std::uint64_t queued_messages() const noexcept {
        return sendq_queued_messages(get());
    }
    /// Messages that were wholly sent. 0 unless the queue counts messages.
    std::uint64_t sent_messages() const noexcept {
        return sendq_sent_messages(get());
    }
    /// sendq_state: the current state, for a host that has lost track of the hints: high, blocked,
    /// want_read, more, corked, closed. None for an empty handle.
    hints state() const noexcept {
        return result(sendq_state(get()));
    }
    /// The error that ended the connection, or zero.
    std::error_code error() const noexcept {
        return result(sendq_error(get())).error();
    }
    /// sendq_set_watermarks: 0 for the defaults.
    result set_watermarks(std::uint64_t low, std::uint64_t high, std::uint64_t max) noexcept {
        return result(sendq_set_watermarks(get(), low, high, max));
    }
    /// sendq_schedule: ready again for pool::next, in the next turn.
    result schedule() noexcept {
        return result(sendq_schedule(get()));
    }

    /// sendq_set_rate: limits the rate, and what may be sent at once after a pause. 0: no limit.
    result set_rate(std::uint64_t bytes_per_second, std::uint64_t burst = 0) noexcept {
        return result(sendq_set_rate(get(), bytes_per_second, burst));
    }
    /// sendq_set_min_rate: a connection slower than that over a window counts as stalled. 0: no
    /// minimum. EINVAL also for a window that is not positive.
    result set_min_rate(std::uint64_t bytes_per_second, std::chrono::nanoseconds window) noexcept {
        return result(sendq_set_min_rate(get(), bytes_per_second, detail::to_ns(window)));
    }
    /// sendq_stalled_ns: for how long no byte was sent while bytes were queued. For the first bytes
    /// of a queue that was empty, it counts from the first flush, or the first call of this. 0:
    /// nothing is queued.
    std::chrono::nanoseconds stalled() const noexcept {
        return detail::from_ns(sendq_stalled_ns(get()));
    }
    /// sendq_retry_after_ns: in what time a flush does something although the socket has not
    /// changed, for the host's timer. 0: now. std::nullopt, for SENDQ_NEVER: only the socket can
    /// help, nothing is queued, or the handle is empty.
    ///
    ///     if (auto wait = q.retry_after()) call_again_in(*wait);
    std::optional<std::chrono::nanoseconds> retry_after() const noexcept {
        return detail::to_wait(sendq_retry_after_ns(get()));
    }

    /// sendq_stats: the current statistics. All 0 for an empty handle.
    sendq_stats_t stats() const noexcept {
        sendq_stats_t figures = {};
        sendq_stats(get(), &figures, sizeof figures);
        return figures;
    }
    /// sendq_stats_json: the same as JSON, with what the kernel reports about the socket fd, if
    /// there is one. It allocates the string, which throws on failure. Empty for an empty handle.
    std::string stats_json(sendq_fd_t fd = SENDQ_NO_FD) const {
        char text[1024];
        const std::size_t len = stats_json(text, sizeof text, fd);
        if (len < sizeof text) {
            return {text, len};
        }
        // The numbers may be longer the second time.
        std::string longer(len + sizeof text, '\0');
        longer.resize((std::min)(stats_json(&longer[0], longer.size(), fd), longer.size() - 1));
        return longer;
    }
    /// The same into the caller's memory, without an allocation. Like snprintf, it returns the
    /// length of the whole text. 0 for an empty handle.
    std::size_t stats_json(char* out, std::size_t size,
                           sendq_fd_t fd = SENDQ_NO_FD) const noexcept {
        const int len = sendq_stats_json(get(), fd, out, size);
        return len < 0 ? 0 : static_cast<std::size_t>(len);
    }

    /// The user pointer of the config, converted to the host's type.
    template <class User = void>
    User* user() const noexcept {
        return static_cast<User*>(sendq_user(get()));
    }

  protected:
    explicit queue_calls(sendq_t* q = nullptr) noexcept : pointer(q) {}
    queue_calls(const queue_calls&) noexcept = default;
    queue_calls& operator=(const queue_calls&) noexcept = default;
    ~queue_calls() = default;
};

/// A queue that somebody else owns: for callbacks, and for what pool::next returns. It is a
/// pointer, to be copied and passed by value, and it may be empty. The queue must outlive its use.
class queue_view : public queue_calls {
  public:
    queue_view() noexcept = default;
    /// A view of a handle of sendq.h, such as those of pool::heaviest.
    explicit queue_view(sendq_t* q) noexcept : queue_calls(q) {}
    queue_view(queue& q) noexcept;
};

/// The output of one connection: the queued bytes, in order. Destroying it discards them. To send
/// them first, call close and flush until nothing is queued.
class queue : public detail::handle<queue_calls, sendq_free> {
  public:
    using handle::handle;

    /// sendq_new with the process's default pool.
    static expected<queue> create(const queue_config& config = {}) noexcept {
        return make(nullptr, config);
    }
    /// sendq_new. EINVAL also for an empty pool.
    static expected<queue> create(const pool& from, const queue_config& config = {}) noexcept {
        return from ? make(from.get(), config) : expected<queue>(result(-EINVAL), queue());
    }

  private:
    static expected<queue> make(sendq_pool_t* from, const queue_config& config) noexcept {
        sendq_t* made = nullptr;
        const result r(sendq_new(from, &config, &made));
        return {r, queue(made)};
    }
};

inline queue_view::queue_view(queue& q) noexcept : queue_calls(q.get()) {}

inline queue_view pool::next() noexcept {
    return queue_view(sendq_pool_next(get()));
}

inline result queue_calls::splice(queue_view from) noexcept {
    return result(sendq_splice(get(), from.get()));
}

inline result queue_calls::splice(queue_view from, std::uint64_t max_bytes) noexcept {
    return result(sendq_splice_n(get(), from.get(), max_bytes));
}

/// The levels of log messages, the most important first.
enum class log_level : int {
    error = SENDQ_LOG_ERROR,
    warn = SENDQ_LOG_WARN,
    info = SENDQ_LOG_INFO,
};

/// sendq_set_logger: log is called as log(log_level, sendq_t*, std::string_view) from now on, for
/// messages up to max_level. It must be noexcept. It is held by reference, and must live until it
/// was replaced and no call on another thread is in progress. EALREADY: another logger of the
/// process gets the records.
template <class F>
result set_logger(F& log, log_level max_level = log_level::info) noexcept {
    static_assert(std::is_nothrow_invocable_v<F&, log_level, sendq_t*, std::string_view>,
                  "it is called by C, and must be noexcept");
    const auto call = [](void* arg, int level, sendq_t* q, const char* message) noexcept {
        (*static_cast<F*>(arg))(static_cast<log_level>(level), q, std::string_view(message));
    };
    return result(sendq_set_logger(call, detail::to_arg(log), static_cast<int>(max_level)));
}

/// Removes the logger.
inline result reset_logger() noexcept {
    return result(sendq_set_logger(nullptr, nullptr, 0));
}

}  // namespace sendq

#undef SENDQ_HPP_THROWS

#endif  // SENDQ_SENDQ_HPP
