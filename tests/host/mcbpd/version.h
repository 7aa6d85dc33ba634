#pragma once

namespace mcbpd {

constexpr const char* kVersion = "1.0.0";

}  // namespace mcbpd
