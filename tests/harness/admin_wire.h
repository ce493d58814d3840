/* SPDX-License-Identifier: MIT */
/* An operator of any user, record by record. */
#ifndef TESTS_ADMIN_WIRE_H
#define TESTS_ADMIN_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/jitclient.h"
#include "proto/admin.h"
#include "tests/harness/broker.h"

struct admin_daemon {
    struct broker broker;
    char socket[128];
    char groups[128]; /* what it takes for /etc/group */
};

/*
 * Starts the daemon with an admin socket that everybody may connect to, so that what is refused is refused by
 * the daemon. As root it finds a group ADMIN_WIRE_GROUP in its /etc/group; false where that can't be done.
 */
#define ADMIN_WIRE_GROUP 64950u
bool admin_daemon_start(struct admin_daemon *daemon, const char *config);
/* For a fixture: where that can't be done the test is over, and says so. */
void admin_daemon_start_or_skip(struct admin_daemon *daemon, const char *config);
void admin_daemon_stop(struct admin_daemon *daemon);

/* A connection of that user, with this group beside its own (0: without). Not root: of ours. */
int admin_connect_as(const struct admin_daemon *daemon, uid_t uid, gid_t group);
/* The same of the one who may do everything. */
int admin_connect(const struct admin_daemon *daemon);

void admin_send(int fd, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level);
/* The next record, to be freed, or NULL if the connection has ended. */
Admin__Reply *admin_receive(int fd);
/* Asks, and expects one record that is no error; to be freed. */
Admin__Reply *admin_ask(int fd, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level);
/* Asks, and expects an error with that in its text. */
void admin_expect(int fd, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level,
                  Admin__Code code, const char *part);
/* Expects nobody's error, and the end. */
void admin_expect_goodbye(int fd, Admin__Code code, const char *part);
/* Whether a status is answered. */
bool admin_is_served(int fd);

/* As the daemon names them. */
uint64_t admin_session_of(jitc_client *client);
uint64_t admin_offset_of(jitc_client *client, const jitc_span *span);

#endif
