// sendq.hpp: sendq.h for C++17. Header-only: the same library, the same calls, the same costs.
//
//     auto q = sendq::queue::create();
//     if (!q) return q.error();
//     if (auto r = q->append(std::move(reply)); !r) return r.error();
//     if (auto r = q->flush(fd); !r) return r.error();      the connection is over
//     else if (r.blocked()) ...                             flush again when fd is writable
//
// sendq.h is the manual. What is written here is what C++ adds to it.
//
// Errors. Nothing throws, except or_throw(), which is not there with -fno-exceptions, and
// stats_json() when there is no memory for its string.
//
// Ownership. An append that takes an owner or a callable keeps it until sendq needs the memory no
// more, and destroys it then, once. After an append that failed the caller has it back as it was:
// also after a std::move(), also when memory is short.
//
// Cost. Calls are those of sendq.h, inlined. Memory is allocated only to keep what fits no pointer,
// as said there, and once per append; if there is none, the append fails with ENOMEM.
//
// Callbacks and destructors run inside the calls of sendq, wherever its manual says that release is
// called. They must not throw, and may do anything to the queue, destroy it included.
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
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define SENDQ_HPP_THROWS 1
#else
#define SENDQ_HPP_THROWS 0
#endif

namespace sendq {

/// What is left for the host to do: the bits that a call of sendq.h gives when it succeeds.
class hints {
  public:
    constexpr explicit hints(int bits = 0) noexcept : bits_(bits) {}

    /// Of append: the queue was empty. See that a flush gets scheduled.
    constexpr bool wake() const noexcept { return (bits_ & SENDQ_WAKE) != 0; }
    /// Of append: at or over the high watermark. Pause the producer.
    constexpr bool high() const noexcept { return (bits_ & SENDQ_HIGH) != 0; }
    /// Of flush: bytes remain and the socket takes no more. Wait until it is writable.
    constexpr bool blocked() const noexcept { return (bits_ & SENDQ_BLOCKED) != 0; }
    /// Of flush: bytes remain and the budget of the call is spent. Call again soon.
    constexpr bool more() const noexcept { return (bits_ & SENDQ_MORE) != 0; }
    /// Fell to the low watermark after having been high, or after an append gave ENOBUFS. The
    /// producer may go on.
    constexpr bool resume() const noexcept { return (bits_ & SENDQ_RESUME) != 0; }
    /// Of flush_with: bytes remain and the writer goes on once its connection is readable (TLS).
    constexpr bool want_read() const noexcept { return (bits_ & SENDQ_WANT_READ) != 0; }
    /// All of them, as in sendq.h. 0: nothing is left to do.
    constexpr int bits() const noexcept { return bits_; }

  private:
    int bits_;
};

namespace detail {

inline std::error_code code(int number) noexcept {
    return number == 0 ? std::error_code() : std::error_code(number, std::generic_category());
}

}  // namespace detail

/// What a call gave: success with hints, or an error. An error has no hints.
class [[nodiscard]] result : public hints {
  public:
    /// From what a function of sendq.h returned.
    constexpr explicit result(int returned) noexcept
        : hints(returned < 0 ? 0 : returned), errno_(returned < 0 ? -returned : 0) {}

    /// It succeeded.
    constexpr explicit operator bool() const noexcept { return errno_ == 0; }
    /// An errno in the generic category, which compares with std::errc. Zero after a success.
    std::error_code error() const noexcept { return detail::code(errno_); }
#if SENDQ_HPP_THROWS
    /// Throws the error as a std::system_error. After a success gives the hints.
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

/// A handle that was made, or the error why not: what C++23 calls std::expected.
template <class T>
class [[nodiscard]] expected {
  public:
    /// From what a function of sendq.h returned, and what it made.
    expected(result made, T value) noexcept : made_(made), value_(std::move(value)) {}

