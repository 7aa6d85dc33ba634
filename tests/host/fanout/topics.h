/* Who gets what: the topics, and the clients that have subscribed to them. */
#pragma once

#include <sys/queue.h>

struct client;

LIST_HEAD(subscription_list, subscription);

/* That one client has subscribed to one topic. */
struct subscription {
    struct client* client;
    struct topic* topic;
    LIST_ENTRY(subscription) of_client;
    LIST_ENTRY(subscription) of_topic;
};

/* Exists as long as somebody has subscribed to it. */
struct topic {
    LIST_ENTRY(topic) in_bucket;
    struct subscription_list subscriptions;
    char name[];
};

enum { TOPIC_BUCKETS = 4096 };

struct topics {
    LIST_HEAD(, topic) buckets[TOPIC_BUCKETS];
};

/* NULL: nobody has subscribed to it. */
struct topic* topics_find(struct topics* topics, const char* name);
/* Subscribing twice is subscribing once. -ENOMEM; -EMFILE: the client has too many subscriptions.
 */
int topics_subscribe(struct topics* topics, struct client* client, const char* name);
/* Ends all subscriptions of a client. */
void topics_unsubscribe(struct client* client);
