/* SPDX-License-Identifier: MIT */
#include "preload/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "preload/counters.h"
#include "preload/descriptors.h"
#include "preload/family.h"
#include "preload/settings.h"
#include "preload/system.h"
#include "preload/window.h"

#define GENERATIONS_MAX 64u
#define CLIENT_FDS_MAX 4u
/* Where a child of a child of a child ... has more, it keeps them for good. */
#define ANCESTORS_MAX 16u

/* ---- The session -------------------------------------------------------------------------- */

static uint64_t process = 1; /* counts on in children, so that no two of a family have the same */
static uint64_t forks;
static jitc_client *client; /* NULL: not yet */
static jitc_scope *scope;
static bool has_failed; /* that there is no session was told */

static int fail(const char *what, int status)
{
    if (!has_failed)
        settings_log("%s: %s: %s", what, jitc_strerror(status), jitc_error_detail());
    has_failed = true;
    switch (status) {
    case JITC_E_ARENA_FULL:
    case JITC_E_QUOTA_SPANS:
    case JITC_E_QUOTA_BYTES:
    case JITC_E_QUOTA_SESSIONS:
    case JITC_E_NO_MEMORY:
    case JITC_E_TOO_LARGE:
        return -ENOMEM;
    case JITC_E_TIMEOUT:
        return -EAGAIN;
    default:
        return -EPERM;
    }
}

/* How large the arena is, the policy says. */
static int connect_to_broker(void)
{
    jitc_options options;
    int fd = settings.fd;

    jitc_options_init(&options);
    options.write_mode = JITC_WRITE_THROUGH;
    options.fd_min = DESCRIPTORS_FIRST;
    settings.fd = -1;
    /* The broker closes one on which nothing was said for some seconds. */
    if (fd >= 0 && jitc_adopt(&client, fd, &options) == JITC_OK)
        return JITC_OK;
    return jitc_connect(&client, &options);
}

/* Remembered, since a child may not ask for them. */
static int client_fds[CLIENT_FDS_MAX];
static size_t client_fds_count;

static void keep_descriptors(void)
{
    client_fds_count = 0;
    (void)jitc_descriptors(client, client_fds, CLIENT_FDS_MAX, &client_fds_count);
    if (client_fds_count > CLIENT_FDS_MAX)
        client_fds_count = CLIENT_FDS_MAX;
    for (size_t i = 0; i < client_fds_count; i++)
        descriptors_add(client_fds[i]);
}

int arena_begin(void)
{
    int status;

    if (client != NULL)
        return 0;
    status = connect_to_broker();
    if (status == JITC_OK)
        status = jitc_scope_begin(client, &scope, JITC_WRITE_DEFAULT);
    if (status == JITC_OK) {
        has_failed = false;
        keep_descriptors();
        return 0;
    }
    client = jitc_close(client);
    return fail("no broker", status);
}

/* ---- What others see ------------------------------------------------------------------------ */

/* Forks after which nothing was parked, so that one pipe tells when all those children are gone. */
struct generation {
    uint64_t first; /* the forks, by number */
    uint64_t last;
    int read_fd;
    int write_fd; /* -1: sealed */
};

/* A chunk that is used no more here, and perhaps by a child. */
struct parked {
    struct parked *next;
    struct chunk chunk;
    uint64_t forks; /* as of when it was parked */
};

/* What a child has of the process that forked it: while it has one of its chunks, the session has to last,
 * and that process to know. */
struct ancestor {
    jitc_client *client; /* NULL: it had none */
    int fds[CLIENT_FDS_MAX];
    size_t fds_count;
    int write_fd; /* of its last generation, or -1 */
};

static struct ancestor ancestors[ANCESTORS_MAX];
static unsigned ancestors_count;
static uint64_t held;    /* chunks that are in use here ... */
static uint64_t foreign; /* ... and of those the ancestors' */

static struct generation generations[GENERATIONS_MAX];
static unsigned generations_count;
static bool has_lost_track; /* there was a fork without one */
static struct parked *parked;
static struct parked *unused;

