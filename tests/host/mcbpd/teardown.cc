#include "teardown.h"

#include <iterator>
#include <new>

#include "front_end.h"

namespace mcbpd {
Teardowns::Teardowns(EventLoop& loop, Store& store,
                     const std::vector<std::unique_ptr<FrontEnd>>& front_ends, Timeout timeout)
    : loop_(loop),
      store_(store),
      front_ends_(front_ends),
      timeout_(to_timeval(timeout)),
      mailbox_(loop) {}

TeardownPtr Teardowns::begin() {
    auto teardown = std::make_shared<Teardown>();
    mailbox_.post([this, teardown] { start(teardown); });
    return teardown;
}

void Teardowns::on_deadline(int /*fd*/, short /*what*/, void* running) {
    auto* self = static_cast<Running*>(running);
    self->all.drop_holders(*self);
}

void Teardowns::start(const TeardownPtr& teardown) {
    Running& running = running_.emplace_back(Running{*this, teardown, {}, false, 0, {}});
    running.place = std::prev(running_.end());
    running.deadline.reset(evtimer_new(loop_.base(), on_deadline, &running));
    if (!running.deadline || event_add(running.deadline.get(), &timeout_) != 0) {
        throw std::bad_alloc();
    }
    const BucketPtr bucket = store_.detach();
    teardown->bucket = bucket;
    teardown->items_in_transit = static_cast<size_t>(bucket.use_count()) - 1;
    bucket->at_end([this, &running] {
        mailbox_.post([this, &running] {
            running.bucket_ended = true;
            end_if_over(running);
        });
    });
}

void Teardowns::drop_holders(Running& running) {
    running.asked = front_ends_.size();
    for (const auto& front_end : front_ends_) {
        front_end->drop_holders(running.teardown, [this, &running](size_t dropped) {
            mailbox_.post([this, &running, dropped] {
                --running.asked;
                running.teardown->connections_dropped += dropped;
                end_if_over(running);
            });
        });
    }
}

// Whichever comes last sees it: the end of the bucket, or what the last front-end has to say.
void Teardowns::end_if_over(const Running& running) {
    if (running.asked > 0 || !running.bucket_ended) {
        return;
    }
    for (const auto& front_end : front_ends_) {
        front_end->answer(running.teardown);
    }
    running_.erase(running.place);
}

}  // namespace mcbpd
