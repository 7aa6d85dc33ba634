#include "control.h"

#include <array>
#include <stdexcept>

#include "checker.h"
#include "request.h"

namespace mcload {

using mcbp::Opcode;

Control::Control(const sockaddr_in& server, bool over_tls, double timeout)
    : socket_(server, over_tls) {
    const timeval limit = {static_cast<time_t>(timeout) + 1, 0};
    setsockopt(socket_.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(socket_.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

uint64_t Control::set(std::string_view value) {
    std::array<char, 8> extras{};
    mcbp::store32(extras.data(), kFlags);
    send_all(encode(Opcode::set, {extras.data(), extras.size()}, kKey, value, 0));
    return receive().header.cas;
}

Stats Control::stats() {
    send_all(encode(Opcode::stat, {}, {}, {}, 0));
    Stats stats;
    for (Response response = receive(); !response.key().empty(); response = receive()) {
        stats.emplace(response.key(), response.value());
    }
    return stats;
}

std::string_view Control::Response::key() const {
    return std::string_view(body).substr(header.extras_bytes, header.key_bytes);
}

std::string_view Control::Response::value() const {
    return std::string_view(body).substr(size_t{header.extras_bytes} + header.key_bytes);
}

void Control::send_all(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = socket_.send(bytes.data(), bytes.size());
        if (sent < 0) {
            fail_errno("control connection: send");
        }
        bytes.remove_prefix(static_cast<size_t>(sent));
    }
}

std::string Control::receive_exactly(size_t bytes) {
    std::string into(bytes, '\0');
    for (size_t got = 0; got < bytes;) {
        const ssize_t part = socket_.receive(into.data() + got, bytes - got);
        if (part <= 0) {
            throw std::runtime_error("control connection: no complete response");
        }
        got += static_cast<size_t>(part);
    }
    return into;
}

Control::Response Control::receive() {
    Response response;
    response.header = mcbp::Header::load(receive_exactly(mcbp::kHeaderBytes).data());
    response.body = receive_exactly(response.header.body_bytes);
    if (response.header.status != mcbp::Status::ok) {
        throw std::runtime_error("control connection: " + response.body);
    }
    return response;
}

}  // namespace mcload
