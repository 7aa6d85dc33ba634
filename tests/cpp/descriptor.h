#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>
#include <utility>

// The owner of a descriptor, as many hosts have one: here of a temporary file with that text.
class Descriptor {
  public:
    explicit Descriptor(std::string_view text) {
        FILE* file = tmpfile();
        EXPECT_EQ(fwrite(text.data(), 1, text.size(), file), text.size());
        EXPECT_EQ(fflush(file), 0);
        fd_ = dup(fileno(file));
        fclose(file);
    }
    Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
    Descriptor& operator=(Descriptor&&) = delete;
    ~Descriptor() { reset(-1); }

    int get() const { return fd_; }
    int release() noexcept { return std::exchange(fd_, -1); }
    void reset(int fd) noexcept {
        if (fd_ >= 0) {
            close(fd_);
        }
        fd_ = fd;
    }

    static bool isOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

  private:
    int fd_;
};