    /// It was made.
    explicit operator bool() const noexcept { return static_cast<bool>(made_); }
    /// Why it was not.
    std::error_code error() const noexcept { return made_.error(); }
    /// The handle: an empty one if it was not made.
    T& operator*() & noexcept { return value_; }
    T&& operator*() && noexcept { return std::move(value_); }
    T* operator->() noexcept { return &value_; }
#if SENDQ_HPP_THROWS
    /// Throws the error as a std::system_error, or gives the handle:
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

/// Memory that is not text, for what takes a view.
inline std::string_view bytes(const void* data, std::size_t len) noexcept {
    return {static_cast<const char*>(data), len};
}

namespace detail {

/// A unique owner of a C handle.
template <class T, void (*Free)(T*)>
class handle {
  public:
    handle() noexcept = default;
    /// Takes a handle of sendq.h over.
    explicit handle(T* owned) noexcept : owned_(owned) {}
    handle(handle&& other) noexcept : owned_(other.release()) {}
    handle& operator=(handle&& other) noexcept {
        reset(other.release());
        return *this;
    }
    ~handle() { reset(); }

    /// It is not empty.
    explicit operator bool() const noexcept { return owned_ != nullptr; }
    /// For calls of sendq.h. It stays this object's.
    T* get() const noexcept { return owned_; }
    /// Gives it up, to whoever frees it with sendq.h. This object is empty then.
    [[nodiscard]] T* release() noexcept { return std::exchange(owned_, nullptr); }
    /// Frees it, and takes another over.
    void reset(T* other = nullptr) noexcept { Free(std::exchange(owned_, other)); }

  private:
    T* owned_ = nullptr;
};

// Keepers turn a C++ object into the `arg` of a sendq_release_fn, and back:
//
//     keep      moves it in. false: out of memory, nothing was moved
//     restore   moves it back to where it came from, because the append failed
//     place     where a view of the object's bytes points to once the object is kept
//     release   the sendq_release_fn: destroys it (a callable is called before)

/// Of any object: on the heap.
template <class T>
struct heap_keeper {
    static bool keep(T& from, void*& arg) noexcept {
        arg = ::new (std::nothrow) T(std::move(from));
        return arg != nullptr;
    }

