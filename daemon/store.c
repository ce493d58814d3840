/* SPDX-License-Identifier: MIT */
#include "daemon/store.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/log.h"

#define PACE_NS (UINT64_C(1000000000) / STORE_RATE)

struct store_message {
    struct store_message *next;
    char text[];
};

static int connect_to_manager(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int fd;
    int error;

    if (length < 2 || length >= sizeof address.sun_path)
        return -EINVAL;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&address,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0)
        return fd;
    error = -errno;
    (void)close(fd);
    return error;
}

void store_init(struct store *store, uv_loop_t *loop)
{
    const char *path = getenv("NOTIFY_SOCKET");
    const char *room = getenv("FDSTORE"); /* systemd 254 and up says how much there is */

    *store = (struct store){.socket = -1, .count_max = UINT64_MAX};
    if (room != NULL)
        store->count_max = strtoull(room, NULL, 10);
    if (path == NULL)
        return;
    store->socket = connect_to_manager(path);
    if (store->socket >= 0 && uv_poll_init(loop, &store->poll, store->socket) != 0) {
        (void)close(store->socket);
        store->socket = -ENOMEM;
    }
    store->poll.data = store;
    if (store->socket < 0)
        log_line(LOG_WARNING, "$NOTIFY_SOCKET: %s: sessions end with this process", strerror(-store->socket));
}

int store_say(const struct store *store, const char *text)
{
    return store->socket < 0 ? 0 : record_send(store->socket, false, text, strlen(text), NULL, 0);
}

/* In their order, as far as there is room. */
static void say_what_waits(struct store *store)
{
    while (store->waiting != NULL && store_say(store, store->waiting->text) != -EAGAIN) {
        struct store_message *said = store->waiting;

        store->waiting = said->next;
        free(said);
    }
}

static void on_room(uv_poll_t *poll, int status, int events)
{
    struct store *store = poll->data;

    (void)status, (void)events;
    say_what_waits(store);
    if (store->waiting == NULL)
        (void)uv_poll_stop(poll);
}

void store_tell(struct store *store, const char *text)
{
    struct store_message **end = &store->waiting;
    size_t bytes = strlen(text) + 1;
    struct store_message *message;

    if (store->waiting == NULL && store_say(store, text) != -EAGAIN)
        return;
    message = malloc(sizeof *message + bytes);
    if (message == NULL)
        return; /* the next process does it */
    message->next = NULL;
    memcpy(message->text, text, bytes);
    while (*end != NULL)
        end = &(*end)->next;
    *end = message;
    (void)uv_poll_start(&store->poll, UV_WRITABLE, on_room);
}

void store_deinit(struct store *store)
{
    if (store->socket < 0)
        return;
    uv_close((uv_handle_t *)&store->poll, NULL);
    say_what_waits(store);
    while (store->waiting != NULL) {
        struct store_message *left = store->waiting;

        store->waiting = left->next;
        free(left);
    }
    (void)close(store->socket);
    store->socket = -1;
}

/* The user's; or, where it has none yet, that of who is least ahead, for the user to take over as it is. */
static struct store_pace *find_pace(struct store *store, uid_t uid)
{
    struct store_pace *least = &store->paces[0];

    for (unsigned i = 0; i < STORE_PACES; i++) {
        struct store_pace *pace = &store->paces[i];

        if (pace->uid == uid && pace->due_ns != 0)
            return pace;
        if (pace->due_ns < least->due_ns)
            least = pace;
    }
    return least;
}

static bool has_room(const struct store *store)
{
    struct pollfd manager = {.fd = store->socket, .events = POLLOUT};

    return store->waiting == NULL && poll(&manager, 1, 0) != 0;
}

uint64_t store_wait_ns(struct store *store, uid_t uid, uint64_t now_ns)
{
    uint64_t due_ns = find_pace(store, uid)->due_ns;
    uint64_t allowed_ns = now_ns + (STORE_BURST - 1) * PACE_NS;

    if (!store_is_there(store))
        return 0;
    if (due_ns > allowed_ns)
        return due_ns - allowed_ns;
    return has_room(store) ? 0 : STORE_RETRY_NS;
}

void store_pace(struct store *store, uid_t uid, uint64_t now_ns)
{
    struct store_pace *pace = find_pace(store, uid);

    pace->uid = uid;
    pace->due_ns = (pace->due_ns > now_ns ? pace->due_ns : now_ns) + PACE_NS;
}

static int send_addition(const struct store *store, const char *name, int fd)
{
    char text[STORE_NAME_MAX_BYTES + 48];
    /* FDPOLL=0: that the other end of a socket is closed is ours to find out. */
    int length = snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);

    return record_send(store->socket, false, text, (size_t)length, &fd, 1);
}

static int send_parcel(const struct store *store, const char *name, const int *fds, unsigned count)
{
    int ends[2];
    int error;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return -errno;
    error = record_send(ends[0], false, "", 1, fds, count);
    if (error == 0)
        error = send_addition(store, name, ends[1]);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return error;
}

void store_note(struct store *store, const char *name)
{
    store->names_bytes += strlen(name) + 1;
    store->count++;
}

int store_add(struct store *store, const char *name, const int *fds, unsigned count)
{
    int error;

    if (!store_is_there(store))
        return 0;
    if (store->count >= store->count_max || store->names_bytes + strlen(name) + 1 > STORE_NAMES_MAX_BYTES)
        return -ENOSPC;
    error = count == 1 ? send_addition(store, name, fds[0]) : send_parcel(store, name, fds, count);
    if (error == 0)
        store_note(store, name);
    return error;
}

unsigned store_unpack(int parcel, int fds[RECORD_FDS_MAX])
{
    struct record record = {.fds_count = 0};
    char byte;

    if (record_peek(parcel, &byte, 1, RECORD_FDS_MAX, &record) != RECORD_WHOLE)
        return 0;
    memcpy(fds, record.fds, sizeof record.fds);
    return record.fds_count;
}

void store_remove(struct store *store, const char *name)
{
    char text[STORE_NAME_MAX_BYTES + 32];

    if (!store_is_there(store))
        return;
    store->names_bytes -= strlen(name) + 1;
    store->count--;
    (void)snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%.*s", (int)STORE_NAME_MAX_BYTES, name);
    store_tell(store, text);
}
