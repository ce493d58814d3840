/* SPDX-License-Identifier: MIT */
#include "daemon/adoption.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/exchange.h"
#include "daemon/log.h"
#include "daemon/memfd.h"

_Static_assert(PARTS <= RECORD_FDS_MAX, "a parcel is one record");

/* A session, until its connections have it. */
struct found {
    uint64_t number;
    struct session *session; /* NULL: it stays in the store, for the next daemon */
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
    return is_of(name, "session-") || is_of(name, "executor-");
}

static bool is_socket(int fd)
{
    return fd >= 0 && sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0) > 0;
}

/* It is nobody's. */
static void drop(struct server *server, const char *name, const char *reason)
{
    log_line(LOG_WARNING, "not adopted: %s: %s", name, reason);
    store_note(&server->store, name);
    store_remove(&server->store, name);
}

/* Nothing is wrong with it: the next daemon may have what this one has not. */
static void keep(struct server *server, const char *name, const char *reason)
{
    log_line(LOG_ERROR, "not adopted now: %s: %s; it stays stored, and is tried again at the next start",
             name, reason);
    store_note(&server->store, name);
}

static int close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

/* The number behind the kind, or an executor's second one; 0: there is none that a daemon gives. */
static uint64_t number_of(const char *name, unsigned which)
{
    char behind = is_of(name, "executor-") && which == 0 ? '-' : '\0';
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
    return errno == 0 && *end == behind && number <= INT64_MAX ? number : 0;
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

/* A session that has a trail keeps one: in the file if there still is one to be had, else in the journal. */
static bool keep_audit(struct server *server, struct class *class)
{
    const struct policy *policy = server->policy;

    if (class->audit == AUDIT_FILE && policy->audit_file[0] != '\0' && !policy->is_broken &&
        server_keep_audit(server, policy, AUDIT_FILE, false))
        return true;
    if (class->audit == AUDIT_FILE)
        class->audit = AUDIT_JOURNAL;
    return server_keep_audit(server, policy, class->audit, false);
}

static void found_deinit(struct server *server, struct found *found)
{
    found->session = session_unref(found->session);
    found->account = account_unref(&server->quota, found->account);
    found->policy = policy_unref(found->policy);
}

/* What the session has, before there is one; NULL, or what is wrong. */
static const char *prepare(struct server *server, const char *name, struct ledger *ledger,
                           struct found *found)
{
    const struct ledger_page *page = ledger->page;
    const char *flaw =
        page->session == number_of(name, 0) ? ledger_begin_adoption(ledger) : "its ledger is another's";

    if (flaw != NULL)
        return flaw;
    found->policy = policy_of(server, page);
    found->account = quota_account(&server->quota, page->uid);
    if (found->policy == NULL || found->account == NULL)
        return memfd_no_memory;
    return keep_audit(server, found->policy->classes[0]) ? NULL : "its audit trail can't be kept";
}

/* Takes ledger and arena out of `fds`. False: it is not there; if it is still stored found->number tells. */
static bool adopt_session(struct server *server, const char *name, int fds[RECORD_FDS_MAX],
                          struct found *found)
{
    struct ledger ledger;
    const char *flaw = ledger_adopt(&ledger, fds[PART_LEDGER]);

    *found = (struct found){.number = number_of(name, 0)};
    if (flaw == NULL) {
        fds[PART_LEDGER] = -1;
        flaw = prepare(server, name, &ledger, found);
        if (flaw == NULL) {
            found->session =
                session_adopt(&ledger, fds[PART_ARENA], found->policy->classes[0], found->account, &flaw);
            fds[PART_ARENA] = -1;
        }
        if (flaw != NULL)
            ledger_end_adoption(&ledger);
        ledger_deinit(&ledger);
    }
    if (flaw == NULL)
        return true;
    found_deinit(server, found);
    if (flaw == memfd_no_memory) {
        keep(server, name, flaw);
    } else {
        drop(server, name, flaw);
        found->number = 0;
    }
    return false;
}

/* ---- Connections ----------------------------------------------------------------------------- */

static struct found *find(struct found *found, unsigned count, uint64_t id)
{
    for (unsigned i = 0; i < count; i++) {
        if (found[i].number == id)
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

/* Its session has it from here on, if nothing is wrong. */
static const char *begin(struct connection *connection, const struct found *found)
{
    (void)fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    connection->session = session_ref(found->session); /* before it starts: it needs to say no Hello */
    if (connection_start(connection) == 0)
        return NULL;
    connection->session = session_unref(connection->session);
    return "its socket can't be watched";
}

/* What is wrong with the socket as that of the session's owner or executor, or NULL: then it is taken over.
 */
static const char *adopt_connection(struct server *server, int fd, const struct found *found,
                                    struct connection **adopted, bool is_executor)
{
    struct connection *connection = is_socket(fd) ? allocate(server, fd, found, is_executor) : NULL;
    const char *flaw = connection == NULL ? "its socket is none of its user's, or there is no memory"
                                          : begin(connection, found);

    if (flaw != NULL && connection != NULL)
        (void)connection_discard(connection);
    *adopted = flaw == NULL ? connection : NULL;
    return flaw;
}

static const char *adopt_owner(struct server *server, int fds[RECORD_FDS_MAX], const struct found *found)
{
    struct connection *owner;
    const char *flaw = adopt_connection(server, fds[PART_SOCKET], found, &owner, false);

    if (flaw != NULL)
        return flaw;
    fds[PART_SOCKET] = -1;
    owner->operations = found->session->ledger.page->operations;
    owner->refusals = found->session->ledger.page->refusals;
    owner->due_ns = found->session->ledger.page->due_ns;
    owner->due_bytes_ns = found->session->ledger.page->due_bytes_ns;
    connection_start_audit(owner);
    if (found->session->ledger.page->ring_inode != 0) {
        flaw = plane_adopt(&owner->plane, owner, fds[PART_RING], fds[PART_BELL]);
        fds[PART_RING] = -1;
        fds[PART_BELL] = -1;
        if (flaw != NULL) {
            connection_end(owner, STATUS_STOPPING, flaw);
            return NULL;
        }
        owner->handles++;
    }
    return NULL;
}

/* A session with its owner; what of the parcel nobody has then is closed. */
static bool adopt_parcel(struct server *server, const struct stored *stored, struct found *found)
{
    int fds[RECORD_FDS_MAX] = {-1, -1, -1, -1, -1};
    unsigned count = store_unpack(stored->fd, fds);
    const char *flaw = NULL;
    bool is_there;

    for (unsigned i = count; i < RECORD_FDS_MAX; i++)
        fds[i] = -1;
    (void)close(stored->fd);
    is_there = adopt_session(server, stored->name, fds, found);
    if (is_there && found->session->ledger.page->state != LEDGER_ORPHANED)
        flaw = adopt_owner(server, fds, found);
    if (flaw != NULL)
        log_line(LOG_WARNING, "not adopted: the owner of %s: %s", stored->name, flaw);
    if ((is_there || found->number == 0) && is_socket(fds[PART_SOCKET]))
        connection_say_goodbye(fds[PART_SOCKET], STATUS_STOPPING,
                               "the session did not survive a restart of the daemon, see its log");
    for (unsigned i = 0; i < RECORD_FDS_MAX; i++)
        fds[i] = close_fd(fds[i]);
    if (is_there)
        ledger_end_adoption(&found->session->ledger);
    return is_there;
}

static const char *find_executor_flaw(uint64_t number, const struct found *found)
{
    if (number == 0)
        return "it has no number";
    if (found == NULL)
        return "its session is not there";
    return ledger_died_too_often_of(&found->session->ledger, number)
               ? "the daemon died of what it asks for, again and again"
               : NULL;
}

static void adopt_executor(struct server *server, const struct stored *stored, const struct found *found)
{
    struct connection *executor = NULL;
    uint64_t number = number_of(stored->name, 1);
    const char *flaw;

    if (found != NULL && found->session == NULL) {
        (void)close(stored->fd);
        keep(server, stored->name, "its session is not there");
        return;
    }
    flaw = find_executor_flaw(number, found);
    if (flaw == NULL)
        flaw = adopt_connection(server, stored->fd, found, &executor, true);
    if (flaw != NULL) {
        (void)close(stored->fd);
        drop(server, stored->name, flaw);
        return;
    }
    store_note(&server->store, stored->name);
    executor->is_stored = true;
    executor->number = number;
}

/* ---- All ---------------------------------------------------------------------------------------- */

/* Nobody has it: its owner was gone already, or could not be adopted. */
static void end_orphan(struct server *server, struct found *found)
{
    char name[STORE_NAME_MAX_BYTES + 1];

    if (found->session != NULL && found->session->refs == 1) {
        session_store_name(found->session, name);
        log_line(LOG_WARNING, "not adopted: %s: nobody is there who had it", name);
        connection_end_session(server, found->session);
    }
    found_deinit(server, found);
}

/* Those beyond the first `room`, for which there are no descriptors. Returns how many sessions they are. */
static unsigned keep_rest(struct server *server, const struct stored *stored, unsigned count, unsigned room,
                          struct found *found)
{
    unsigned sessions = 0;

    for (unsigned i = room; i < count; i++) {
        (void)close(stored[i].fd);
        keep(server, stored[i].name, "there are no descriptors for it: raise LimitNOFILE=");
        if (is_of(stored[i].name, "session-"))
            found[sessions++].number = number_of(stored[i].name, 0);
    }
    return sessions;
}

/* Behind those that are there. Returns how many they are together. */
static unsigned adopt_sessions(struct server *server, const struct stored *stored, unsigned count,
                               struct found *found, unsigned sessions, uint64_t *arena_bytes)
{
    for (unsigned i = 0; i < count; i++) {
        if (!is_of(stored[i].name, "session-"))
            continue;
        /* What is stored twice would be removed twice. */
        if (find(found, sessions, number_of(stored[i].name, 0)) != NULL) {
            log_line(LOG_WARNING, "not adopted: %s: it is there already", stored[i].name);
            (void)close(stored[i].fd);
            continue;
        }
        if (adopt_parcel(server, &stored[i], &found[sessions])) {
            store_note(&server->store, stored[i].name);
            found[sessions].session->is_stored = true;
            *arena_bytes += found[sessions].session->shape.arena_bytes;
        }
        sessions += found[sessions].number != 0;
    }
    return sessions;
}

/*
 * Those that are not adopted count as well: their names are still to be removed, and would take with them
 * what is stored by the same.
 */
static void go_on_counting(struct server *server, const struct stored *stored)
{
    bool is_executor = is_of(stored->name, "executor-");
    uint64_t number = number_of(stored->name, is_executor ? 1 : 0);
    uint64_t *started = is_executor ? &server->executors_started : &server->sessions_started;

    if (number > *started)
        *started = number;
}

/* All are there now; one that ends may end others, which the loop frees later. */
static void resume_all(struct server *server)
{
    struct connection *next;

    for (struct connection *at = server->connections; at != NULL; at = next) {
        next = at->next;
        if (at->session != NULL)
            exchange_resume(at);
    }
}

unsigned adoption_run(struct server *server, const struct stored *stored, unsigned count, unsigned room,
                      uint64_t *arena_bytes)
{
    struct found *found = calloc(count, sizeof *found);
    unsigned adopted = 0;
    unsigned frozen = 0;
    unsigned sessions;

    if (found == NULL) {
        log_line(LOG_ERROR, "nothing is adopted: %s", strerror(ENOMEM));
        for (unsigned i = 0; i < count; i++)
            (void)close(stored[i].fd);
        return 0;
    }
    for (unsigned i = 0; i < count; i++)
        go_on_counting(server, &stored[i]);
    room = room < count ? room : count;
    sessions = keep_rest(server, stored, count, room, found);
    sessions = adopt_sessions(server, stored, room, found, sessions, arena_bytes);
    for (unsigned i = 0; i < room; i++) {
        if (is_of(stored[i].name, "executor-"))
            adopt_executor(server, &stored[i], find(found, sessions, number_of(stored[i].name, 0)));
    }
    resume_all(server);
    for (unsigned i = 0; i < sessions; i++) {
        adopted += found[i].session != NULL;
        frozen += found[i].session != NULL && found[i].session->is_frozen;
        end_orphan(server, &found[i]);
    }
    free(found);
    server->sessions_adopted = adopted;
    log_event(LOG_ADOPTED, NULL, NULL, "sessions=%u connections=%u frozen=%u", adopted,
              (unsigned)server->connections_count, frozen);
    return adopted;
}
