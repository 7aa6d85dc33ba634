// The memcached binary protocol: the numbers, and integers in network order.
#pragma once

#include <endian.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mcbp {

enum class Magic : uint8_t { request = 0x80, response = 0x81 };

enum class Opcode : uint8_t {
    get = 0x00,
    set = 0x01,
    add = 0x02,
    replace = 0x03,
    del = 0x04,
    increment = 0x05,
    decrement = 0x06,
    quit = 0x07,
    flush = 0x08,
    getq = 0x09,
    noop = 0x0a,
    version = 0x0b,
    getk = 0x0c,
    getkq = 0x0d,
    append = 0x0e,
    prepend = 0x0f,
    stat = 0x10,
    setq = 0x11,
    addq = 0x12,
    replaceq = 0x13,
    delq = 0x14,
    incrementq = 0x15,
    decrementq = 0x16,
    quitq = 0x17,
    flushq = 0x18,
    appendq = 0x19,
    prependq = 0x1a,
    verbosity = 0x1b,
    touch = 0x1c,
    gat = 0x1d,
    gatq = 0x1e,
    gatk = 0x23,
    gatkq = 0x24,
    // Not memcached's: moves this connection to the output path that the key names.
    output = 0xf0,
    // Nor this: ends all that is stored, and is answered when none of it is being sent any more.
    delete_bucket = 0xf1,
    // Nor this: says that the client has dealt with what it got. It is never answered, and run even
    // while what the client has asked for before waits to be sent.
    ack = 0xf2,
    // Nor this: moves the server's clock so many seconds on, where its options let tests do that.
    jump = 0xf3,
    // The connection gets what is published from now on.
    subscribe = 0xf4,
    // Its value goes to all that have subscribed.
    publish = 0xf5,
    // What they get, without having asked.
    push = 0xf6,
};

enum class Status : uint16_t {
    ok = 0x00,
    not_found = 0x01,
    exists = 0x02,
    too_large = 0x03,
    invalid = 0x04,
    not_stored = 0x05,
    not_a_number = 0x06,
    unknown_command = 0x81,
    out_of_memory = 0x82,
};

constexpr size_t kHeaderBytes = 24;
constexpr size_t kMaxKeyBytes = 250;
// The exptime of increment and decrement that means: fail if there is no such item.
constexpr uint32_t kDoNotCreate = 0xffffffff;

inline uint16_t load16(const char* from) {
    uint16_t value = 0;
    std::memcpy(&value, from, sizeof value);
    return be16toh(value);
}

inline uint32_t load32(const char* from) {
    uint32_t value = 0;
    std::memcpy(&value, from, sizeof value);
    return be32toh(value);
}

inline uint64_t load64(const char* from) {
    uint64_t value = 0;
    std::memcpy(&value, from, sizeof value);
    return be64toh(value);
}

inline void store16(char* to, uint16_t value) {
    value = htobe16(value);
    std::memcpy(to, &value, sizeof value);
}

inline void store32(char* to, uint32_t value) {
    value = htobe32(value);
    std::memcpy(to, &value, sizeof value);
}

inline void store64(char* to, uint64_t value) {
    value = htobe64(value);
    std::memcpy(to, &value, sizeof value);
}

// The same for requests and responses, but for the 16 bits that are reserved in one and the status
// in the other.
struct Header {
    Magic magic = Magic::request;
    Opcode opcode = Opcode::noop;
    uint16_t key_bytes = 0;
    uint8_t extras_bytes = 0;
    Status status = Status::ok;
    uint32_t body_bytes = 0;
    uint32_t opaque = 0;
    uint64_t cas = 0;

    static Header load(const char* from) {
        Header header;
        header.magic = static_cast<Magic>(from[0]);
        header.opcode = static_cast<Opcode>(from[1]);
        header.key_bytes = load16(from + 2);
        header.extras_bytes = static_cast<uint8_t>(from[4]);
        header.status = static_cast<Status>(load16(from + 6));
        header.body_bytes = load32(from + 8);
        header.opaque = load32(from + 12);
        header.cas = load64(from + 16);
        return header;
    }

    void store(char* to) const {
        to[0] = static_cast<char>(magic);
        to[1] = static_cast<char>(opcode);
        store16(to + 2, key_bytes);
        to[4] = static_cast<char>(extras_bytes);
        to[5] = 0;  // data type: raw
        store16(to + 6, static_cast<uint16_t>(status));
        store32(to + 8, body_bytes);
        store32(to + 12, opaque);
        store64(to + 16, cas);
    }
};

}  // namespace mcbp
