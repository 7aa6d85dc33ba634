// Stands in for sendq_schedule and sendq_pool_next.
#pragma once

#include <sendq/sendq.h>

#include <algorithm>
#include <vector>

namespace mcbpd {

inline thread_local std::vector<sendq_t*> ready_queues;

inline int schedule_queue(sendq_t* queue) {
    const int error = sendq_error(queue);
    if (error == 0 && sendq_queued_bytes(queue) > 0) {
        ready_queues.push_back(queue);
    }
    return error;
}

inline void forget_queue(sendq_t* queue) {
    ready_queues.erase(std::remove(ready_queues.begin(), ready_queues.end(), queue),
                       ready_queues.end());
}

inline sendq_t* next_queue() {
    if (ready_queues.empty()) {
        return nullptr;
    }
    sendq_t* queue = ready_queues.back();
    ready_queues.pop_back();
    return queue;
}

}  // namespace mcbpd
