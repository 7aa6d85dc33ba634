// The hand-rolled way: small pieces are copied to a buffer of the connection, values are sent from
// the item, and iovecs list both for sendmsg(2), or what is called in its place.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "accounts.h"
#include "fifo.h"

namespace mcbpd {

class IovecOutput : public AccountedOutput {
  public:
    using AccountedOutput::AccountedOutput;

    void copy(std::string_view bytes) override { add(bytes); }
    void value(ItemPtr item) override { add(std::move(item)); }
    Flushed flush(Transport& transport) override;
    bool holds(const Bucket& bucket) const final;

  protected:
    // As sendmsg(2), of as many pieces as one call takes.
    virtual ssize_t send(Transport& transport, const msghdr& message) = 0;
    // How much of what send() has taken waits in other places.
    virtual size_t taken_unsent() const { return 0; }
    void clear() override { clear_list(); }

    // Whether it was admitted.
    bool add(std::string_view bytes);
    bool add(ItemPtr item);
    bool is_listed() const { return listed_ > 0; }

  private:
    bool is_copied(const iovec& piece) const;
    void relocate(size_t room);
    Flushed send_listed(Transport& transport);
    size_t list(msghdr& message);
    void advance(size_t bytes);
    void clear_list();

    Fifo<iovec> pieces_;
    Fifo<ItemPtr> items_;  // one for each piece that is not copied
    size_t listed_ = 0;    // bytes

    // The copied pieces that are unsent are one run of bytes: [buffer_sent_, buffer_end_).
    std::unique_ptr<char[]> buffer_;
    size_t buffer_sent_ = 0;
    size_t buffer_end_ = 0;
    size_t buffer_capacity_ = 0;
};

}  // namespace mcbpd
