/* SPDX-License-Identifier: MIT */
#include "tests/durability/crew.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/durability/witness.h"

enum {
    THREADS_MAX = 3,
    FIRST_UID = 64910,
    SPANS_MAX = 300,
    QUOTA_BYTES = 24 << 20,
};

enum kind { KIND_WORKS, KIND_RESETS, KIND_COMES_AND_GOES };

static const struct role {
    const char *name;
    const char *class; /* more of what its user gets */
    unsigned threads;
    enum kind kind;
    bool writes_once;
    bool fills_spans; /* tries whether it gets exactly as many as it may; its class has span_max= */
    bool fills_bytes; /* the same with bytes_max= */
} roles[] = {
    {"ring", "", 3, KIND_WORKS, false, false, false},
    {"ring, few spans", "span_max=300\n", 2, KIND_WORKS, false, true, false},
    {"socket", "ring=no\nspan_max=300\n", 2, KIND_WORKS, false, true, false},
    {"socket, few bytes", "ring=no\nbytes_max=24M\n", 1, KIND_WORKS, false, false, true},
    {"direct", "write=direct\n", 2, KIND_WORKS, false, false, false},
    {"once", "write_once=yes\n", 1, KIND_WORKS, true, false, false},
    {"resets, ring", "", 1, KIND_RESETS, false, false, false},
    {"resets, socket", "ring=no\n", 1, KIND_RESETS, false, false, false},
    {"comes and goes", "", 1, KIND_COMES_AND_GOES, false, false, false},
};

_Static_assert(sizeof roles / sizeof roles[0] == CREWS, "one role each");

struct crew_table *crew_table;

static struct broker *broker;
static unsigned seed;
static pid_t crews[CREWS];
static unsigned comparisons;

uint64_t crew_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- A client ------------------------------------------------------------------------------- */

struct member {
    struct crew *crew;
    struct witness witness;
    pthread_t thread;
};

struct crew {
    const struct role *role;
    struct crew_seat *seat;
    jitc_client *client; /* NULL: one who comes and goes is away */
    unsigned random;
    pthread_barrier_t meeting;
    struct member members[THREADS_MAX];
    jitc_span shared;     /* a counter that all raise */
    _Atomic uint64_t sum; /* how often they did */
};

static void answered(struct crew *crew, unsigned kill_number, uint64_t killed_ns)
{
    unsigned last = atomic_load(&crew->seat->answered);

    if (last < kill_number && atomic_compare_exchange_strong(&crew->seat->answered, &last, kill_number))
        atomic_store(&crew->seat->waited_ns, crew_now_ns() - killed_ns);
}

/* After a kill: asks for something, and notes how long it was until the answer. */
static void ask_after_kill(struct crew *crew)
{
    jitc_stats stats = {.struct_size = sizeof stats};
    unsigned kill_number = atomic_load(&crew_table->kills);
    uint64_t killed_ns = atomic_load(&crew_table->killed_ns);

    if (crew->client == NULL || atomic_load(&crew->seat->answered) >= kill_number)
        return;
    must(jitc_statistics(crew->client, &stats) == JITC_OK);
    answered(crew, kill_number, killed_ns);
}

static void raise_shared(struct crew *crew)
{
    jitc_span span = crew->shared;
    uint64_t expected;
    int status;

    if (span.rx == NULL)
        return;
    memcpy(&expected, span.rx, sizeof expected); /* perhaps no longer right when it is asked for */
    status = jitc_patch(crew->client, &span, 0, sizeof expected, expected, expected + 1, NULL);
    must(status == JITC_OK || status == JITC_E_MISMATCH);
    if (status == JITC_OK)
        atomic_fetch_add(&crew->sum, 1);
}

/* All that the session has. */
static void check_session(struct crew *crew)
{
    jitc_span spans[THREADS_MAX * (WITNESS_SPANS + 1) + 1];
    uint64_t sum;
    unsigned count = 0;

    if (crew->shared.rx != NULL) {
        spans[count++] = crew->shared;
        memcpy(&sum, crew->shared.rx, sizeof sum);
        must(sum == atomic_load(&crew->sum));
    }
    for (unsigned i = 0; i < crew->role->threads; i++)
        count += witness_list(&crew->members[i].witness, spans + count);
    atomic_fetch_add(&crew->seat->bytes, witness_check_arena(crew->client, spans, count));
    atomic_fetch_add(&crew->seat->spans, count);
}

static void check_spans_quota(struct crew *crew)
{
    unsigned live = crew->shared.rx != NULL;

    for (unsigned i = 0; i < crew->role->threads; i++)
        live += witness_count(&crew->members[i].witness);
    witness_check_spans_quota(crew->client, live, SPANS_MAX);
}

