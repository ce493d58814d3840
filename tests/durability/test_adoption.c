/* SPDX-License-Identifier: MIT */
/*
 * A daemon that is started with descriptors that no daemon left, or with those of sessions of which something
 * is wrong. The test is its manager: it keeps what is stored, and hands over what it likes.
 */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/ledger.h"
#include "daemon/process.h"
#include "daemon/store.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/parcel.h"
#include "tests/harness/sanitizer.h"
#include "tests/harness/suite.h"
#include "tests/harness/supervised.h"
#include "tests/harness/wire.h"

#define STORED_MAX 1024u
#define NAME_BYTES 256u
/* Where our own descriptors are, so that the daemon's can be where it looks for them. */
#define OURS_FROM 1100

static struct broker broker;
static int listener;
static int manager; /* its socket */
static struct {
    char name[NAME_BYTES];
    int fd;
} stored[STORED_MAX];
static unsigned stored_count;
static char last_removal[1024];
static const char *kill_at;             /* where a daemon that can is to kill itself; NULL: nowhere */
static const struct shortage *shortage; /* of what the next daemon has less; NULL: of nothing */

struct shortage {
    __rlimit_resource_t resource;
    rlim_t limit;
    const char *config; /* of the class */
    const char *line;   /* what the log has */
};

/* ---- The manager ------------------------------------------------------------------------ */

static int move_up(int fd)
{
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, OURS_FROM);

    ck_assert_int_ge(moved, 0);
    (void)close(fd);
    return moved;
}

static int bound(int type, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(chmod(path, 0777), 0);
    return move_up(fd);
}

static void notify_path(char *path, size_t bytes)
{
    (void)snprintf(path, bytes, "%s/notify", broker.folder);
}

static void put(const char *name, int fd)
{
    ck_assert_uint_lt(stored_count, STORED_MAX);
    ck_assert_int_ge(fd, 0);
    (void)snprintf(stored[stored_count].name, NAME_BYTES, "%s", name);
    stored[stored_count++].fd = move_up(fd);
}

static void drop(const char *name)
{
    for (unsigned i = stored_count; i-- > 0;) {
        if (strcmp(stored[i].name, name) != 0)
            continue;
        (void)close(stored[i].fd);
        stored[i] = stored[--stored_count];
    }
}

/* Takes what the daemon says next; true if it is that it is ready. */
static bool hear(void)
{
    char text[1024];
    struct record record;

    ck_assert_int_eq(record_recv(manager, true, text, sizeof text - 1, 1, &record), RECORD_WHOLE);
    text[record.bytes] = '\0';
    if (record.fds_count == 1)
        put(strstr(text, "FDNAME=") + strlen("FDNAME="), record.fds[0]);
    if (strstr(text, "FDSTOREREMOVE=1") != NULL) {
        (void)snprintf(last_removal, sizeof last_removal, "%s", strstr(text, "FDNAME=") + strlen("FDNAME="));
        drop(last_removal);
    }
    return strstr(text, "READY=1") != NULL;
}

static const char *names_of_all(void)
{
    static char names[STORED_MAX * 64];
    size_t used = (size_t)snprintf(names, sizeof names, "jitbroker");

    for (unsigned i = 0; i < stored_count; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, ":%s", stored[i].name);
    return names;
}

