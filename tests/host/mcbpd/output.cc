#include "output.h"

#include <array>

namespace mcbpd {
namespace {

struct Named {
    std::string_view name;
    std::unique_ptr<OutputPath> (*make)(const Limits&);
};

constexpr std::array kPaths = {
    Named{"sendmsg", make_sendmsg_path},
    Named{"bufferevent", make_bufferevent_path},
    Named{"sendq-copy", make_sendq_copy_path},
    Named{"sendq-ref", make_sendq_ref_path},
};

}  // namespace

OutputPaths::OutputPaths(const Limits& limits) {
    for (const Named& path : kPaths) {
        paths_.push_back(path.make(limits));
    }
}

OutputPath* OutputPaths::find(std::string_view name) const {
    for (size_t i = 0; i < kPaths.size(); ++i) {
        if (kPaths[i].name == name) {
            return paths_[i].get();
        }
    }
    return nullptr;
}

std::vector<std::string_view> OutputPaths::names() {
    std::vector<std::string_view> names;
    names.reserve(kPaths.size());
    for (const Named& path : kPaths) {
        names.push_back(path.name);
    }
    return names;
}

}  // namespace mcbpd
