#include "output.h"

#include <array>
#include <cerrno>

namespace mcbpd {
namespace {

struct Named {
    std::string_view name;
    std::unique_ptr<OutputPath> (*make)(const Limits&);
    bool does_tls;
};

constexpr std::array kPaths = {
    Named{"sendmsg", make_sendmsg_path, true},
    Named{"shadow", make_shadow_path, true},
    Named{"sendq-sendmsg", make_sendq_sendmsg_path, false},
    Named{"bufferevent", make_bufferevent_path, true},
    Named{"sendq-libevent", make_sendq_libevent_path, true},
    Named{"sendq-copy", make_sendq_copy_path, true},
    Named{"sendq-ref", make_sendq_ref_path, true},
    Named{"sendq-message", make_sendq_message_path, true},
};

bool does(const Named& path, Wire wire) {
    return wire == Wire::plain || path.does_tls;
}

}  // namespace

Flushed Output::close(Transport& transport) {
    if (transport.end() == 0) {
        return {};
    }
    return {errno == EAGAIN ? Flushed::State::blocked : Flushed::State::failed, errno};
}

OutputPaths::OutputPaths(const Limits& limits, Wire wire) : may_change_(limits.zerocopy == 0) {
    for (const Named& path : kPaths) {
        if (does(path, wire)) {
            paths_.emplace_back(path.name, path.make(limits));
        }
    }
}

OutputPath* OutputPaths::find(std::string_view name) const {
    for (const auto& [known, path] : paths_) {
        if (known == name) {
            return path.get();
        }
    }
    return nullptr;
}

void OutputPaths::end_turn() const {
    for (const auto& [name, path] : paths_) {
        path->end_turn();
    }
}

std::vector<std::string_view> OutputPaths::names(Wire wire) {
    std::vector<std::string_view> names;
    names.reserve(kPaths.size());
    for (const Named& path : kPaths) {
        if (does(path, wire)) {
            names.push_back(path.name);
        }
    }
    return names;
}

}  // namespace mcbpd