static void run_daemon(void)
{
    const char *const arguments[] = {broker.program, "--config", broker.config, NULL};
    char path[160];
    char number[16];
    int log = open(broker.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

    (void)dup2(log, STDERR_FILENO);
    (void)dup2(listener, 3);
    for (unsigned i = 0; i < stored_count; i++)
        (void)dup2(stored[i].fd, 4 + (int)i);
    if (shortage != NULL)
        (void)setrlimit(shortage->resource, &(struct rlimit){shortage->limit, shortage->limit});
    become(broker.uid);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    notify_path(path, sizeof path);
    (void)setenv("NOTIFY_SOCKET", path, 1);
    (void)setenv("LISTEN_FDNAMES", names_of_all(), 1);
    (void)snprintf(number, sizeof number, "%u", 1 + stored_count);
    (void)setenv("LISTEN_FDS", number, 1);
    (void)snprintf(number, sizeof number, "%d", (int)getpid());
    (void)setenv("LISTEN_PID", number, 1);
    if (kill_at != NULL)
        (void)setenv("JITBROKER_KILL_AT", kill_at, 1);
    (void)execv(broker.program, (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static void launch_daemon(void)
{
    broker.pid = fork();
    ck_assert_int_ge(broker.pid, 0);
    if (broker.pid == 0)
        run_daemon();
}

/* Waits until it serves; what it does with what is stored is done then. */
static void start_daemon(void)
{
    launch_daemon();
    while (!hear())
        continue;
}

static void await_its_death(void)
{
    int status;

    ck_assert_int_eq(waitpid(broker.pid, &status, 0), broker.pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    broker.pid = 0;
}

static void prepare(const char *config)
{
    struct rlimit limit;
    char path[160];

    if (!are_we_root())
        skip("it takes root, to be the daemon's manager and another user");
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    broker_prepare(&broker, BROKER_UID, config);
    (void)chmod(broker.folder, 0777);
    listener = bound(SOCK_SEQPACKET, broker.socket);
    ck_assert_int_eq(listen(listener, 10), 0);
    notify_path(path, sizeof path);
    manager = bound(SOCK_DGRAM, path);
    stored_count = 0;
}

static void stop(void)
{
    char path[160];

    notify_path(path, sizeof path);
    (void)unlink(path);
    (void)close(manager); /* nobody waits for what it says now */
    broker_stop(&broker);
}

/* ---- Clients ------------------------------------------------------------------------------ */

struct worker {
    jitc_client *client;
    jitc_span span;
    uint32_t value;
};

static uint8_t code[CODE_RETURN_BYTES];

static struct worker work(uint32_t value)
{
    struct worker worker = {.value = value};

    ck_assert_int_eq(seteuid(WORKER_UID), 0);
    worker.client = broker_connect(&broker, NULL);
    ck_assert_int_eq(seteuid(0), 0);
    code_return(code, value);
    assert_status(JITC_OK, "", jitc_alloc(worker.client, &worker.span, sizeof code));
    assert_status(JITC_OK, "",
                  jitc_write(worker.client, &worker.span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    return worker;
}

/* What it has is there, and it gets more. */
static void assert_goes_on(struct worker *worker)
{
    jitc_span span;

    ck_assert_uint_eq(code_call(worker->span.rx), worker->value);
    code_return(code, worker->value + 1);
    assert_status(JITC_OK, "", jitc_alloc(worker->client, &span, sizeof code));
    assert_status(JITC_OK, "", jitc_write(worker->client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), worker->value + 1);
}

static void assert_ended(struct worker *worker)
{
    int status = jitc_write(worker->client, &worker->span, 0, code, sizeof code, JITC_WRITE_DEFAULT);

    ck_assert_msg(status == JITC_E_DISCONNECTED, "%s: %s", jitc_strerror(status), jitc_error_detail());
}

static void leave(struct worker *worker)
{
    (void)jitc_close(worker->client);
}

static void assert_serves(void)
{
    struct worker worker = work(99);

    assert_goes_on(&worker);
    leave(&worker);
}

#define assert_logged(count, text)                                                                           \
    ck_assert_msg(broker_log_count(&broker, text) == (count), "%u of '%s'", broker_log_count(&broker, text), \
                  text)

/* ---- Descriptors of sessions ----------------------------------------------------------------- */

enum part { LEDGER, ARENA, SOCKET, RING, BELL };

static unsigned find(const char *name)
{
    for (unsigned i = 0; i < stored_count; i++) {
        if (strcmp(stored[i].name, name) == 0)
            return i;
    }
    ck_abort_msg("%s is not stored", name);
}

static unsigned unpack(const char *name, int *fds)
{
    struct record record;
    char byte;

    ck_assert_int_eq(record_peek(stored[find(name)].fd, &byte, 1, RECORD_FDS_MAX, &record), RECORD_WHOLE);
    memcpy(fds, record.fds, sizeof record.fds);
    return record.fds_count;
}

static void close_all(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        (void)close(fds[i]);
}

static void repack(const char *name, const int *fds, unsigned count)
{
    drop(name);
    put(name, parcel_new(fds, count));
}

/* The page of the ledger of a session whose daemon is gone. */
static struct ledger_page *ledger_of(const char *name)
{
    int fds[RECORD_FDS_MAX];
    unsigned count = unpack(name, fds);
    struct ledger_page *page =
        mmap(NULL, LEDGER_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[LEDGER], 0);

    ck_assert_ptr_ne(page, MAP_FAILED);
    close_all(fds, count);
    return page;
}

static int a_socket(void)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    (void)close(ends[0]);
    return ends[1];
}

static int a_memfd(void)
{
    return memfd_create("nonsense", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* Too many in one record, which ours never has. */
static int large_parcel(unsigned count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * 100)];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec part = {.iov_base = control.bytes, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    int fd = a_memfd();
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    *rights = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int) * count), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    for (unsigned i = 0; i < count; i++)
        memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    ck_assert_int_eq(sendmsg(ends[0], &message, 0), 1);
    (void)close(ends[0]);
    (void)close(fd);
    return ends[1];
}

/* ---- Nonsense --------------------------------------------------------------------------------- */

START_TEST(what_is_no_session_is_removed_and_the_daemon_serves)
{
    int fds[] = {a_memfd(), a_memfd(), a_socket(), a_memfd(), eventfd(0, 0)};
    int ends[2];

    prepare("");
    put("session-1", a_memfd());
    put("session-2", a_socket()); /* nothing in it, and nobody behind it */
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    put("session-3", ends[0]); /* something could still come */
    put("session-4", parcel_of(0, fds, 3));
    put("session-5", parcel_of(2, fds, 3));
    put("session-6", parcel_new(fds, 1));
    put("session-7", parcel_new(fds, 5));
    put("session-8", large_parcel(6));
    put("session-9", large_parcel(100));
    put("session-10", open("/dev/null", O_RDWR | O_CLOEXEC));
    put("session-", parcel_new(fds, 3));
    put("session-x", parcel_new(fds, 3));
    put("executor-", a_socket());
    put("executor-1", a_socket());
    put("executor-1-", a_socket());
    put("executor-77-1", a_socket()); /* of no session */
    start_daemon();
    assert_logged(16, "not adopted: ");
    assert_logged(1, "sessions=0 connections=0");
    while (stored_count > 0)
        (void)hear();
    assert_serves();
    (void)close(ends[1]);
    close_all(fds, 5);
    stop();
}
END_TEST

START_TEST(of_a_thousand_descriptors_of_nonsense_none_is_left)
{
    char name[32];
    long fds;

    prepare("");
    start_daemon();
    assert_serves();
    fds = broker_fds(&broker);
    broker_kill(&broker);
    while (stored_count < 1000) {
        unsigned i = stored_count;
        int some[] = {a_memfd(), a_memfd(), a_socket()};

        (void)snprintf(name, sizeof name, i % 3 == 0 ? "executor-%u-1" : "session-%u", i);
        put(name, i % 3 == 1 ? a_socket() : i % 3 == 2 ? parcel_new(some, 3) : a_memfd());
        close_all(some, 3);
    }
    start_daemon();
    while (stored_count > 0)
        (void)hear();
    ck_assert_int_le(broker_fds(&broker), fds);
    assert_serves();
    stop();
}
END_TEST

START_TEST(a_name_that_is_too_long_is_removed_as_far_as_it_may_reach)
{
    char name[NAME_BYTES] = "session-";

    prepare("");
    memset(name + strlen(name), '1', sizeof name - 1 - strlen(name));
    put(name, a_memfd());
    start_daemon();
    while (last_removal[0] == '\0')
        (void)hear();
    ck_assert_uint_eq(strlen(last_removal), STORE_NAME_MAX_BYTES);
    ck_assert_int_eq(strncmp(last_removal, name, STORE_NAME_MAX_BYTES), 0);
    assert_serves();
    stop();
}
END_TEST

/* Its name may be removed only later: a session that had the same would go with it. */
START_TEST(the_number_of_a_session_that_was_not_adopted_is_not_given_again)
{
    struct worker worker;

    prepare("");
    put("session-41", a_memfd());
    put("session-9223372036854775808", a_memfd()); /* no daemon has counted so far */
    start_daemon();
    worker = work(7);
    while (stored_count != 1)
        (void)hear();
    ck_assert_str_eq(stored[0].name, "session-42");
    leave(&worker);
    stop();
}
END_TEST

/* ---- Sessions --------------------------------------------------------------------------------- */

static void await_stored(unsigned count)
{
    while (stored_count != count)
        (void)hear();
}

static void start_two(struct worker *first, struct worker *second)
{
    prepare("");
    start_daemon();
    *first = work(1000);
    *second = work(2000);
    await_stored(2);
    broker_kill(&broker);
}

/* `line`: what its log says of the first. */
static void assert_second_goes_on(struct worker *first, struct worker *second, const char *line)
{
    start_daemon();
    assert_logged(1, line);
    assert_goes_on(second);
    assert_ended(first);
    await_stored(1);
    ck_assert_str_eq(stored[0].name, "session-2");
    assert_serves();
    leave(first);
    leave(second);
    stop();
}

static void spoil_its_beginning(struct ledger_page *page)
{
    page->magic[0]++;
}

static void spoil_its_version(struct ledger_page *page)
{
    page->version = UINT32_MAX;
}

static void spoil_its_number(struct ledger_page *page)
{
    page->session = 2;
}

static void spoil_its_growth(struct ledger_page *page)
{
    page->grown_bytes = UINT64_MAX;
}

static void spoil_its_intent(struct ledger_page *page)
{
    page->intent = (struct ledger_intent){.key = page->head, .kind = INTENT_CUT, .offset = 1, .bytes = 2};
}

static void spoil_its_arena(struct ledger_page *page)
{
    page->arena_inode++;
}

static const struct {
    void (*spoil)(struct ledger_page *page);
    const char *reason;
} damages[] = {
    {spoil_its_beginning, "it does not begin like a ledger"},
    {spoil_its_version, "this daemon does not know its format"},
    {spoil_its_number, "its ledger is another's"},
    {spoil_its_growth, "its arena can't have grown so far"},
    {spoil_its_intent, "its intent is none that a daemon has"},
    {spoil_its_arena, "its arena is another's"},
};

START_TEST(of_two_sessions_the_damaged_one_ends_with_a_reason_and_the_other_goes_on)
{
    struct worker first;
    struct worker second;
    struct ledger_page *page;
    char line[160];

    start_two(&first, &second);
    page = ledger_of("session-1");
    damages[_i].spoil(page);
    (void)munmap(page, LEDGER_PAGE_BYTES);
    (void)snprintf(line, sizeof line, "not adopted: session-1: %s", damages[_i].reason);
    ck_assert_uint_eq(code_call(first.span.rx), 1000);
    assert_second_goes_on(&first, &second, line);
}
END_TEST

/* With what the daemon has and needs otherwise there is enough for one session, not for two. */
static const struct shortage shortages[] = {
    {RLIMIT_NOFILE, PROCESS_FDS_OTHER + CONNECTION_FDS, "",
     "not adopted now: session-2: there are no descriptors for it: raise LimitNOFILE=; it stays stored"},
    {RLIMIT_AS, UINT64_C(3) << 30, "[class default]\narena=2G\narena_max=2G\n",
     "not adopted now: session-2: there is no memory for it; it stays stored"},
};

START_TEST(what_a_daemon_has_no_room_for_waits_for_the_next_one)
{
    struct worker first;
    struct worker second;
    jitc_info own = {.struct_size = sizeof own};
    jitc_info other = {.struct_size = sizeof other};
    jitc_client *executor;
    jitc_span span;
    int fd;

    if (shortages[_i].resource == RLIMIT_AS && HAS_SANITIZER)
        skip("a sanitizer takes more addresses than any limit");
    prepare(shortages[_i].config);
    start_daemon();
    first = work(1000);
    second = work(2000);
    assert_status(JITC_OK, "", jitc_open_executor(second.client, &fd));
    assert_status(JITC_OK, "", jitc_attach(&executor, fd));
    assert_status(JITC_OK, "", jitc_describe(second.client, &own));
    assert_status(JITC_OK, "", jitc_describe(executor, &other));
    await_stored(3);
    for (unsigned i = 0; i < 2 * LEDGER_DEATHS_MAX; i++) { /* it is not the session's doing, however often */
        broker_kill(&broker);
        shortage = &shortages[_i];
        start_daemon();
        assert_logged(i + 1, shortage->line);
        assert_goes_on(&first);
        ck_assert_uint_eq(code_call(second.span.rx), 2000);
    }
    ck_assert_uint_eq(stored_count, 3);
    broker_kill(&broker);
    shortage = NULL;
    start_daemon();
    assert_goes_on(&first);
    assert_goes_on(&second);
    assert_status(JITC_OK, "",
                  jitc_query(executor, &span,
                             (uint8_t *)other.base + ((uint8_t *)second.span.rx - (uint8_t *)own.base)));
    ck_assert_uint_eq(code_call(span.rx), 2000);
    (void)jitc_close(executor);
    leave(&first);
    leave(&second);
    await_stored(0);
    stop();
}
END_TEST

/* The answer that it says it has was nearly complete, of a request that its client has yet to send. */
START_TEST(an_answer_with_no_room_for_what_is_to_come_ends_its_session_and_not_the_daemon)
{
    struct worker first;
    struct worker second;
    struct ledger_page *page;

    start_two(&first, &second);
    page = ledger_of("session-1");
    page->answer_id = 4;
    page->progress = RECORD_MAX_BYTES;
    (void)munmap(page, LEDGER_PAGE_BYTES);
    assert_second_goes_on(&first, &second, "not adopted: session-1: no daemon gets so far");
}
END_TEST

static void give_another_arena(int *fds, unsigned *count)
{
    int others[RECORD_FDS_MAX];
    unsigned others_count = unpack("session-2", others);

    (void)count;
    (void)dup3(others[ARENA], fds[ARENA], O_CLOEXEC);
    close_all(others, others_count);
}

static void give_another_ledger(int *fds, unsigned *count)
{
    int others[RECORD_FDS_MAX];
    unsigned others_count = unpack("session-2", others);

    (void)count;
    (void)dup3(others[LEDGER], fds[LEDGER], O_CLOEXEC);
    close_all(others, others_count);
}

static void exchange_ledger_and_arena(int *fds, unsigned *count)
{
    int ledger = fds[LEDGER];

    (void)count;
    fds[LEDGER] = fds[ARENA];
    fds[ARENA] = ledger;
}

static void give_another_ring(int *fds, unsigned *count)
{
    if (*count > RING)
        (void)dup3(fds[LEDGER], fds[RING], O_CLOEXEC);
    else
        exchange_ledger_and_arena(fds, count);
}

static void give_no_bell(int *fds, unsigned *count)
{
    if (*count > BELL)
        (void)close(fds[--*count]);
    else
        exchange_ledger_and_arena(fds, count);
}

static void (*const mixes[])(int *fds, unsigned *count) = {
    give_another_arena, give_another_ledger, exchange_ledger_and_arena, give_another_ring, give_no_bell,
};

START_TEST(a_parcel_with_something_of_another_s_is_no_session_and_does_the_other_no_harm)
{
    struct worker first;
    struct worker second;
    int fds[RECORD_FDS_MAX];
    unsigned count;

    start_two(&first, &second);
    count = unpack("session-1", fds);
    mixes[_i](fds, &count);
    repack("session-1", fds, count);
    close_all(fds, count);
    assert_second_goes_on(&first, &second, "not adopted: session-1: ");
}
END_TEST

START_TEST(a_socket_of_someone_else_s_is_no_owner_s)
{
    struct worker worker;
    int fds[RECORD_FDS_MAX];
    unsigned count;
    int ends[2];

    prepare("");
    start_daemon();
    worker = work(1000);
    await_stored(1);
    broker_kill(&broker);
    count = unpack("session-1", fds);
    ck_assert_int_eq(seteuid(OTHER_WORKER_UID), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(seteuid(0), 0);
    (void)dup3(ends[1], fds[SOCKET], O_CLOEXEC);
    repack("session-1", fds, count);
    close_all(fds, count);
    start_daemon();
    assert_logged(1, "not adopted: the owner of session-1: its socket is none of its user's");
    assert_logged(1, "not adopted: session-1: nobody is there who had it");
    await_stored(0);
    assert_serves();
    close_all(ends, 2);
    leave(&worker);
    stop();
}
END_TEST

START_TEST(what_is_stored_twice_is_adopted_once_and_stays_stored)
{
    struct worker worker;
    int fds[RECORD_FDS_MAX];
    unsigned count;

    prepare("");
    start_daemon();
    worker = work(1000);
    await_stored(1);
    broker_kill(&broker);
    count = unpack("session-1", fds);
    put("session-1", parcel_new(fds, count));
    close_all(fds, count);
    start_daemon();
    assert_logged(1, "not adopted: session-1: it is there already");
    assert_goes_on(&worker);
    broker_kill(&broker);
    ck_assert_uint_eq(stored_count, 2);
    start_daemon();
    assert_goes_on(&worker);
    leave(&worker);
    await_stored(0);
    stop();
}
END_TEST

/* Another one, which came later, is told that its time is over: the one that was adopted would be as well. */
START_TEST(a_session_that_was_adopted_does_not_have_to_say_hello)
{
    struct worker worker;
    struct wire *silent;

    prepare("[daemon]\nhello_timeout_ms=50\n");
    start_daemon();
    worker = work(1000);
    await_stored(1);
    broker_kill(&broker);
    start_daemon();
    silent = wire_new(broker_socket(&broker));
    wire_expect_goodbye(silent, STATUS_HELLO_TIMEOUT, "no Hello in time");
    wire_free(silent);
    assert_goes_on(&worker);
    leave(&worker);
    stop();
}
END_TEST

/* It ends with the status that says not to start it again only where it has nobody to lose. */
START_TEST(an_audit_file_that_can_t_be_opened_any_more_ends_no_session_and_lets_nobody_in)
{
    char config[256];
    char file[96];
    struct worker worker;
    struct wire *late;

    prepare("");
    (void)snprintf(file, sizeof file, "%s/trail", broker.folder);
    (void)snprintf(config, sizeof config, "[daemon]\naudit_file=%s\n[class default]\naudit=file\n", file);
    supervised_configure(&broker, config);
    start_daemon();
    worker = work(1000);
    await_stored(1);
    broker_kill(&broker);
    ck_assert_int_eq(unlink(file), 0);
    ck_assert_int_eq(mkdir(file, 0777), 0);
    start_daemon();
    assert_logged(1, "sessions=1 connections=1");
    assert_logged(1, "policy_refused: in_force=sessions");
    assert_goes_on(&worker);
    late = wire_new(broker_socket(&broker));
    wire_expect_goodbye(late, STATUS_REFUSED, "the daemon's policy has a mistake");
    wire_free(late);
    broker_kill(&broker);
    ck_assert_int_eq(rmdir(file), 0);
    start_daemon();
    assert_goes_on(&worker);
    assert_serves();
    leave(&worker);
    stop();
}
END_TEST

/* ---- Who is the end of each daemon ----------------------------------------------------------- */

/* All of what it asks for is one request, which stays where it is while no daemon gets through with it. */
struct asking {
    jitc_client *client;
    void *span; /* to be queried; NULL: it asks how much there is */
    int status;
    pthread_t thread;
};

static void *ask(void *argument)
{
    struct asking *asking = argument;
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span span;

    asking->status = asking->span == NULL ? jitc_statistics(asking->client, &stats)
                                          : jitc_query(asking->client, &span, asking->span);
    return NULL;
}

static void begin_to_ask(struct asking *asking)
{
    ck_assert_int_eq(pthread_create(&asking->thread, NULL, ask, asking), 0);
}

static void assert_told_of_the_end(struct asking *asking)
{
    ck_assert_int_eq(pthread_join(asking->thread, NULL), 0);
    ck_assert_int_eq(asking->status, JITC_E_DISCONNECTED);
}

/* As start_two(), with a daemon that can kill itself, and where the next ones do. */
static void start_two_to_be_killed(struct worker *first, struct worker *second, const char *at)
{
    kill_at = NULL;
    (void)setenv("JITBROKER_DAEMON", JITBROKERD_KILLED, 1);
    start_two(first, second);
    kill_at = at;
}

START_TEST(a_session_of_whose_request_five_daemons_die_before_they_do_it_ends_and_others_go_on)
{
    struct worker first;
    struct worker second;
    struct asking asking;

    start_two_to_be_killed(&first, &second, "session-1");
    asking = (struct asking){.client = first.client};
    begin_to_ask(&asking);
    for (unsigned i = 0; i < LEDGER_DEATHS_MAX; i++) {
        start_daemon();
        await_its_death();
    }
    assert_second_goes_on(&first, &second,
                          "not adopted: session-1: the daemon died of what it asks for, again and again");
    assert_told_of_the_end(&asking);
}
END_TEST

START_TEST(a_session_of_which_five_daemons_die_while_they_adopt_it_ends_and_others_go_on)
{
    struct worker first;
    struct worker second;

    start_two_to_be_killed(&first, &second, "adopting-1");
    for (unsigned i = 0; i < LEDGER_DEATHS_MAX; i++) {
        launch_daemon();
        await_its_death();
    }
    assert_second_goes_on(&first, &second,
                          "not adopted: session-1: the daemon died of what it asks for, again and again");
}
END_TEST

START_TEST(an_executor_of_whose_request_five_daemons_die_ends_and_its_session_goes_on)
{
    struct worker worker;
    struct asking asking;
    jitc_info info = {.struct_size = sizeof info};
    jitc_info other = {.struct_size = sizeof other};
    int fd;

    kill_at = NULL;
    (void)setenv("JITBROKER_DAEMON", JITBROKERD_KILLED, 1);
    prepare("");
    start_daemon();
    worker = work(1000);
    assert_status(JITC_OK, "", jitc_open_executor(worker.client, &fd));
    assert_status(JITC_OK, "", jitc_attach(&asking.client, fd));
    assert_status(JITC_OK, "", jitc_describe(worker.client, &info));
    assert_status(JITC_OK, "", jitc_describe(asking.client, &other));
    asking.span = (uint8_t *)other.base + ((uint8_t *)worker.span.rx - (uint8_t *)info.base);
    await_stored(2);
    assert_goes_on(&worker); /* who is answered after the executor finds that to be over */
    broker_kill(&broker);
    kill_at = "executor-1";
    begin_to_ask(&asking);
    for (unsigned i = 0; i < LEDGER_DEATHS_MAX; i++) {
        start_daemon();
        await_its_death();
    }
    start_daemon();
    assert_logged(1, "not adopted: executor-1-1: the daemon died of what it asks for, again and again");
    assert_goes_on(&worker);
    await_stored(1);
    ck_assert_str_eq(stored[0].name, "session-1");
    assert_told_of_the_end(&asking);
    (void)jitc_close(asking.client);
    leave(&worker);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adoption");
    TCase *tests = tcase_create("adoption");

    tcase_set_timeout(tests, 0);
    tcase_add_test(tests, what_is_no_session_is_removed_and_the_daemon_serves);
    tcase_add_test(tests, of_a_thousand_descriptors_of_nonsense_none_is_left);
    tcase_add_test(tests, a_name_that_is_too_long_is_removed_as_far_as_it_may_reach);
    tcase_add_test(tests, the_number_of_a_session_that_was_not_adopted_is_not_given_again);
    tcase_add_loop_test(tests, of_two_sessions_the_damaged_one_ends_with_a_reason_and_the_other_goes_on, 0,
                        (int)(sizeof damages / sizeof damages[0]));
    tcase_add_loop_test(tests, what_a_daemon_has_no_room_for_waits_for_the_next_one, 0,
                        (int)(sizeof shortages / sizeof shortages[0]));
    tcase_add_test(tests, an_answer_with_no_room_for_what_is_to_come_ends_its_session_and_not_the_daemon);
    tcase_add_loop_test(tests, a_parcel_with_something_of_another_s_is_no_session_and_does_the_other_no_harm,
                        0, (int)(sizeof mixes / sizeof mixes[0]));
    tcase_add_test(tests, a_socket_of_someone_else_s_is_no_owner_s);
    tcase_add_test(tests, what_is_stored_twice_is_adopted_once_and_stays_stored);
    tcase_add_test(tests, a_session_that_was_adopted_does_not_have_to_say_hello);
    tcase_add_test(tests, an_audit_file_that_can_t_be_opened_any_more_ends_no_session_and_lets_nobody_in);
    tcase_add_test(tests,
                   a_session_of_whose_request_five_daemons_die_before_they_do_it_ends_and_others_go_on);
    tcase_add_test(tests, a_session_of_which_five_daemons_die_while_they_adopt_it_ends_and_others_go_on);
    tcase_add_test(tests, an_executor_of_whose_request_five_daemons_die_ends_and_its_session_goes_on);
    suite_add_tcase(suite, tests);
    return suite_run(suite);
}
