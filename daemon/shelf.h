/* SPDX-License-Identifier: MIT */
/*
 * Descriptors with names that the supervisor keeps while its daemon is not there, as systemd's store does.
 *
 * The one at index i is descriptor SHELF_FIRST + i, always: where a program that is started looks for it
 * (sd_listen_fds(3)), and where the supervisor finds it after its own execve(2). So nothing else may be open
 * from SHELF_FIRST to SHELF_FIRST + max; who keeps a shelf has his own descriptors above.
 * All are close-on-exec but for the moment of an execve. What the names take in the environment is bounded
 * by what the kernel takes.
 */
#ifndef DAEMON_SHELF_H
#define DAEMON_SHELF_H

#include <stdbool.h>
#include <stddef.h>

#define SHELF_FIRST 3
#define SHELF_NAME_BYTES 64u
/* Names that begin so are the supervisor's own: the listening sockets. */
#define SHELF_OWN_PREFIX "jitbroker"

struct shelf {
    unsigned count;
    unsigned max;
    size_t names_bytes; /* with one more for each, as in $LISTEN_FDNAMES */
    char (*names)[SHELF_NAME_BYTES];
};

/*
 * Takes what stands in $LISTEN_FDS, if it is for this process, and clears the variable; room for `max`, or
 * for what was taken. 0 or -errno: -EBADMSG for names that are none, of more than fits.
 */
int shelf_init(struct shelf *shelf, unsigned max);
/* Closes all. */
void shelf_deinit(struct shelf *shelf);

/* True for 1 to SHELF_NAME_BYTES - 1 of A-Z a-z 0-9 . _ - */
bool shelf_is_name(const char *name);
/* True if one of that name is there. */
bool shelf_has(const struct shelf *shelf, const char *name);

/*
 * Takes these over, ascending and close-on-exec, as the kernel just gave them out. False, and they stay the
 * caller's, where there is no room for all.
 */
bool shelf_put(struct shelf *shelf, const char *name, const int *fds, unsigned count);
/* Closes all of that name. */
void shelf_remove(struct shelf *shelf, const char *name);

/* For the program that this process starts next; 0 or -errno. Undone by shelf_hold(), where it could not. */
int shelf_hand_over(const struct shelf *shelf);
void shelf_hold(const struct shelf *shelf);

#endif
