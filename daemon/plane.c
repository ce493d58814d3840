/* SPDX-License-Identifier: MIT */
#include "daemon/plane.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/connection.h"
#include "daemon/memfd.h"
#include "daemon/poller.h"
#include "daemon/server.h"
#include "proto/prefetch.h"

/*
 * What one plane is served in one go, so that the others are not kept waiting: entries, or bytes that were
 * moved for them. Of one that moves many, as the release of a large span does, it is a step.
 */
#define BATCH_ENTRIES 32u
#define BATCH_BYTES (UINT64_C(128) << 10)
/* An entry that moves as much is told at once, so that its staging can be used again meanwhile. */
#define TELL_BYTES 4096u
/* Entries that may be done without being told, and how long. */
#define UNTOLD_MAX 64u
#define UNTOLD_NS 1000u

struct batch {
    bool is_due;  /* somebody waits for one of its entries, perhaps */
    bool is_long; /* one of its entries takes its time, without moving anything */
};

static int map_ring(struct plane *plane)
{
    void *memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, plane->memory_fd, 0);

    if (memory == MAP_FAILED)
        return -errno;
    (void)madvise(memory, RING_BYTES, MADV_DONTDUMP);
    plane->memory = memory;
    ring_attach(&plane->ring, memory);
    return 0;
}

