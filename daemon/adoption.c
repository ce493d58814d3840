/* SPDX-License-Identifier: MIT */
#include "daemon/adoption.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/log.h"
#include "daemon/memfd.h"

/* What there can be of one name: of a session 2, of an owner 3, of an executor 1. */
#define PARTS_MAX 3u

/* All that came under one name. */
struct bundle {
    const char *name;
    int fds[PARTS_MAX];
    unsigned count;
    bool has_too_many;
};

/* A session, until its connections have it. */
struct found {
    struct session *session;
    struct policy *policy;
    struct account *account;
};

/* ---- Descriptors ------------------------------------------------------------------------- */

static bool is_of(const char *name, const char *kind)
{
    return strncmp(name, kind, strlen(kind)) == 0;
}

bool adoption_is_for(const char *name)
{
    return is_of(name, "session-") || is_of(name, "owner-") || is_of(name, "executor-");
}

static int compare(const void *a, const void *b)
{
    const struct stored *left = a;
    const struct stored *right = b;

    return strcmp(left->name, right->name);
}

/* The bundle that begins at stored[*at]; *at is the next one's. */
static struct bundle take_bundle(const struct stored *stored, unsigned count, unsigned *at)
{
    struct bundle bundle = {.name = stored[*at].name};

    for (; *at < count && strcmp(stored[*at].name, bundle.name) == 0; ++*at) {
        bundle.has_too_many = bundle.has_too_many || bundle.count == PARTS_MAX;
        if (bundle.has_too_many)
            (void)close(stored[*at].fd);
        else
            bundle.fds[bundle.count++] = stored[*at].fd;
    }
    return bundle;
}

/* Takes the first one out that is such; -1: there is none. */
static int steal(struct bundle *bundle, bool (*is_such)(int fd))
{
    for (unsigned i = 0; i < bundle->count; i++) {
        int fd = bundle->fds[i];

        if (is_such(fd)) {
            bundle->fds[i] = bundle->fds[--bundle->count];
            return fd;
        }
    }
    return -1;
}

static bool is_any(int fd)
{
    (void)fd;
    return true;
}

static bool is_socket(int fd)
{
    return sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0) > 0;
}

static bool is_memory(int fd)
{
    return memfd_inode(fd) != 0;
}

static bool is_ledger(int fd)
{
    char magic[sizeof LEDGER_MAGIC - 1];

    return is_memory(fd) && pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
           memcmp(magic, LEDGER_MAGIC, sizeof magic) == 0;
}

/* What is left of it is nobody's. */
static void drop(struct server *server, struct bundle *bundle, const char *reason)
{
    log_line(LOG_WARNING, "not adopted: %s: %s", bundle->name, reason);
    while (bundle->count > 0)
        (void)close(bundle->fds[--bundle->count]);
    store_remove(&server->store, bundle->name);
}

/* The number behind the kind, or the second one; 0: there is none. */
static uint64_t number_of(const char *name, unsigned which)
{
    const char *at = name;
    uint64_t number;
    char *end;

    for (unsigned i = 0; at != NULL && i <= which; i++) {
        at = strchr(at, '-');
        if (at != NULL)
            at++;
    }
    if (at == NULL || *at < '1' || *at > '9')
        return 0;
    errno = 0;
    number = strtoull(at, &end, 10);
    return errno == 0 && (*end == '\0' || *end == '-') ? number : 0;
}

/* ---- Sessions ------------------------------------------------------------------------------ */

/* What the session was granted, as the only class of a policy of its own. */
static struct policy *policy_of(const struct server *server, const struct ledger_page *page)
{
    const struct ledger_grants *grants = &page->grants;
    struct policy *policy = policy_new();
    struct class *class = policy == NULL ? NULL : policy_add(policy, grants->class);

    if (class == NULL)
        return policy_unref(policy);
    policy->hello_timeout_ms = server->policy->hello_timeout_ms;
    policy->reply_timeout_ms = server->policy->reply_timeout_ms;
    class->write_through = true;
    class->write_direct = page->kind == ARENA_DIRECT;
    class->write_once = grants->write_once != 0;
    class->arena_bytes = page->arena_bytes;
    class->arena_max_bytes = page->arena_bytes;
    class->bytes_max = grants->bytes_max;
    class->session_max = grants->session_max;
    class->span_max = grants->span_max;
    class->executor_max = grants->executor_max;
    class->orphans_run = grants->orphans_run != 0;
    class->ring = page->ring_inode != 0;
    class->huge_pages = (page->features & FEATURE_LARGE_PAGES) != 0;
    class->rate = grants->rate;
    class->rate_bytes = grants->rate_bytes;
    class->scan = (enum scan_mode)grants->scan;
    class->forbid = grants->forbid;
    class->audit = (enum audit_to)grants->audit;
    return policy;
}

