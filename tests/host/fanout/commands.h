/* The protocol; main.c describes it. */
#pragma once

#include <stddef.h>

struct client;

/* Runs the first command of input. Returns its length, or 0 if its end is missing. */
size_t command_run(struct client* client, const char* input, size_t len);