static void go_away(struct crew *crew)
{
    if (crew->client != NULL)
        witness_deinit(&crew->members[0].witness);
    crew->client = jitc_close(crew->client);
}

/* A connection that was not served yet may be lost with the daemon; it is the only thing that may. */
static void come(struct crew *crew)
{
    unsigned kill_number = atomic_load(&crew_table->kills);
    uint64_t killed_ns = atomic_load(&crew_table->killed_ns);
    jitc_options options = broker_options(broker);
    int status = jitc_connect(&crew->client, &options);

    if (status == JITC_OK) {
        witness_init(&crew->members[0].witness, crew->client, crew->random++, false);
        answered(crew, kill_number, killed_ns);
        return;
    }
    must(crew->role->kind == KIND_COMES_AND_GOES);
    must(status == JITC_E_DISCONNECTED || status == JITC_E_NO_BROKER);
    atomic_fetch_add(&crew->seat->refused, 1);
}

static void work(struct member *member)
{
    struct crew *crew = member->crew;
    unsigned choice = (unsigned)rand_r(&member->witness.random) % 64;

    if (crew->role->kind == KIND_COMES_AND_GOES && (crew->client == NULL || choice == 0)) {
        go_away(crew);
        come(crew);
        return;
    }
    if (crew->role->kind == KIND_RESETS && choice == 0)
        witness_do(&member->witness, WITNESS_RESET);
    else if (choice < 6)
        raise_shared(crew);
    else
        witness_do_any(&member->witness);
    atomic_fetch_add_explicit(&crew->seat->acts, 1, memory_order_relaxed);
}

static void compare(struct member *member, unsigned number)
{
    struct crew *crew = member->crew;
    bool leads = member == &crew->members[0];

    (void)pthread_barrier_wait(&crew->meeting);
    if (crew->client != NULL)
        witness_check(&member->witness);
    (void)pthread_barrier_wait(&crew->meeting);
    if (leads) {
        if (crew->client != NULL)
            check_session(crew);
        if (crew->role->fills_spans && number % 8 == 0)
            check_spans_quota(crew);
        if (crew->role->fills_bytes && number % 8 == 0)
            witness_check_bytes_quota(crew->client, QUOTA_BYTES);
        atomic_store(&crew->seat->paused, number);
        while (atomic_load(&crew_table->go) < number)
            (void)usleep(100);
    }
    (void)pthread_barrier_wait(&crew->meeting);
}

/* By the logarithm, four steps to each doubling. */
static void note_time(struct crew *crew, uint64_t ns)
{
    unsigned log = ns < 4 ? 2 : 63 - (unsigned)__builtin_clzll(ns);

    atomic_fetch_add_explicit(&crew->seat->times[log * 4 + (ns >> (log - 2) & 3)], 1, memory_order_relaxed);
}

static void *run_member(void *user)
{
    struct member *member = user;
    unsigned rounds = 0;

    while (!atomic_load(&crew_table->ends)) {
        uint64_t began_ns = crew_now_ns();

        work(member);
        note_time(member->crew, crew_now_ns() - began_ns);
        ask_after_kill(member->crew);
        /* One by one: who is late for a round has not missed it, as all wait for him. */
        if (atomic_load(&crew_table->pause) > rounds)
            compare(member, ++rounds);
    }
    return NULL;
}

static void run_crew(unsigned number)
{
    static struct crew crew;
    jitc_options options = broker_options(broker);
    const struct role *role = &roles[number];
    uint64_t zero = 0;

    become(FIRST_UID + number);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* after that: another user has none at first */
    crew.role = role;
    crew.seat = &crew_table->seats[number];
    crew.random = seed + number * 1000;
    must(jitc_connect(&crew.client, &options) == JITC_OK);
    must(pthread_barrier_init(&crew.meeting, NULL, role->threads) == 0);
    if (role->kind == KIND_WORKS && !role->writes_once) {
        must(jitc_alloc(crew.client, &crew.shared, sizeof zero) == JITC_OK);
        must(jitc_write(crew.client, &crew.shared, 0, &zero, sizeof zero, JITC_WRITE_DEFAULT) == JITC_OK);
    }
    for (unsigned i = 0; i < role->threads; i++) {
        crew.members[i].crew = &crew;
        witness_init(&crew.members[i].witness, crew.client, seed + number * 10 + i, role->writes_once);
    }
    for (unsigned i = 1; i < role->threads; i++)
        must(pthread_create(&crew.members[i].thread, NULL, run_member, &crew.members[i]) == 0);
    (void)run_member(&crew.members[0]);
    for (unsigned i = 1; i < role->threads; i++)
        must(pthread_join(crew.members[i].thread, NULL) == 0);
    (void)jitc_close(crew.client);
    _exit(EXIT_SUCCESS);
}