static int make_ring(struct plane *plane)
{
    int fd = memfd_new("jitbroker-ring");

    if (fd < 0)
        return fd;
    plane->memory_fd = fd;
    if (ftruncate(fd, RING_BYTES) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return -errno;
    return map_ring(plane);
}

static void release_all(struct plane *plane)
{
    if (plane->memory != NULL)
        (void)munmap(plane->memory, RING_BYTES);
    if (plane->memory_fd >= 0)
        (void)close(plane->memory_fd);
    if (plane->bell >= 0)
        (void)close(plane->bell);
    plane->memory = NULL;
    plane->memory_fd = -1;
    plane->bell = -1;
}

/*
 * Makes it silent. By RWF_NOWAIT: whether the descriptor blocks is a matter of the open file, which is the
 * client's as well, and it may have emptied it since we were told that it rang. 0 or -errno.
 */
static int silence_bell(const struct plane *plane)
{
    uint64_t rings;
    struct iovec into = {&rings, sizeof rings};

    return preadv2(plane->bell, &into, 1, -1, RWF_NOWAIT) < 0 && errno != EAGAIN ? -errno : 0;
}

static int make_bell(struct plane *plane)
{
    plane->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (plane->bell < 0)
        return -errno;
    return silence_bell(plane); /* where the kernel can't do it (before 5.8), there is no ring */
}

static void on_bell(uv_poll_t *handle, int status, int events);

int plane_init(struct plane *plane, struct connection *connection)
{
    int error;

    *plane = (struct plane){.connection = connection, .memory_fd = -1, .bell = -1};
    error = make_ring(plane);
    if (error == 0)
        error = make_bell(plane);
    if (error == 0)
        error = uv_poll_init(&connection->server->loop, &plane->poll, plane->bell);
    if (error != 0) {
        release_all(plane);
        return error;
    }
    plane->poll.data = plane;
    (void)uv_poll_start(&plane->poll, UV_READABLE, on_bell);
    connection->session->ledger.page->ring_inode = memfd_inode(plane->memory_fd);
    (void)ring_sleep(&plane->ring, 0); /* nobody else has it yet */
    return 0;
}

bool plane_is_there(const struct plane *plane)
{
    return plane->memory != NULL;
}

/* Tells the client how far we are. */
static void tell(struct plane *plane)
{
    plane->told = plane->head;
    if (!ring_complete(&plane->ring, plane->head, plane->refused))
        return;
    ring_wake(&plane->ring);
}

static bool is_eventfd(int fd)
{
    char path[32];
    char target[32] = "";

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return readlink(path, target, sizeof target - 1) > 0 && strcmp(target, "anon_inode:[eventfd]") == 0;
}

static const char *check_ring(const struct plane *plane)
{
    const int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
    int seals = fcntl(plane->memory_fd, F_GET_SEALS);
    struct stat status;

    if (seals < 0 || (seals & wanted) != wanted || fstat(plane->memory_fd, &status) != 0 ||
        status.st_size != RING_BYTES)
        return "its ring is not of this format";
    if (memfd_inode(plane->memory_fd) != plane->connection->session->ledger.page->ring_inode)
        return "its ring is another's";
    return is_eventfd(plane->bell) && silence_bell(plane) == 0 ? NULL : "its bell is none";
}

const char *plane_adopt(struct plane *plane, struct connection *connection, int memory_fd, int bell)
{
    const struct ledger_page *page = connection->session->ledger.page;
    const char *flaw;

    *plane = (struct plane){
        .connection = connection,
        .memory_fd = memory_fd,
        .bell = bell,
        .head = page->head,
        .refused = page->refused[page->head & 1],
        .is_paused = true,
    };
    flaw = check_ring(plane);
    if (flaw == NULL &&
        (map_ring(plane) != 0 || uv_poll_init(&connection->server->loop, &plane->poll, plane->bell) != 0))
        flaw = "its ring can't be mapped, or watched";
    if (flaw != NULL) {
        release_all(plane);
        return flaw;
    }
    plane->poll.data = plane;
    (void)uv_poll_start(&plane->poll, UV_READABLE, on_bell);
    tell(plane); /* what was done last had not been told, perhaps */
    return NULL;
}

void plane_end(struct plane *plane, enum plane_end how, uv_close_cb closed)
{
    poller_remove(&plane->connection->server->poller, plane);
    if (how == PLANE_LEAVE)
        tell(plane);
    else
        ring_end(&plane->ring);
    if (how == PLANE_REVOKE)
        (void)madvise((uint8_t *)plane->memory + RING_ENTRIES_AT, RING_BYTES - RING_ENTRIES_AT, MADV_REMOVE);
    uv_close((uv_handle_t *)&plane->poll, closed);
    release_all(plane);
}

/* ---- Awake and asleep ------------------------------------------------------------------- */

static void wake(struct plane *plane)
{
    if (plane->is_paused || plane->next != NULL)
        return;
    ring_stay_awake(&plane->ring);
    poller_add(&plane->connection->server->poller, plane);
}

static void on_bell(uv_poll_t *handle, int status, int events)
{
    struct plane *plane = handle->data;

    (void)status, (void)events;
    (void)silence_bell(plane);
    wake(plane);
}

void plane_rest(struct plane *plane, uint64_t idle_ns, uint64_t spin_ns)
{
    /* On the client's processor it can't run as long as we look. */
    if (ring_client_was_on(&plane->ring, plane->connection->server->poller.cpu))
        spin_ns = 0;
    if (plane->told != plane->head && (idle_ns >= UNTOLD_NS || idle_ns >= spin_ns))
        tell(plane);
    if (idle_ns >= spin_ns && ring_sleep(&plane->ring, plane->head))
        poller_remove(&plane->connection->server->poller, plane);
}

void plane_pause(struct plane *plane)
{
    if (plane->memory == NULL)
        return;
    if (plane->told != plane->head)
        tell(plane);
    plane->is_paused = true;
    poller_remove(&plane->connection->server->poller, plane);
}

void plane_resume(struct plane *plane)
{
    if (!plane->is_paused)
        return;
    plane->is_paused = false;
    wake(plane);
}

/* ---- Serving ------------------------------------------------------------------------------- */

/*
 * Nobody waits for what only gives something back, or takes it: that it is done can be told together with
 * what comes next, or when nothing comes.
 */
static bool is_waited_for(enum operation operation)
{
    return operation != OPERATION_CARVE && operation != OPERATION_RELEASE && operation != OPERATION_SHRINK &&
           operation != OPERATION_RETURN;
}

/* Large arenas are in no cache: what is written last is called for first. */
static void call_for_memory(const struct plane *plane, const struct request *request)
{
    const struct session *session = plane->connection->session;

    if (request->span >= session->shape.arena_bytes)
        return;
    heap_prefetch(&session->heap, request->span);
    if (request->operation == OPERATION_WRITE ||
        (request->operation == OPERATION_RELEASE && !request->filled))
        prefetch_to_write(session->arena.bytes + request->span);
}

enum served { SERVED_WHOLE, SERVED_IN_PART, SERVED_NONSENSE };

/* An entry of which a part was done stays the next one. The client may make another of it meanwhile. */
static enum served serve_entry(struct plane *plane, struct batch *batch)
{
    struct request request;
    struct result result;

    if (!ring_decode(&plane->ring, plane->head, &request))
        return SERVED_NONSENSE;
    call_for_memory(plane, &request);
    if (!connection_run(plane->connection, &request, plane->head, &result))
        return SERVED_IN_PART;
    if (result.status != STATUS_OK)
        plane->refused++;
    if (result.status != STATUS_OK || result.has_span || result.has_usage ||
        request.operation == OPERATION_PATCH)
        ring_answer(&plane->ring, plane->head, &result);
    plane->head++;
    ledger_commit_entry(&plane->connection->session->ledger, plane->refused);
    if (request.operation == OPERATION_WRITE)
        plane->staged = (uint64_t)(request.data + request.data_bytes - plane->ring.staging);
    batch->is_due = batch->is_due || is_waited_for(request.operation);
    batch->is_long =
        batch->is_long || request.operation == OPERATION_STATISTICS || request.operation == OPERATION_RESET;
    return SERVED_WHOLE;
}

static void end(struct plane *plane, const char *what)
{
    char reason[96];

    (void)snprintf(reason, sizeof reason, "ring: entry %" PRIu64 " %s", plane->head, what);
    connection_end(plane->connection, STATUS_MALFORMED, reason);
}

bool plane_serve(struct plane *plane)
{
    uint64_t pending = ring_pending(&plane->ring, plane->head);
    uint64_t end_at = plane->head + (pending < BATCH_ENTRIES ? pending : BATCH_ENTRIES);
    uint64_t began_at = plane->head;
    const uint64_t *moved_bytes = &plane->connection->session->arena.moved_bytes;
    uint64_t began_bytes = *moved_bytes;
    uint64_t told_bytes = began_bytes;
    struct batch batch = {.is_due = false};

    if (pending == 0)
        return false;
    if (pending > RING_ENTRIES) {
        end(plane, "and those after it: tail is not within the ring's length of head");
        return true;
    }
    plane->idle_since_ns = 0;
    ledger_blame(&plane->connection->session->ledger);
    ring_prefetch(&plane->ring, plane->head, plane->staged);
    ring_note_daemon_cpu(&plane->ring, plane->connection->server->poller.cpu);
    while (plane->head < end_at && !batch.is_long && *moved_bytes - began_bytes < BATCH_BYTES) {
        enum served served = serve_entry(plane, &batch);

        if (served == SERVED_NONSENSE) {
            end(plane, "makes no sense");
            return true;
        }
        if (served == SERVED_IN_PART)
            break;
        if (*moved_bytes - told_bytes >= TELL_BYTES) {
            tell(plane);
            told_bytes = *moved_bytes;
        }
    }
    if (batch.is_due || plane->head - plane->told >= UNTOLD_MAX)
        tell(plane);
    plane->connection->server->poller.moved_bytes += *moved_bytes - began_bytes;
    connection_pace(plane->connection, (size_t)(plane->head - began_at));
    connection_absolve(plane->connection);
    return true;
}