static void close_fd(int fd)
{
    if (fd < 0)
        return;
    descriptors_remove(fd);
    (void)system_call(SYS_close, fd, 0, 0, 0, 0, 0);
}

static struct parked *new_parked(void)
{
    struct parked *node;
    long memory;

    if (unused == NULL) {
        memory = system_mmap(0, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (system_failed(memory))
            return NULL;
        for (size_t i = 0; i < PAGE_BYTES / sizeof *node; i++) {
            node = (struct parked *)memory + i;
            node->next = unused;
            unused = node;
        }
    }
    node = unused;
    unused = node->next;
    return node;
}

static void drop_dead_generations(void)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < generations_count; i++) {
        struct pollfd ends = {.fd = generations[i].read_fd};

        if (generations[i].write_fd < 0 && system_call(SYS_poll, (long)&ends, 1, 0, 0, 0, 0) == 1)
            close_fd(generations[i].read_fd);
        else
            generations[kept++] = generations[i];
    }
    generations_count = kept;
}

/* The children made from now on are another generation. */
static void seal_generation(void)
{
    struct generation *last = &generations[generations_count - 1];

    if (generations_count > 0 && last->write_fd >= 0) {
        close_fd(last->write_fd);
        last->write_fd = -1;
    }
}

/* Whether a child lives that was forked after `since` and at `until`, or in between. */
static bool is_seen(uint64_t since, uint64_t until)
{
    for (unsigned i = 0; i < generations_count; i++) {
        if (generations[i].last > since && generations[i].first <= until)
            return true;
    }
    return has_lost_track;
}

static void release(struct chunk *chunk)
{
    (void)jitc_release(client, chunk->span.rx);
    counters.chunks--;
}

static void release_parked(void)
{
    struct parked **link = &parked;

    if (parked == NULL)
        return;
    drop_dead_generations();
    while (*link != NULL) {
        struct parked *node = *link;

        if (is_seen(node->chunk.forks, node->forks)) {
            link = &node->next;
            continue;
        }
        release(&node->chunk);
        *link = node->next;
        node->next = unused;
        unused = node;
    }
}

/* Without memory to remember it, it is lost until we end. */
static void park(const struct chunk *chunk)
{
    struct parked *node = new_parked();

    seal_generation();
    if (node == NULL)
        return;
    *node = (struct parked){.next = parked, .chunk = *chunk, .forks = forks};
    parked = node;
}

/* ---- Chunks ----------------------------------------------------------------------------------- */

int arena_take(struct chunk *chunk)
{
    const size_t bytes = (WINDOW_PAGES + 1) * PAGE_BYTES;
    int status;
    int error = arena_begin();

    if (error != 0)
        return error;
    release_parked();
    status = jitc_alloc(client, &chunk->span, bytes);
    if (status != JITC_OK)
        return fail("no code memory", status);
    chunk->code = (uint8_t *)(((uintptr_t)chunk->span.rx + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1));
    chunk->process = process;
    chunk->forks = forks;
    held++;
    counters.chunks++;
    if (counters.chunks > counters.chunks_max)
        counters.chunks_max = counters.chunks;
    return 0;
}

uint64_t arena_process(void)
{
    return process;
}

int arena_open_executor(int *end)
{
    int status = jitc_open_executor(client, end);

    return status == JITC_OK ? 0 : fail("no executor's end", status);
}

uint64_t arena_place(const struct chunk *chunk)
{
    jitc_info info = {.struct_size = sizeof info};

    (void)jitc_describe(client, &info);
    return (uint64_t)(chunk->code - (const uint8_t *)info.base);
}

bool arena_is_ours(struct chunk *chunk)
{
    if (chunk->family != NULL)
        return true; /* of all of them */
    if (chunk->process != process)
        return false;
    if (chunk->forks == forks)
        return true;
    seal_generation();
    drop_dead_generations();
    if (is_seen(chunk->forks, forks))
        return false;
    chunk->forks = forks;
    return true;
}

