#include "input.h"

#include <algorithm>
#include <cerrno>

namespace mcbpd {

using mcbp::Header;

namespace {

// An emptied buffer larger than this is given back.
constexpr size_t kKeptBytes = 4096;

}  // namespace

Input::Read Input::read(Transport& transport, Batch& batch) {
    ssize_t got = 0;
    do {
        got = transport.read(batch.data(), batch.size());
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        fresh_ = {batch.data(), static_cast<size_t>(got)};
        return Read::bytes;
    }
    if (got == 0) {
        return Read::end;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? Read::nothing : Read::failed;
}

std::optional<Header> Input::next_header() {
    release();
    skip();
    if (!held().empty()) {
        complete_held();
    }
    const std::string_view run = held().empty() ? fresh_ : held();
    if (run.size() < mcbp::kHeaderBytes) {
        return std::nullopt;
    }
    return Header::load(run.data());
}

Input::Cut Input::next(Request& request) {
    release();
    skip();
    if (held().empty()) {
        return cut(fresh_, request);
    }
    return complete_held() ? cut(held(), request) : Cut::need_more;
}

void Input::keep() {
    release();
    held_.insert(held_.end(), fresh_.begin(), fresh_.end());
    fresh_ = {};
    skip();
}

bool Input::has_request() const {
    return !held().empty() && held().size() >= wanted(held());
}

std::string_view Input::held() const {
    return {held_.data() + held_used_, held_.size() - held_used_};
}

Input::Cut Input::judge(const Header& header) const {
    if (header.magic != mcbp::Magic::request) {
        return Cut::bad_magic;
    }
    const size_t before_value = size_t{header.extras_bytes} + header.key_bytes;
    if (header.body_bytes < before_value) {
        return Cut::malformed;
    }
    return header.body_bytes - before_value > max_value_ ? Cut::too_large : Cut::request;
}

// How many bytes the run must have for its first request to be cut.
size_t Input::wanted(std::string_view run) const {
    if (run.size() < mcbp::kHeaderBytes) {
        return mcbp::kHeaderBytes;
    }
    const Header header = Header::load(run.data());
    const bool has_body = judge(header) == Cut::request;
    return mcbp::kHeaderBytes + (has_body ? header.body_bytes : 0);
}

void Input::skip() {
    while (skip_ > 0 && !(held().empty() && fresh_.empty())) {
        const size_t run = held().empty() ? fresh_.size() : held().size();
        const size_t part = std::min(skip_, uint64_t{run});
        consume(part);
        skip_ -= part;
    }
}

// Tops the held bytes up with fresh ones until they hold one request, and no further: what follows
// is cut where it lies.
bool Input::complete_held() {
    size_t want = wanted(held());
    while (held().size() < want && !fresh_.empty()) {
        held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(held_used_));
        held_used_ = 0;
        held_.reserve(want);
        const std::string_view part = fresh_.substr(0, want - held_.size());
        held_.insert(held_.end(), part.begin(), part.end());
        fresh_.remove_prefix(part.size());
        want = wanted(held());
    }
    return held().size() >= want;
}

Input::Cut Input::cut(std::string_view run, Request& request) {
    const size_t whole = wanted(run);
    if (run.size() < whole) {
        return Cut::need_more;
    }
    consume(whole);
    const Header header = Header::load(run.data());
    request = {header.opcode, header.opaque, header.cas, {}, {}, {}};
    const Cut verdict = judge(header);
    if (verdict != Cut::request) {
        skip_ = header.body_bytes;
        return verdict;
    }
    run.remove_prefix(mcbp::kHeaderBytes);
    request.extras = run.substr(0, header.extras_bytes);
    request.key = run.substr(header.extras_bytes, header.key_bytes);
    run = run.substr(0, header.body_bytes);
    request.value = run.substr(request.extras.size() + request.key.size());
    return verdict;
}

void Input::consume(size_t bytes) {
    if (held().empty()) {
        fresh_.remove_prefix(bytes);
    } else {
        held_used_ += bytes;
    }
}

void Input::release() {
    if (!held().empty() || held_.empty()) {
        return;
    }
    held_.clear();
    held_used_ = 0;
    if (held_.capacity() > kKeptBytes) {
        held_ = {};
    }
}

}  // namespace mcbpd
