/* SPDX-License-Identifier: MIT */
#include "preload/keeper.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "preload/arena.h"
#include "preload/settings.h"
#include "preload/system.h"
#include "preload/window.h"

static struct chunk *chunks;

static int take(struct keeper_desk *desk)
{
    struct chunk *chunk = &chunks[desk->window];
    int error;

    if (chunk_exists(chunk))
        return 0;
    error = arena_take(chunk);
    if (error == 0)
        atomic_store(&desk->places[desk->window], arena_place(chunk) + 1);
    return error;
}

static int answer(struct keeper_desk *desk)
{
    int error;

    if (desk->window >= desk->windows)
        return -EINVAL;
    if (desk->operation == KEEPER_TAKE)
        return take(desk);
    if (!chunk_exists(&chunks[desk->window]) || desk->bytes > KEEPER_STAGING_BYTES ||
        desk->offset > WINDOW_BYTES - desk->bytes)
        return -EINVAL;
    error = arena_write(&chunks[desk->window], desk->offset, desk->staging, desk->bytes);
    return error != 0 ? error : arena_flush();
}

static void greet(int socket)
{
    struct keeper_greeting greeting = {.error = arena_begin()};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec part = {&greeting, sizeof greeting};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    int end = -1;

    if (greeting.error == 0)
        greeting.error = arena_open_executor(&end);
    if (greeting.error == 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof end), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &end, sizeof end);
    }
    (void)sendmsg(socket, &message, MSG_NOSIGNAL);
    if (end >= 0)
        (void)system_call(SYS_close, end, 0, 0, 0, 0, 0);
}

/* Nothing of the program's is kept open, but where its messages go. */
static void close_all_but(int socket)
{
    (void)system_call(SYS_close_range, 0, 1, 0, 0, 0, 0);
    if (socket > STDERR_FILENO + 1)
        (void)system_call(SYS_close_range, STDERR_FILENO + 1, socket - 1, 0, 0, 0, 0);
    (void)system_call(SYS_close_range, socket + 1, INT_MAX, 0, 0, 0, 0);
}

_Noreturn void keeper_run(int socket, struct keeper_desk *desk)
{
    long memory = system_mmap(0, desk->windows * sizeof *chunks, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t byte;

    (void)prctl(PR_SET_NAME, "jitbroker-keep", 0, 0, 0);
    close_all_but(socket);
    settings.stderr_fd = STDERR_FILENO;
    chunks = (struct chunk *)memory;
    if (!system_failed(memory))
        greet(socket);
    while (!system_failed(memory) && recv(socket, &byte, sizeof byte, 0) > 0) {
        uint32_t asked = atomic_load(&desk->asked);

        if (asked == atomic_load(&desk->done))
            continue; /* it was dealt with by an earlier record */
        desk->error = answer(desk);
        atomic_store(&desk->done, asked);
        (void)system_call(SYS_futex, (long)&desk->done, FUTEX_WAKE, INT_MAX, 0, 0, 0);
    }
    for (;;)
        (void)system_call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}