void arena_give_back(struct chunk *chunk)
{
    if (chunk_exists(chunk) && chunk->family == NULL) {
        held--;
        foreign -= chunk->process != process;
    }
    if (chunk_exists(chunk) && chunk->family == NULL && chunk->process == process) {
        if (chunk->forks == forks)
            release(chunk);
        else
            park(chunk);
    }
    *chunk = (struct chunk){.code = NULL};
}

int arena_write(struct chunk *chunk, uint64_t offset, const void *bytes, uint64_t size)
{
    size_t skew = (size_t)(chunk->code - (uint8_t *)chunk->span.rx);
    int status;

    if (chunk->family != NULL)
        return family_write(chunk->family, chunk, offset, bytes, size);
    status = jitc_scope_write(scope, &chunk->span, skew + offset, bytes, size);

    counters.writes++;
    counters.sent_bytes += size;
    return status == JITC_OK ? 0 : fail("code can't be written", status);
}

int arena_flush(void)
{
    uint64_t start = counters_now();
    int status = scope == NULL ? JITC_OK : jitc_scope_flush(scope); /* a family's are there already */

    counters.broker_ns += counters_now() - start;
    return status == JITC_OK ? 0 : fail("code can't be written", status);
}

int arena_map(const struct chunk *chunk, uint64_t offset, uint64_t size, uintptr_t address)
{
    size_t skew = (size_t)(chunk->code - (uint8_t *)chunk->span.rx);
    int status;

    if (chunk->family != NULL)
        return family_map(chunk->family, chunk, offset, size, address);
    status = jitc_map(client, &chunk->span, skew + offset, size, (void *)address, JITC_MAP_PRIVATE);

    return status == JITC_OK ? 0 : fail("code can't be mapped", status);
}

/* ---- Forks -------------------------------------------------------------------------------------- */

void arena_leave_ancestors(void)
{
    if (foreign > 0)
        return;
    while (ancestors_count > 0) {
        const struct ancestor *ancestor = &ancestors[--ancestors_count];

        close_fd(ancestor->write_fd);
        for (size_t i = 0; i < ancestor->fds_count; i++)
            descriptors_remove(ancestor->fds[i]);
        (void)jitc_close(ancestor->client);
    }
}

void arena_before_fork(void)
{
    int ends[2];

    if (counters.chunks == 0 || (generations_count > 0 && generations[generations_count - 1].write_fd >= 0))
        return;
    if (generations_count == GENERATIONS_MAX)
        drop_dead_generations();
    if (generations_count == GENERATIONS_MAX ||
        system_call(SYS_pipe2, (long)ends, O_CLOEXEC, 0, 0, 0, 0) != 0) {
        has_lost_track = true;
        return;
    }
    for (int i = 0; i < 2; i++) {
        descriptors_move_up(&ends[i]);
        descriptors_add(ends[i]);
    }
    generations[generations_count++] =
        (struct generation){.first = forks + 1, .last = forks + 1, .read_fd = ends[0], .write_fd = ends[1]};
}

void arena_after_fork(bool in_child)
{
    if (!in_child) {
        forks++;
        if (generations_count > 0 && generations[generations_count - 1].write_fd >= 0)
            generations[generations_count - 1].last = forks;
        return;
    }
    for (unsigned i = 0; i < generations_count; i++)
        close_fd(generations[i].read_fd);
    if (ancestors_count < ANCESTORS_MAX && (client != NULL || generations_count > 0)) {
        int write_fd = generations_count > 0 ? generations[generations_count - 1].write_fd : -1;

        ancestors[ancestors_count] =
            (struct ancestor){.client = client, .fds_count = client_fds_count, .write_fd = write_fd};
        memcpy(ancestors[ancestors_count++].fds, client_fds, sizeof client_fds);
    }
    client_fds_count = 0;
    foreign = held;
    family_join();
    generations_count = 0;
    has_lost_track = false;
    parked = NULL;
    process++;
    forks = 0;
    client = NULL; /* the parent's, and left alone: its session lasts for as long as we have its socket */
    scope = NULL;
    settings.fd = -1;
    has_failed = false;
    counters = (struct counters){.flips = 0};
}
