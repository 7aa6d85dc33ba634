// The accounts of an output path that has a list of its own and a queue behind it or beside it.
#pragma once

#include <sendq/sendq.hpp>
#include <string_view>

#include "accounts.h"

namespace mcbpd {

class SendqAccounts : public Accounts {
  public:
    SendqAccounts(std::string_view path, const Limits& limits)
        : Accounts(path, limits), pool_(sendq::pool::create().or_throw()) {}

    sendq::queue open_queue() const {
        sendq::queue_config config;
        config.low = limits().low;
        config.high = limits().high;
        return sendq::queue::create(pool_, config).or_throw();
    }

  private:
    const sendq::pool pool_;
};

}  // namespace mcbpd
