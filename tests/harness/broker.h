/* SPDX-License-Identifier: MIT */
/*
 * The real daemon for a test: a process of its own, under another uid than the worker
 * where the test runs as root, in a folder under /tmp that both can reach.
 */
#ifndef TESTS_BROKER_H
#define TESTS_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "client/jitclient.h"

/* Of nobody on the machine; used only when the tests run as root. */
#define BROKER_UID 64901u
#define WORKER_UID 64902u
#define OTHER_WORKER_UID 64903u

struct broker {
    pid_t pid; /* 0: not running */
    uid_t uid;
    char folder[64];
    char program[128];
    char socket[108];
    char log[128];
    char config[128];
};

/* Its folder, with all that it needs but its process. broker_stop() removes it. */
void broker_prepare(struct broker *broker, uid_t uid, const char *config);
/*
 * Starts it and waits until it accepts connections; `config` is the text of its
 * configuration, or NULL. As root it runs as `uid`. Fails the test, saying why, if it can't.
 */
void broker_start_as(struct broker *broker, uid_t uid, const char *config);
/* The same as BROKER_UID. */
void broker_start(struct broker *broker, const char *config);

/* SIGTERM; fails the test unless it ends with status 0 (a leak found by a sanitizer is another). */
void broker_stop(struct broker *broker);
/* SIGKILL, as a crash. The folder stays until broker_stop(). */
void broker_kill(struct broker *broker);

/* Options that lead to it. */
jitc_options broker_options(const struct broker *broker);
/* Connects, or fails the test. */
jitc_client *broker_connect(const struct broker *broker, const jitc_options *options);
/* A connected socket that has said nothing yet, or fails the test. */
int broker_socket(const struct broker *broker);

/* How often `text` stands in its log so far. */
unsigned broker_log_count(const struct broker *broker, const char *text);
/* Its open descriptors, and the bytes of shared memory in its memfds; -1 where /proc does not tell. */
long broker_fds(const struct broker *broker);
/* What /proc says of its memory under that name, as VmRSS. */
long broker_memory_bytes(const struct broker *broker, const char *name);
long broker_shared_bytes(const struct broker *broker);

/* To where other users can read and run it, as they may not where it was built. Fails the test if it can't.
 */
void broker_copy_program(const char *from, const char *to);

/* True when this process can take other uids. */
bool are_we_root(void);
/* As root: gives them up for that uid, for good. Otherwise does nothing. */
void become(uid_t uid);

/* Ends the test as passed, with a line that says that it was skipped and why. */
void skip(const char *why) __attribute__((noreturn));

#endif