    static void restore(T& to, void* arg) noexcept {
        T* kept = static_cast<T*>(arg);
        if constexpr (std::is_trivially_copyable_v<T>) {
            // Moving has left it as it was.
        } else if constexpr (std::is_nothrow_move_assignable_v<T>) {
            to = std::move(*kept);
        } else {
            // Such as a lambda. NOLINTNEXTLINE(clang-analyzer-cplusplus.Move)
            to.~T();
            ::new (static_cast<void*>(std::addressof(to))) T(std::move(*kept));
        }
        ::delete kept;
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

/// Of a unique_ptr whose deleter has no state: the pointer is the arg.
template <class Owner>
struct pointer_keeper {
    using pointer = typename Owner::pointer;

    static bool keep(Owner& from, void*& arg) noexcept {
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
struct keeper_of_owner {
    using type = heap_keeper<T>;
};

template <class T, class Deleter>
struct keeper_of_owner<std::unique_ptr<T, Deleter>> {
    using owner = std::unique_ptr<T, Deleter>;
    using pointer = typename owner::pointer;
    static constexpr bool fits =
        std::is_pointer_v<pointer> && !std::is_function_v<std::remove_pointer_t<pointer>> &&
        std::is_empty_v<Deleter> && std::is_nothrow_default_constructible_v<Deleter>;
    using type = std::conditional_t<fits, pointer_keeper<owner>, heap_keeper<owner>>;
};

template <class T>
using owner_keeper = typename keeper_of_owner<T>::type;

/// Of any callable: on the heap.
template <class F>
struct heap_callable : heap_keeper<F> {
    static void release(void* arg, const void*, std::size_t, int reason) noexcept {
        F* kept = static_cast<F*>(arg);
        (*kept)(code(-reason));
        ::delete kept;
    }
};

/// Of a callable that is as good as its bytes, and has no more of them than a pointer, such as a
/// function or a lambda that captures `this`: in the arg itself.
template <class F>
struct inline_callable {
    static bool keep(F& from, void*& arg) noexcept {
        if constexpr (!std::is_empty_v<F>) {
            std::memcpy(&arg, std::addressof(from), sizeof(F));
        }
        return true;
    }
    static void restore(F&, void*) noexcept {}
    static std::string_view place(std::string_view view, const F&, const void*) noexcept {
        return view;
    }
    static void release(void* arg, const void*, std::size_t, int reason) noexcept {
        alignas(F) unsigned char kept[sizeof(F)];
        std::memcpy(kept, &arg, sizeof(F));
        (*std::launder(reinterpret_cast<F*>(kept)))(code(-reason));
    }
};

template <class F>
using callable_keeper =
    std::conditional_t<std::is_trivially_copyable_v<F> && sizeof(F) <= sizeof(void*),
                       inline_callable<F>, heap_callable<F>>;

/// An append for lend.
struct borrow_into {
    sendq_t* q;
    int operator()(std::string_view view, sendq_release_fn fn, void* arg) const noexcept {
        return sendq_append_ref(q, view.data(), view.size(), fn, arg);
    }
};

/// Keeps `object` during `append(view, release, arg)`, and for good if that succeeds: from then on
/// it may be gone, and where it came from as well.
template <class Keeper, class T, class Append>
int lend(T& object, std::string_view view, Append append) noexcept {
    static_assert(std::is_nothrow_move_constructible_v<T>, "moving it must not throw");
    static_assert(std::is_nothrow_destructible_v<T>, "destroying it must not throw");
    void* arg = nullptr;
    if (!Keeper::keep(object, arg)) {
        return -ENOMEM;
    }
    const int returned = append(Keeper::place(view, object, arg), &Keeper::release, arg);
    if (returned < 0) {
        Keeper::restore(object, arg);
    }
    return returned;
}

template <class Owner, class Append>
int lend_owned(Owner&& owner, std::string_view view, Append append) noexcept {
    static_assert(!std::is_lvalue_reference_v<Owner>, "give the owner up: std::move(owner)");
    return lend<owner_keeper<Owner>>(owner, view, append);
}

template <class F, class Append>
int lend_told(F&& told, std::string_view view, Append append) noexcept {
    using callable = std::decay_t<F>;
    static_assert(std::is_nothrow_invocable_v<callable&, std::error_code>,
                  "it is called as told(std::error_code), and must be noexcept");
    if constexpr (std::is_lvalue_reference_v<F>) {
        static_assert(std::is_nothrow_constructible_v<callable, F>,
                      "copying it must not throw: std::move(told)");
        callable copy(told);
        return lend<callable_keeper<callable>>(copy, view, append);
    } else {
        return lend<callable_keeper<callable>>(told, view, append);
    }
}

// Times are std::chrono::nanoseconds here, which have a sign and one bit less. What does not fit
// becomes the nearest that does.

inline std::chrono::nanoseconds from_ns(std::uint64_t ns) noexcept {
    constexpr auto most = std::chrono::nanoseconds::max().count();
    return std::chrono::nanoseconds(ns < static_cast<std::uint64_t>(most)
                                        ? static_cast<std::chrono::nanoseconds::rep>(ns)
                                        : most);
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

/// To keep a shorter string costs more than to copy it.
constexpr std::size_t keep_string_from = 256;

}  // namespace detail

/// How a pool is made: the fields of sendq_pool_config_t, which are 0, that is default, until set.
struct pool_config : sendq_pool_config_t {
    pool_config() noexcept : sendq_pool_config_t() { size = sizeof(sendq_pool_config_t); }

    /// The pool's queues read the time from Clock, such as std::chrono::steady_clock.
    template <class Clock>
    void set_clock() noexcept {
        static_assert(noexcept(Clock::now()), "it is called by C, and must be noexcept");
        now = [](void*) noexcept { return detail::to_ns(Clock::now()); };
        now_arg = nullptr;
    }

    /// The same from an object that is called as clock(), and gives a duration or a time_point: for
    /// tests and simulations. It is kept by reference, and must outlive the pool and its queues. It
    /// must be noexcept, and thread-safe if they are.
    template <class F>
    void set_clock(F& clock) noexcept {
        static_assert(std::is_nothrow_invocable_v<F&>, "it is called by C, and must be noexcept");
        now = [](void* arg) noexcept { return detail::to_ns((*static_cast<F*>(arg))()); };
        now_arg = const_cast<void*>(static_cast<const volatile void*>(std::addressof(clock)));
    }
};

/// How a queue is made: the fields of sendq_config_t, which are 0, that is default, until set.
struct queue_config : sendq_config_t {
    queue_config() noexcept : sendq_config_t() { size = sizeof(sendq_config_t); }
};

/// Memory and a byte budget that many queues share. Its queues keep it alive, the handle need not.
class pool : public detail::handle<sendq_pool_t, sendq_pool_free> {
  public:
    using handle::handle;

    /// sendq_pool_new.
    static expected<pool> create(const pool_config& config = {}) noexcept {
        sendq_pool_t* made = nullptr;
        const result r(sendq_pool_new(&config, &made));
        return {r, pool(made)};
    }

    /// sendq_pool_stats: the figures now. All 0 for an empty handle.
    sendq_pool_stats_t stats() const noexcept {
        sendq_pool_stats_t figures = {};
        sendq_pool_stats(get(), &figures, sizeof figures);
        return figures;
    }

    /// sendq_pool_heaviest: fills up to count entries of out with the queues that hold the most,
    /// the heaviest first, and returns how many were; 0 also if there is no memory to sort them in.
    /// They stay with their owners: sendq_user says whose each is.
    std::size_t heaviest(sendq_t** out, std::size_t count) const noexcept {
        const int found = sendq_pool_heaviest(get(), out, count);
        return found < 0 ? 0 : static_cast<std::size_t>(found);
    }
    template <std::size_t Count>
    std::size_t heaviest(sendq_t* (&out)[Count]) const noexcept {
        return heaviest(out, Count);
    }
};

/// One payload that many queues send. A copy is one hold more, as with std::shared_ptr: whoever has
/// one may keep it, pass it to another thread, and forget about it. Copying costs an atomic
/// increment; moving costs nothing.
class buffer {
  public:
    buffer() noexcept = default;
    /// Takes a hold of sendq.h over, on a payload of that size.
    buffer(sendq_buf_t* owned, std::size_t size) noexcept : owned_(owned), size_(size) {}
    buffer(const buffer& other) noexcept
        : owned_(sendq_buf_ref(other.owned_)), size_(other.size_) {}
    buffer(buffer&& other) noexcept { swap(other); }
    buffer& operator=(buffer other) noexcept {
        swap(other);
        return *this;
    }
    ~buffer() { sendq_buf_unref(owned_); }

    /// Copies view. sendq_buf_copy, with no pool: buffers may outlive them all.
    static expected<buffer> copy(std::string_view view) noexcept {
        sendq_buf_t* made = nullptr;
        const result r(sendq_buf_copy(nullptr, view.data(), view.size(), &made));
        return {r, buffer(made, view.size())};
    }

    /// Does not copy view, which must stay as it is forever.
    static expected<buffer> immortal(std::string_view view) noexcept {
        sendq_buf_t* made = nullptr;
        const result r(sendq_buf_wrap(nullptr, view.data(), view.size(), nullptr, nullptr, &made));
        return {r, buffer(made, view.size())};
    }

    /// Does not copy view: it stays as it is as long as owner lives, and owner lives in the buffer.
    /// If that fails, the caller still has it. See queue::append_owned.
    template <class Owner>
    static expected<buffer> own(Owner&& owner, std::string_view view) noexcept {
        sendq_buf_t* made = nullptr;
        const auto wrap = [&made](std::string_view kept, sendq_release_fn fn, void* arg) {
            return sendq_buf_wrap(nullptr, kept.data(), kept.size(), fn, arg, &made);
        };
        const result r(detail::lend_owned(std::forward<Owner>(owner), view, wrap));
        return {r, buffer(made, view.size())};
    }

    /// The same with a string that owns all of the payload.
    static expected<buffer> own(std::string&& text) noexcept {
        const std::string_view view = text;
        return own(std::move(text), view);
    }

    /// It is not empty.
    explicit operator bool() const noexcept { return owned_ != nullptr; }
    /// Bytes of the payload.
    std::size_t size() const noexcept { return size_; }
    /// For calls of sendq.h. The hold stays this object's.
    sendq_buf_t* get() const noexcept { return owned_; }
    /// Gives the hold up, to whoever calls sendq_buf_unref. This object is empty then.
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

/// Memory of the queue to write a message into: queue::reserve. It ends with commit; if it is
/// destroyed before, nothing was said. The queue must outlive it.
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

    /// There is memory to write to.
    explicit operator bool() const noexcept { return q_ != nullptr; }
    /// Why reserve gave none.
    std::error_code error() const noexcept { return made_.error(); }
    /// The memory: size() bytes, until commit. nullptr if there is none.
    char* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

    /// sendq_commit: the first used bytes wait from now on. EINVAL: used is more than size(); the
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
    friend class queue;
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

/// Holds back what is appended: queue::cork. It ends with uncork or rollback; if it is destroyed
/// before, it rolls back, and a SENDQ_RESUME that gives is lost: a host that pauses its producers
/// calls rollback. The queue must outlive it, and a reservation made under it must not.
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

    /// The queue is corked.
    explicit operator bool() const noexcept { return q_ != nullptr; }
    /// Why cork failed.
    std::error_code error() const noexcept { return made_.error(); }

    /// sendq_uncork: lets go what was held back. EBUSY: memory is reserved; it stays corked. If
    /// cork failed, its error.
    result uncork() noexcept { return end(sendq_uncork); }
    /// sendq_rollback: takes back what was held back. Errors as for uncork.
    result rollback() noexcept { return end(sendq_rollback); }

  private:
    friend class queue;
    explicit cork_scope(sendq_t* q) noexcept : q_(q), made_(sendq_cork(q)) {
        if (!made_) {
            q_ = nullptr;
        }
    }

    result end(int (*how)(sendq_t*)) noexcept {
        if (!made_) {
            return made_;
        }
        // Before the call, in which a callback may destroy this object. When busy, none runs.
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

/// One connection's output: what waits, in order. Destroying it discards what waits; to send that
/// first: close, and flush until nothing waits.
class queue : public detail::handle<sendq_t, sendq_free> {
  public:
    using handle::handle;

    /// sendq_new, with the process's own pool.
    static expected<queue> create(const queue_config& config = {}) noexcept {
        return make(nullptr, config);
    }
    /// sendq_new. EINVAL also for an empty pool.
    static expected<queue> create(const pool& from, const queue_config& config = {}) noexcept {
        return from ? make(from.get(), config) : expected<queue>(result(-EINVAL), queue());
    }

    // Append: hints, errors and all or nothing as for sendq_append.

    /// Copies view.
    result append(std::string_view view) noexcept { return append(view.data(), view.size()); }
    /// Copies len bytes.
    result append(const void* data, std::size_t len) noexcept {
        return result(sendq_append(get(), data, len));
    }

    /// Takes an rvalue std::string, and keeps it until it is sent: one allocation. If it is shorter
    /// than copy_below, or than 256 bytes, it is copied; the latter without the allocation. As
    /// after any move, text may be used on, and what is in it is not said.
    template <class String, std::enable_if_t<std::is_same_v<String, std::string>, int> = 0>
    result append(String&& text) noexcept {
        if (text.size() < detail::keep_string_from) {
            return append(std::string_view(text));
        }
        const std::string_view view = text;
        return append_owned(std::move(text), view);  // NOLINT(bugprone-move-forwarding-reference)
    }

    /// Shares all of buf. sendq_append_buf.
    result append(const buffer& buf) noexcept { return append(buf, 0, buf.size()); }
    /// Shares len bytes of buf, from offset on.
    result append(const buffer& buf, std::size_t offset, std::size_t len) noexcept {
        return result(sendq_append_buf(get(), buf.get(), offset, len));
    }

    /// Copies the pieces as one append: all or none. `q.appendv({header, body})`. More than 64
    /// pieces cost an allocation while it lasts.
    result appendv(std::initializer_list<std::string_view> pieces) noexcept {
        return appendv(pieces.begin(), pieces.size());
    }
    /// The same of an array, vector or span of anything that is a std::string_view or becomes one.
    template <class Pieces, class = decltype(std::data(std::declval<const Pieces&>()))>
    result appendv(const Pieces& pieces) noexcept {
        return appendv(std::data(pieces), std::size(pieces));
    }
    template <class Piece>
    result appendv(const Piece* pieces, std::size_t count) noexcept {
        constexpr std::size_t at_hand = 64;
        iovec few[at_hand];
        if (count <= at_hand) {
            return appendv(few, fill(few, pieces, count));
        }
        if (count > INT_MAX) {
            return result(-EINVAL);
        }
        const std::unique_ptr<iovec[]> many(new (std::nothrow) iovec[count]);
        return many ? appendv(many.get(), fill(many.get(), pieces, count)) : result(-ENOMEM);
    }
    /// sendq_appendv.
    result appendv(const iovec* iov, std::size_t count) noexcept {
        return count > INT_MAX ? result(-EINVAL)
                               : result(sendq_appendv(get(), iov, static_cast<int>(count)));
    }

    /// Borrows view, and keeps owner until the bytes are sent or dropped: view stays as it is as
    /// long as owner lives. Fewer than copy_below bytes are copied, and owner is destroyed at once.
    ///
    /// Any owner that moves without throwing will do. A std::unique_ptr costs no allocation, unless
    /// its deleter has state; any other owner costs one. The bytes may be inside of owner itself,
    /// as those of a std::array or a short std::string are.
    ///
    /// EINVAL also for an empty view. ENOMEM also for want of memory to keep owner in. On any
    /// failure owner is what it was before the call.
    template <class Owner>
    result append_owned(Owner&& owner, std::string_view view) noexcept {
        return result(
            detail::lend_owned(std::forward<Owner>(owner), view, detail::borrow_into{get()}));
    }
    /// The same with one reference more.
    template <class T>
    result append_owned(const std::shared_ptr<T>& owner, std::string_view view) noexcept {
        return append_owned(std::shared_ptr<T>(owner), view);
    }
    template <class T>
    result append_owned(std::shared_ptr<T>& owner, std::string_view view) noexcept {
        return append_owned(std::shared_ptr<T>(owner), view);
    }

    /// Borrows view, which must stay as it is until told(std::error_code) is called, once: with
    /// zero when the bytes have left or were copied; std::errc::operation_canceled: the host
    /// discarded them; another: the connection has failed with it. Then told is destroyed.
    ///
    /// told must be noexcept. It costs no allocation if it is trivially copyable and no larger than
    /// a pointer, such as a function or a lambda that captures `this`, and else one. EINVAL also
    /// for an empty view. On any failure told is not called, and is what it was before the call.
    template <class F>
    result append_ref(std::string_view view, F&& told) noexcept {
        return result(detail::lend_told(std::forward<F>(told), view, detail::borrow_into{get()}));
    }
    /// Borrows view, which is immortal, or of which the host knows by other means (notify).
    result append_ref(std::string_view view) noexcept {
        return result(sendq_append_ref(get(), view.data(), view.size(), nullptr, nullptr));
    }

    /// sendq_append_file, with told as for append_ref: a callable that owns the file closes it.
    template <class F>
    result append_file(int fd, std::uint64_t offset, std::uint64_t len, F&& told) noexcept {
        const auto append = [this, fd, offset, len](auto, sendq_release_fn fn, void* arg) {
            return sendq_append_file(get(), fd, offset, len, fn, arg);
        };
        return result(detail::lend_told(std::forward<F>(told), {}, append));
    }
    /// The same of a file that stays open, or of which the host knows by other means (notify).
    result append_file(int fd, std::uint64_t offset, std::uint64_t len) noexcept {
        return result(sendq_append_file(get(), fd, offset, len, nullptr, nullptr));
    }

    /// Calls told once all that waits now has left, at once if nothing waits. As for append_ref.
    template <class F>
    result notify(F&& told) noexcept {
        const auto append = [this](auto, sendq_release_fn fn, void* arg) {
            return sendq_notify(get(), fn, arg);
        };
        return result(detail::lend_told(std::forward<F>(told), {}, append));
    }

    /// sendq_reserve: memory to write len bytes into. Look whether there is: `if (!memory)`.
    reservation reserve(std::size_t len) noexcept { return {get(), len}; }

    /// sendq_cork: holds back what is appended as long as the scope lasts, which then takes it back
    /// unless it was uncorked. Look whether it holds: `if (!scope)`.
    cork_scope cork() noexcept { return cork_scope(get()); }

    /// sendq_splice: moves all that waits in from behind what waits here.
    result splice(queue& from) noexcept { return result(sendq_splice(get(), from.get())); }

    /// sendq_flush: hands what waits to the socket fd. max_bytes 0: no budget.
    result flush(sendq_fd_t fd, std::size_t max_bytes = 0) noexcept {
        return result(sendq_flush(get(), fd, max_bytes));
    }

    /// sendq_flush_with: hands what waits to write, which is called as write(std::string_view)
    /// until this returns, and gives what a sendq_write_fn does: how many bytes it took; -EAGAIN;
    /// SENDQ_WRITE_WANT_READ; another -errno. It must be noexcept.
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
    /// The same by a function of C, such as sendq_ssl_write.
    result flush_with(sendq_write_fn write, void* arg, std::size_t max_bytes = 0) noexcept {
        return result(sendq_flush_with(get(), write, arg, max_bytes));
    }

    /// sendq_sendmsg, in place of sendmsg(2), with the result of that: the bytes of msg, all of
    /// which were taken, or -1 with errno.
    ssize_t sendmsg(sendq_fd_t fd, const msghdr& msg, int flags = 0) noexcept {
        return sendq_sendmsg(get(), fd, &msg, flags);
    }
    /// sendq_verify: the old path sent the first bytes of iov. EILSEQ, which is
    /// std::errc::illegal_byte_sequence: not what waits here; *mismatch_at says where in the
    /// stream.
    result verify(const iovec* iov, std::size_t count, std::size_t bytes,
                  std::uint64_t* mismatch_at = nullptr) noexcept {
        return count > INT_MAX
                   ? result(-EINVAL)
                   : result(sendq_verify(get(), iov, static_cast<int>(count), bytes, mismatch_at));
    }
    /// The same of bytes that the old path sent with send(2).
    result verify(std::string_view sent, std::uint64_t* mismatch_at = nullptr) noexcept {
        const iovec piece = {const_cast<char*>(sent.data()), sent.size()};
        return verify(&piece, 1, sent.size(), mismatch_at);
    }

    /// sendq_peek: fills up to count entries of iov with what waits, and returns how many were.
    std::size_t peek(iovec* iov, std::size_t count) const noexcept {
        const int filled =
            sendq_peek(get(), iov, count < INT_MAX ? static_cast<int>(count) : INT_MAX);
        return filled < 0 ? 0 : static_cast<std::size_t>(filled);
    }
    template <std::size_t Count>
    std::size_t peek(iovec (&iov)[Count]) const noexcept {
        return peek(iov, Count);
    }
    /// sendq_consume: the host has sent the first bytes by its own means.
    result consume(std::size_t bytes) noexcept { return result(sendq_consume(get(), bytes)); }

    /// sendq_close: no more appends; what waits is still flushed.
    result close() noexcept { return result(sendq_close(get())); }
    /// sendq_close_within: close, and give up what has not left by then: ETIMEDOUT. A negative time
    /// is over at once, as 0 is.
    result close_within(std::chrono::nanoseconds timeout) noexcept {
        return result(sendq_close_within(get(), detail::to_ns(timeout)));
    }
    /// sendq_discard: drops what waits now.
    result discard() noexcept { return result(sendq_discard(get())); }

    /// Bytes that wait now.
    std::uint64_t queued_bytes() const noexcept { return sendq_queued_bytes(get()); }
    /// Bytes that have left, ever. Only grows.
    std::uint64_t sent_bytes() const noexcept { return sendq_sent_bytes(get()); }
    /// What ended the connection, or zero.
    std::error_code error() const noexcept { return result(sendq_error(get())).error(); }
    /// sendq_set_watermarks: 0 for the defaults.
    result set_watermarks(std::uint64_t low, std::uint64_t high, std::uint64_t max) noexcept {
        return result(sendq_set_watermarks(get(), low, high, max));
    }
    /// sendq_set_rate: no faster than that, and no more than burst at once. 0: as fast as the
    /// socket.
    result set_rate(std::uint64_t bytes_per_second, std::uint64_t burst = 0) noexcept {
        return result(sendq_set_rate(get(), bytes_per_second, burst));
    }
    /// sendq_set_min_rate: slower than that over a window counts as stalled. 0: nothing does.
    /// EINVAL also for a window that is not positive.
    result set_min_rate(std::uint64_t bytes_per_second, std::chrono::nanoseconds window) noexcept {
        return result(sendq_set_min_rate(get(), bytes_per_second, detail::to_ns(window)));
    }
    /// sendq_stalled_ns: for how long none of what waits has left. 0: it moves, or none waits.
    std::chrono::nanoseconds stalled() const noexcept {
        return detail::from_ns(sendq_stalled_ns(get()));
    }
    /// sendq_retry_after_ns: when a flush does something though the socket stays full. 0: at once,
    /// or there is nothing to wait for.
    std::chrono::nanoseconds retry_after() const noexcept {
        return detail::from_ns(sendq_retry_after_ns(get()));
    }

    /// sendq_stats: the figures now. All 0 for an empty handle.
    sendq_stats_t stats() const noexcept {
        sendq_stats_t figures = {};
        sendq_stats(get(), &figures, sizeof figures);
        return figures;
    }
    /// sendq_stats_json: the same as text, with what the kernel tells of the socket fd, if there is
    /// one. Costs the allocation of the string, which throws when it fails. Empty for an empty
    /// handle.
    std::string stats_json(sendq_fd_t fd = static_cast<sendq_fd_t>(-1)) const {
        char text[1024];
        const std::size_t len = stats_json(text, sizeof text, fd);
        if (len < sizeof text) {
            return {text, len};
        }
        // The figures may have grown when they are asked for again.
        std::string longer(len + sizeof text, '\0');
        longer.resize((std::min)(stats_json(&longer[0], longer.size(), fd), longer.size() - 1));
        return longer;
    }
    /// The same into memory of the caller's, without an allocation: like snprintf, returns how long
    /// the whole is. 0 for an empty handle.
    std::size_t stats_json(char* out, std::size_t size,
                           sendq_fd_t fd = static_cast<sendq_fd_t>(-1)) const noexcept {
        const int len = sendq_stats_json(get(), fd, out, size);
        return len < 0 ? 0 : static_cast<std::size_t>(len);
    }

    /// The user pointer of the config, as what the host knows it to be.
    template <class User = void>
    User* user() const noexcept {
        return static_cast<User*>(sendq_user(get()));
    }

  private:
    static expected<queue> make(sendq_pool_t* from, const queue_config& config) noexcept {
        sendq_t* made = nullptr;
        const result r(sendq_new(from, &config, &made));
        return {r, queue(made)};
    }

    template <class Piece>
    static std::size_t fill(iovec* iov, const Piece* pieces, std::size_t count) noexcept {
        for (std::size_t i = 0; i < count; i++) {
            const std::string_view piece = pieces[i];
            iov[i].iov_base = const_cast<char*>(piece.data());
            iov[i].iov_len = piece.size();
        }
        return count;
    }
};

/// How much a record matters, the most first.
enum class log_level : int {
    error = SENDQ_LOG_ERROR,
    warn = SENDQ_LOG_WARN,
    info = SENDQ_LOG_INFO,
    debug = SENDQ_LOG_DEBUG,
    trace = SENDQ_LOG_TRACE,
};

/// sendq_set_logger: log is called as log(log_level, sendq_t*, std::string_view) from now on, with
/// what matters as much as max_level or more. It must be noexcept. It is kept by reference, and
/// must live until another has taken its place and no call on another thread is under way.
/// EALREADY: the records go elsewhere.
template <class F>
result set_logger(F& log, log_level max_level = log_level::info) noexcept {
    static_assert(std::is_nothrow_invocable_v<F&, log_level, sendq_t*, std::string_view>,
                  "it is called by C, and must be noexcept");
    const auto call = [](void* arg, int level, sendq_t* q, const char* message) noexcept {
        (*static_cast<F*>(arg))(static_cast<log_level>(level), q, std::string_view(message));
    };
    return result(sendq_set_logger(
        call, const_cast<void*>(static_cast<const volatile void*>(std::addressof(log))),
        static_cast<int>(max_level)));
}

/// Nothing is logged from now on.
inline result reset_logger() noexcept {
    return result(sendq_set_logger(nullptr, nullptr, 0));
}

}  // namespace sendq

#undef SENDQ_HPP_THROWS

#endif  // SENDQ_SENDQ_HPP
