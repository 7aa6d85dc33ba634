#pragma once

#include <gtest/gtest.h>
#include <sendq/sendq.h>

#include <memory>
#include <string_view>

struct Free {
    void operator()(sendq_pool_t* pool) const { sendq_pool_free(pool); }
    void operator()(sendq_t* q) const { sendq_free(q); }
};

using PoolPtr = std::unique_ptr<sendq_pool_t, Free>;
using QueuePtr = std::unique_ptr<sendq_t, Free>;

inline PoolPtr newPool(sendq_pool_config_t config = {}) {
    sendq_pool_t* pool = nullptr;
    config.size = sizeof config;
    EXPECT_EQ(sendq_pool_new(&config, &pool), 0);
    return PoolPtr(pool);
}

inline QueuePtr newQueue(sendq_pool_t* pool, sendq_config_t config = {}) {
    sendq_t* q = nullptr;
    config.size = sizeof config;
    EXPECT_EQ(sendq_new(pool, &config, &q), 0);
    return QueuePtr(q);
}

inline int append(const QueuePtr& q, std::string_view bytes) {
    return sendq_append(q.get(), bytes.data(), bytes.size());
}