/* ---- Who leads them ---------------------------------------------------------------------- */

static void show_log_end(void)
{
    char command[256];

    (void)snprintf(command, sizeof command, "tail -n 30 %s >&2", broker->log);
    (void)!system(command);
}

static void give_up(const char *why)
{
    (void)fprintf(stderr, "after %u kills, with seed %u: %s; the daemon's last lines (%s):\n",
                  atomic_load(&crew_table->kills), seed, why, broker->log);
    show_log_end();
    for (unsigned i = 0; i < CREWS; i++) {
        if (crews[i] > 0)
            (void)kill(crews[i], SIGKILL);
    }
    (void)kill(broker->pid, SIGTERM);
    exit(EXIT_FAILURE);
}

void crews_look_after(void)
{
    char why[64];
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);

    if (pid <= 0)
        return;
    for (unsigned i = 0; i < CREWS; i++) {
        if (pid != crews[i])
            continue;
        crews[i] = 0;
        (void)snprintf(why, sizeof why, "client '%s' ended with %x", roles[i].name, (unsigned)status);
        give_up(why);
    }
    give_up("the supervisor has ended");
}

void crews_start(struct broker *where, unsigned with_seed)
{
    char config[2048] = "";
    size_t used = 0;

    for (unsigned i = 0; i < CREWS; i++)
        used += (size_t)snprintf(config + used, sizeof config - used, "[class c%u]\nuid=%u\n%s", i,
                                 FIRST_UID + i, roles[i].class);
    broker = where;
    seed = with_seed;
    crew_table = mmap(NULL, sizeof *crew_table, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(crew_table != MAP_FAILED);
    supervised_start(broker, NULL, config);
    for (unsigned i = 0; i < CREWS; i++) {
        crews[i] = fork();
        must(crews[i] >= 0);
        if (crews[i] == 0)
            run_crew(i);
    }
    crews_compare();
    crews_go_on();
}

void crews_await_answers(uint64_t *waits_ns)
{
    for (unsigned i = 0; i < CREWS; i++) {
        struct crew_seat *seat = &crew_table->seats[i];

        while (atomic_load(&seat->answered) < atomic_load(&crew_table->kills)) {
            crews_look_after();
            (void)usleep(200);
        }
        waits_ns[i] = atomic_load(&seat->waited_ns);
    }
}

void crews_compare(void)
{
    atomic_store(&crew_table->pause, ++comparisons);
    for (unsigned i = 0; i < CREWS; i++) {
        while (atomic_load(&crew_table->seats[i].paused) < comparisons) {
            crews_look_after();
            (void)usleep(200);
        }
    }
}

void crews_go_on(void)
{
    atomic_store(&crew_table->go, comparisons);
}

pid_t crews_kill(pid_t other, int number, unsigned delay_us)
{
    pid_t pid;

    while ((pid = supervised_daemon(broker)) == 0 || pid == other) {
        crews_look_after();
        (void)usleep(50);
    }
    (void)usleep(delay_us);
    atomic_store(&crew_table->killed_ns, crew_now_ns());
    (void)kill(number == SIGUSR2 ? broker->pid : pid, number);
    atomic_fetch_add(&crew_table->kills, 1);
    return pid;
}

const char *crews_name(unsigned number)
{
    return roles[number].name;
}

pid_t crews_process(unsigned number)
{
    return crews[number];
}

struct crew_sum crews_sum(void)
{
    struct crew_sum sum = {0};

    for (unsigned i = 0; i < CREWS; i++) {
        sum.acts += atomic_load(&crew_table->seats[i].acts);
        sum.spans += atomic_load(&crew_table->seats[i].spans);
        sum.bytes += atomic_load(&crew_table->seats[i].bytes);
        sum.refused += atomic_load(&crew_table->seats[i].refused);
    }
    return sum;
}

void crews_end(void)
{
    struct broker daemon;
    int status;

    atomic_store(&crew_table->ends, true);
    for (unsigned i = 0; i < CREWS; i++) {
        must(waitpid(crews[i], &status, 0) == crews[i]);
        must(status == 0);
        crews[i] = 0;
    }
    while (broker_fds(broker) != 3 + 2 + 1) { /* standard streams, its own two, the listening socket */
        crews_look_after();
        (void)usleep(1000);
    }
    daemon.pid = supervised_await_daemon(broker, 0);
    while (broker_shared_bytes(&daemon) != 0)
        (void)usleep(1000);
    broker_stop(broker);
}
