#include "topics.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

enum { MAX_SUBSCRIPTIONS = 1000 };

static size_t bucket_of(const char* name) {
    uint32_t hash = 2166136261; /* FNV-1a */
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * 16777619;
    }
    return hash % TOPIC_BUCKETS;
}

struct topic* topics_find(struct topics* topics, const char* name) {
    struct topic* topic;
    LIST_FOREACH(topic, &topics->buckets[bucket_of(name)], in_bucket) {
        if (strcmp(topic->name, name) == 0) {
            return topic;
        }
    }
    return NULL;
}

static struct topic* add_topic(struct topics* topics, const char* name) {
    const size_t size = strlen(name) + 1;
    struct topic* topic = malloc(sizeof *topic + size);
    if (topic != NULL) {
        LIST_INIT(&topic->subscriptions);
        memcpy(topic->name, name, size);
        LIST_INSERT_HEAD(&topics->buckets[bucket_of(name)], topic, in_bucket);
    }
    return topic;
}

static void remove_if_unused(struct topic* topic) {
    if (LIST_EMPTY(&topic->subscriptions)) {
        LIST_REMOVE(topic, in_bucket);
        free(topic);
    }
}

int topics_subscribe(struct topics* topics, struct client* client, const char* name) {
    struct subscription* subscription;
    int count = 0;
    LIST_FOREACH(subscription, &client->subscriptions, of_client) {
        if (strcmp(subscription->topic->name, name) == 0) {
            return 0;
        }
        count++;
    }
    if (count == MAX_SUBSCRIPTIONS) {
        return -EMFILE;
    }
    struct topic* topic = topics_find(topics, name);
    if (topic == NULL && (topic = add_topic(topics, name)) == NULL) {
        return -ENOMEM;
    }
    subscription = malloc(sizeof *subscription);
    if (subscription == NULL) {
        remove_if_unused(topic);
        return -ENOMEM;
    }
    *subscription = (struct subscription){.client = client, .topic = topic};
    LIST_INSERT_HEAD(&topic->subscriptions, subscription, of_topic);
    LIST_INSERT_HEAD(&client->subscriptions, subscription, of_client);
    return 0;
}

void topics_unsubscribe(struct client* client) {
    struct subscription* subscription;
    while ((subscription = LIST_FIRST(&client->subscriptions)) != NULL) {
        LIST_REMOVE(subscription, of_client);
        LIST_REMOVE(subscription, of_topic);
        remove_if_unused(subscription->topic);
        free(subscription);
    }
}
