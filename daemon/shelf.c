/* SPDX-License-Identifier: MIT */
#include "daemon/shelf.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

/* Of one string in a program's environment the kernel takes 128 KiB, with its name and the final zero. */
#define NAMES_MAX_BYTES ((128u << 10) - sizeof "LISTEN_FDNAMES=")

bool shelf_is_name(const char *name)
{
    size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    return length > 0 && length < SHELF_NAME_BYTES && name[length] == '\0';
}

/* One more, which is at its place. */
static void append(struct shelf *shelf, const char *name)
{
    size_t length = strlen(name);

    memcpy(shelf->names[shelf->count++], name, length + 1);
    shelf->names_bytes += length + 1;
}

int shelf_init(struct shelf *shelf, unsigned max)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    int error = count < 0 ? count : 0;

    *shelf = (struct shelf){.max = max};
    if (count > 0 && (unsigned)count > max)
        shelf->max = (unsigned)count;
    shelf->names = calloc(shelf->max, sizeof *shelf->names);
    if (shelf->names == NULL && error == 0)
        error = -ENOMEM;
    for (int i = 0; i < count; i++) {
        if (error == 0 && !shelf_is_name(names[i]))
            error = -EBADMSG;
        if (error == 0)
            append(shelf, names[i]);
        free(names[i]);
    }
    free(names);
    return error;
}

void shelf_deinit(struct shelf *shelf)
{
    for (unsigned i = 0; i < shelf->count; i++)
        (void)close(SHELF_FIRST + (int)i);
    free(shelf->names);
    *shelf = (struct shelf){.count = 0};
}

bool shelf_has(const struct shelf *shelf, const char *name)
{
    for (unsigned i = 0; i < shelf->count; i++) {
        if (strcmp(shelf->names[i], name) == 0)
            return true;
    }
    return false;
}

bool shelf_put(struct shelf *shelf, const char *name, const int *fds, unsigned count)
{
    if (count > shelf->max - shelf->count ||
        shelf->names_bytes + count * (strlen(name) + 1) > NAMES_MAX_BYTES)
        return false;
    for (unsigned i = 0; i < count; i++) {
        int place = SHELF_FIRST + (int)shelf->count;

        /* The kernel gives out the lowest that is free, so none of the others is at this place. */
        assert(fds[i] >= place);
        if (fds[i] != place) {
            int moved = dup3(fds[i], place, O_CLOEXEC);

            assert(moved == place);
            (void)moved;
            (void)close(fds[i]);
        }
        append(shelf, name);
    }
    return true;
}

void shelf_remove(struct shelf *shelf, const char *name)
{
    for (unsigned i = shelf->count; i-- > 0;) {
        unsigned last = shelf->count - 1;

        if (strcmp(shelf->names[i], name) != 0)
            continue;
        shelf->names_bytes -= strlen(name) + 1;
        if (i != last) {
            /* Atomically: the one at place i is closed by it. */
            int moved = dup3(SHELF_FIRST + (int)last, SHELF_FIRST + (int)i, O_CLOEXEC);

            assert(moved == SHELF_FIRST + (int)i);
            (void)moved;
            memcpy(shelf->names[i], shelf->names[last], SHELF_NAME_BYTES);
        }
        (void)close(SHELF_FIRST + (int)last);
        shelf->count--;
    }
}

static void set_close_on_exec(const struct shelf *shelf, int flags)
{
    for (unsigned i = 0; i < shelf->count; i++)
        (void)fcntl(SHELF_FIRST + (int)i, F_SETFD, flags);
}

int shelf_hand_over(const struct shelf *shelf)
{
    char *names = malloc(shelf->names_bytes + 1);
    char number[16];
    size_t used = 0;
    int error;

    if (names == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < shelf->count; i++) {
        size_t length = strlen(shelf->names[i]);

        memcpy(names + used, shelf->names[i], length);
        used += length;
        names[used++] = ':';
    }
    names[used > 0 ? used - 1 : 0] = '\0';
    error = setenv("LISTEN_FDNAMES", names, 1);
    free(names);
    (void)snprintf(number, sizeof number, "%u", shelf->count);
    if (error == 0)
        error = setenv("LISTEN_FDS", number, 1);
    (void)snprintf(number, sizeof number, "%d", (int)getpid());
    if (error == 0)
        error = setenv("LISTEN_PID", number, 1);
    if (error != 0)
        return -errno;
    set_close_on_exec(shelf, 0);
    return 0;
}

void shelf_hold(const struct shelf *shelf)
{
    set_close_on_exec(shelf, FD_CLOEXEC);
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
}