/*
 * A session that has a trail keeps one: in the file if the policy still has one, else in the journal. False:
 * there is none to be had.
 */
static bool keep_audit(struct server *server, struct class *class)
{
    const char *file = server->policy->audit_file[0] != '\0' ? server->policy->audit_file : NULL;

    if (class->audit == AUDIT_OFF)
        return true;
    if (class->audit == AUDIT_FILE && file == NULL)
        class->audit = AUDIT_JOURNAL;
    if (server->audit == NULL)
        server->audit =
            audit_new(&server->loop, class->audit == AUDIT_FILE ? file : NULL, AUDIT_JOURNAL_SOCKET);
    else if (class->audit == AUDIT_FILE)
        return audit_reopen(server->audit, file);
    return server->audit != NULL;
}

static void found_deinit(struct server *server, struct found *found)
{
    found->session = session_unref(found->session);
    found->account = account_unref(&server->quota, found->account);
    found->policy = policy_unref(found->policy);
}

static bool adopt_session(struct server *server, struct bundle *bundle, struct found *found)
{
    struct ledger ledger;
    int ledger_fd = steal(bundle, is_ledger);
    int arena_fd = steal(bundle, is_memory);
    const char *flaw =
        bundle->count > 0 || bundle->has_too_many || arena_fd < 0 ? "it has not its parts" : NULL;

    *found = (struct found){.session = NULL};
    ledger.fd = -1;
    if (flaw == NULL)
        flaw = ledger_fd < 0 ? "it has no ledger" : ledger_adopt(&ledger, ledger_fd);
    if (flaw == NULL) {
        uint64_t id = ledger.page->session;

        ledger_fd = -1;
        found->policy = policy_of(server, ledger.page);
        found->account = quota_account(&server->quota, ledger.page->uid);
        if (id != number_of(bundle->name, 0))
            flaw = "its ledger is another's";
        else if (found->policy == NULL || found->account == NULL)
            flaw = "there is no memory for it";
        else if (!keep_audit(server, found->policy->classes[0]))
            flaw = "its audit trail can't be kept";
        if (flaw == NULL) {
            found->session =
                session_adopt(&ledger, arena_fd, found->policy->classes[0], found->account, &flaw);
            arena_fd = -1;
        }
        ledger_deinit(&ledger);
    }
    if (arena_fd >= 0)
        (void)close(arena_fd);
    if (ledger_fd >= 0)
        (void)close(ledger_fd);
    if (flaw == NULL)
        return true;
    drop(server, bundle, flaw);
    found_deinit(server, found);
    return false;
}

/* ---- Connections ----------------------------------------------------------------------------- */

static struct found *find(struct found *found, unsigned count, uint64_t id)
{
    for (unsigned i = 0; i < count; i++) {
        if (found[i].session->id == id)
            return &found[i];
    }
    return NULL;
}

static struct connection *allocate(struct server *server, int fd, const struct found *found, bool is_executor)
{
    struct connection *connection = calloc(1, sizeof *connection);
    const struct ledger_page *page = found->session->ledger.page;

    if (connection == NULL)
        return NULL;
    connection->server = server;
    connection->fd = fd;
    connection->is_executor = is_executor;
    connection->has_hello = true;
    connection->policy = policy_ref(found->policy);
    connection->class = found->policy->classes[0];
    if (peer_init(&connection->peer, fd, 0) != 0 && !is_executor)
        return connection_discard(connection);
    if (is_executor) /* both sides of its socket were the daemon's */
        connection->peer = (struct peer){.uid = page->uid};
    memcpy(connection->peer.unit, page->unit, sizeof page->unit);
    if (connection->peer.uid != page->uid || !admission_restore(connection))
        return connection_discard(connection);
    return connection;
}

