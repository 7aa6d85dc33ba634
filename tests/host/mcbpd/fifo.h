// A queue in one contiguous run of memory, which it keeps for its next use when it is empty.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace mcbpd {

template <class T>
class Fifo {
  public:
    bool empty() const { return head_ == slots_.size(); }
    size_t size() const { return slots_.size() - head_; }
    T& back() { return slots_.back(); }
    T* begin() { return slots_.data() + head_; }
    T* end() { return slots_.data() + slots_.size(); }
    const T* begin() const { return slots_.data() + head_; }
    const T* end() const { return slots_.data() + slots_.size(); }

    void push(T value) {
        if (slots_.size() == slots_.capacity() && head_ > slots_.size() / 2) {
            slots_.erase(slots_.begin(), slots_.begin() + static_cast<std::ptrdiff_t>(head_));
            head_ = 0;
        }
        slots_.push_back(std::move(value));
    }

    void pop(size_t n) {
        for (size_t i = 0; i < n; ++i) {
            slots_[head_++] = T{};
        }
    }

    // Memory for more than `keep` elements is given back.
    void clear(size_t keep) {
        slots_.clear();
        head_ = 0;
        if (slots_.capacity() > keep) {
            slots_ = {};
        }
    }

  private:
    std::vector<T> slots_;
    size_t head_ = 0;
};

}  // namespace mcbpd
