// What the items that are stored together share.
#pragma once

#include <functional>
#include <memory>
#include <utility>

namespace mcbpd {

// Each of its items holds a share of it, so it lives as long as one of them does: in the store, or
// on the way to a client. How many they are is therefore the use count.
class Bucket {
  public:
    Bucket() = default;
    Bucket(const Bucket&) = delete;
    Bucket& operator=(const Bucket&) = delete;
    ~Bucket() {
        if (on_end_) {
            on_end_();
        }
    }

    // Called by the thread that gives up the last item. To be set while no other thread may set it.
    void at_end(std::function<void()> call) { on_end_ = std::move(call); }

  private:
    std::function<void()> on_end_;
};

using BucketPtr = std::shared_ptr<Bucket>;

}  // namespace mcbpd