/* It goes on; what it was doing, first of all. */
static const char *begin(struct connection *connection, const struct found *found, struct bundle *bundle)
{
    bool has_ring = !connection->is_executor && found->session->ledger.page->ring_inode != 0;
    const char *flaw = NULL;

    (void)fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    connection->session = session_ref(found->session);
    if (has_ring) {
        int memory = steal(bundle, is_memory);
        int bell = steal(bundle, is_any);

        flaw = plane_adopt(&connection->plane, connection, memory, bell);
    }
    if (flaw == NULL && bundle->count > 0)
        flaw = "it has more parts than it should";
    if (flaw == NULL && connection_start(connection) != 0)
        flaw = "its socket can't be watched";
    if (flaw != NULL) {
        connection->session = session_unref(connection->session);
        return flaw;
    }
    if (has_ring)
        connection->handles++;
    return NULL;
}

static void adopt_connection(struct server *server, struct bundle *bundle, const struct found *found)
{
    bool is_executor = is_of(bundle->name, "executor-");
    int fd = steal(bundle, is_socket);
    struct connection *connection;
    const char *flaw;

    if (fd < 0 || found == NULL || bundle->has_too_many) {
        drop(server, bundle, fd < 0 ? "it has no socket" : "its session is not there");
        if (fd < 0)
            return;
        connection_say_goodbye(fd, STATUS_STOPPING, "the session did not survive a restart of the daemon");
        (void)close(fd);
        return;
    }
    connection = allocate(server, fd, found, is_executor);
    flaw = connection == NULL ? "its socket is another user's, or there is no memory" : NULL;
    if (flaw == NULL)
        flaw = begin(connection, found, bundle);
    if (flaw != NULL) {
        (void)close(fd);
        if (connection != NULL)
            (void)connection_discard(connection);
        drop(server, bundle, flaw);
        return;
    }
    if (is_executor) {
        connection->number = number_of(bundle->name, 1);
        if (connection->number > server->executors_started)
            server->executors_started = connection->number;
    } else {
        connection_start_audit(connection);
    }
    connection_resume(connection);
}

/* ---- All ---------------------------------------------------------------------------------------- */

/* Nobody has it: its owner was gone already, or could not be adopted. */
static void end_orphan(struct server *server, struct found *found)
{
    char name[STORE_NAME_MAX_BYTES + 1];

    if (found->session->refs == 1) {
        session_store_name(found->session, name);
        log_line(LOG_NOTICE, "session %" PRIu64 " ended: nobody is there who had it", found->session->id);
        found->session->ledger.page->state = LEDGER_ENDED;
        arena_revoke(&found->session->arena);
        store_remove(&server->store, name);
    }
    found_deinit(server, found);
}

unsigned adoption_run(struct server *server, struct stored *stored, unsigned count, uint64_t *arena_bytes)
{
    struct found *found = calloc(count, sizeof *found);
    unsigned sessions = 0;
    unsigned frozen = 0;

    if (found == NULL) {
        for (unsigned i = 0; i < count; i++)
            (void)close(stored[i].fd);
        return 0;
    }
    qsort(stored, count, sizeof *stored, compare);
    /* Sessions first: their name is sorted last. */
    for (unsigned at = 0; at < count;) {
        if (!is_of(stored[at].name, "session-")) {
            at++;
            continue;
        }
        struct bundle bundle = take_bundle(stored, count, &at);

        if (!adopt_session(server, &bundle, &found[sessions]))
            continue;
        if (found[sessions].session->id > server->sessions_started)
            server->sessions_started = found[sessions].session->id;
        *arena_bytes += found[sessions].session->shape.arena_bytes;
        frozen += found[sessions].session->is_frozen;
        sessions++;
    }
    for (unsigned at = 0; at < count;) {
        if (is_of(stored[at].name, "session-")) {
            at++;
            continue;
        }
        struct bundle bundle = take_bundle(stored, count, &at);

        adopt_connection(server, &bundle, find(found, sessions, number_of(bundle.name, 0)));
    }
    for (unsigned i = 0; i < sessions; i++)
        end_orphan(server, &found[i]);
    free(found);
    if (count > 0)
        log_line(LOG_NOTICE,
                 "adopted: %u sessions, %u of them sealed and not to be written any more; %u connections",
                 sessions, frozen, (unsigned)server->connections_count);
    return sessions;
}
