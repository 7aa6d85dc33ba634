// A request in its wire form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "../protocol.h"

namespace mcload {

constexpr std::string_view kKey = "mcload";

inline std::string encode(mcbp::Opcode opcode, std::string_view extras, std::string_view key,
                          std::string_view value, uint32_t opaque) {
    mcbp::Header header;
    header.opcode = opcode;
    header.extras_bytes = static_cast<uint8_t>(extras.size());
    header.key_bytes = static_cast<uint16_t>(key.size());
    header.body_bytes = static_cast<uint32_t>(extras.size() + key.size() + value.size());
    header.opaque = opaque;
    std::string packet(mcbp::kHeaderBytes, '\0');
    header.store(packet.data());
    return packet.append(extras).append(key).append(value);
}

}  // namespace mcload
