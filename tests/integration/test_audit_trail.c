/* SPDX-License-Identifier: MIT */
/* The trail of a real daemon: a record of every write of its clients, with the right digest. */
#include <check.h>
#include <dirent.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "daemon/audit.h"
#include "daemon/options.h"
#include "tests/harness/broker.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

enum {
    STEPS = 3000, /* less than a user may cause at once */
    SPANS = 16,
    SPAN_MAX_BYTES = 3000,
    LINE_BYTES = 512,
    FLOOD = 3 * AUDIT_BURST,
};

static struct broker broker;
static char folder[64];
static char path[96];
static char policy[256];
static unsigned seed;

static void make_folder(void)
{
    (void)strcpy(folder, "/tmp/jitbroker-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    if (are_we_root())
        ck_assert_int_eq(chown(folder, BROKER_UID, BROKER_UID), 0);
    (void)snprintf(path, sizeof path, "%s/audit", folder);
}

static void remove_folder(void)
{
    (void)unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

static void start(void)
{
    make_folder();
    (void)snprintf(policy, sizeof policy, "[daemon]\naudit_file=%s\n[class default]\naudit=file\n", path);
    broker_start(&broker, policy);
}

static void stop(void)
{
    if (broker.pid != 0)
        broker_stop(&broker);
    remove_folder();
}

/* A worker in a process of its own, so that the test itself can read what only the daemon's user can. */
static void run_worker_as(uid_t uid, void (*work)(void))
{
    int status;
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        become(uid);
        work();
        exit(EXIT_SUCCESS);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the worker ended with status %x",
                  (unsigned)status);
}

static void run_worker(void (*work)(void))
{
    run_worker_as(WORKER_UID, work);
}

/* ---- What is expected ------------------------------------------------------------------ */

/* The lines that the trail must have from "operation" on; what the worker expects comes by a file of its own.
 */
static FILE *expected;

static void expect_line(const char *operation, uint64_t offset, const void *bytes, size_t size,
                        const char *verdict)
{
    (void)fprintf(expected, "\"operation\":\"%s\",\"offset\":%" PRIu64 ",\"size\":%zu,\"digest\":", operation,
                  offset, size);
    if (strcmp(verdict, "ok") == 0) {
        uint8_t digest[SHA256_DIGEST_SIZE];
        struct sha256_ctx context;

        sha256_init(&context);
        sha256_update(&context, size, bytes);
        sha256_digest(&context, sizeof digest, digest);
        (void)fputs("\"sha256:", expected);
        for (size_t i = 0; i < sizeof digest; i++)
            (void)fprintf(expected, "%02x", digest[i]);
        (void)fputs("\"", expected);
    } else {
        (void)fputs("null", expected);
    }
    (void)fprintf(expected, ",\"verdict\":\"%s\"}\n", verdict);
}

/* Line by line, no more and no less; each says who did it. */
static void assert_trail(void)
{
    char line[LINE_BYTES];
    char want[LINE_BYTES];
    char who[64];
    FILE *trail = fopen(path, "re");
    unsigned count = 0;

    (void)snprintf(who, sizeof who, ",\"session\":1,\"uid\":%u,\"unit\":\"",
                   are_we_root() ? WORKER_UID : (unsigned)getuid());
    ck_assert_ptr_nonnull(trail);
    rewind(expected);
    while (fgets(want, sizeof want, expected) != NULL) {
        const char *from;

        count++;
        ck_assert_msg(fgets(line, sizeof line, trail) != NULL, "line %u is missing: %s", count, want);
        from = strstr(line, "\"operation\"");
        ck_assert_msg(from != NULL && strcmp(from, want) == 0, "line %u is\n%snot\n%s", count, line, want);
        ck_assert_msg(strstr(line, who) != NULL, "line %u is\n%s", count, line);
    }
    ck_assert_uint_gt(count, 0);
    ck_assert_msg(fgets(line, sizeof line, trail) == NULL, "there is more: %s", line);
    (void)fclose(trail);
    (void)fclose(expected);
}

/* ---- Every write ------------------------------------------------------------------------ */

static jitc_client *client;
static const uint8_t *base;

static void random_write(jitc_span *span)
{
    uint8_t bytes[SPAN_MAX_BYTES];
    size_t offset = (size_t)rand_r(&seed) % span->size;
    size_t size = (size_t)rand_r(&seed) % (span->size - offset + 1);

    size = size < sizeof bytes ? size : sizeof bytes;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)rand_r(&seed);
    assert_status(JITC_OK, "", jitc_write(client, span, offset, bytes, size, JITC_WRITE_DEFAULT));
    expect_line("write", (uint64_t)((uint8_t *)span->rx + offset - base), bytes, size, "ok");
}

static void random_patch(jitc_span *span)
{
    unsigned width = 1u << rand_r(&seed) % 4;
    size_t offset = (size_t)rand_r(&seed) % span->size / width * width;
    const uint8_t *at = (uint8_t *)span->rx + offset;
    uint64_t desired = (uint64_t)rand_r(&seed) << 32 | (unsigned)rand_r(&seed);
    uint64_t present = 0;
    int status;

    assert_status(JITC_OK, "",
                  jitc_flush(client)); /* a fresh span is trap fill once the release before is done */
    desired &= width == 8 ? UINT64_MAX : (UINT64_C(1) << width * 8) - 1;
    memcpy(&present, at, width);
    if (rand_r(&seed) % 4 == 0) {
        status = jitc_patch(client, span, offset, width, present ^ 1, desired, NULL);
        ck_assert_int_eq(status, JITC_E_MISMATCH);
        expect_line("patch", (uint64_t)(at - base), NULL, width, "mismatch");
        return;
    }
    assert_status(JITC_OK, "", jitc_patch(client, span, offset, width, present, desired, NULL));
    expect_line("patch", (uint64_t)(at - base), at, width, "ok"); /* as they stand there */
}

static void random_step(jitc_span *span)
{
    if (span->rx == NULL)
        assert_status(JITC_OK, "", jitc_alloc(client, span, 1 + (size_t)rand_r(&seed) % SPAN_MAX_BYTES));
    else if (rand_r(&seed) % 8 == 0) {
        assert_status(JITC_OK, "", jitc_release(client, span->rx));
        *span = (jitc_span){.rx = NULL};
    } else if (rand_r(&seed) % 4 == 0)
        random_patch(span);
    else
        random_write(span);
}

static void work_at_random(void)
{
    static jitc_span spans[SPANS];
    jitc_info info = {.struct_size = sizeof info};

    client = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_describe(client, &info));
    base = info.base;
    for (unsigned i = 0; i < STEPS; i++)
        random_step(&spans[(unsigned)rand_r(&seed) % SPANS]);
    client = jitc_close(client);
}

START_TEST(every_write_and_patch_has_one_record_with_the_digest_of_its_bytes)
{
    expected = tmpfile();
    run_worker(work_at_random);
    broker_stop(&broker);
    assert_trail();
}
END_TEST

/* ---- What is refused -------------------------------------------------------------------- */

static void try(struct wire *wire, enum status status, const struct request *request, const char *verdict)
{
    struct result result = wire_run(wire, request);
    bool patches = request->operation == OPERATION_PATCH;

    ck_assert_msg(result.status == status, "%s: %s", verdict, result.text);
    expect_line(patches ? "patch" : "write", request->span + request->at, request->data,
                patches ? request->width : request->data_bytes, verdict);
}

static void work_wrongly(void)
{
    struct wire *wire = wire_new(broker_socket(&broker));
    struct request alloc = {.operation = OPERATION_ALLOC, .size = 64};
    struct request write = {.operation = OPERATION_WRITE, .data = (const uint8_t *)"code", .data_bytes = 4};
    struct request patch = {.operation = OPERATION_PATCH, .width = 4, .expected = 1};
    struct request seal = {.operation = OPERATION_SEAL};
    struct request release = {.operation = OPERATION_RELEASE};

    wire_hello(wire);
    write.span = wire_run(wire, &alloc).offset;
    patch.span = seal.span = release.span = write.span;
    try(wire, STATUS_OK, &write, "ok");
    write.at = 61;
    try(wire, STATUS_OUT_OF_RANGE, &write, "out_of_range");
    write.at = 60;
    try(wire, STATUS_OK, &write, "ok");
    try(wire, STATUS_MISMATCH, &patch, "mismatch");
    patch.at = 2;
    try(wire, STATUS_MISALIGNED, &patch, "misaligned");
    patch.at = 0;
    ck_assert_int_eq((int)wire_run(wire, &seal).status, STATUS_OK);
    try(wire, STATUS_SEALED, &write, "sealed");
    try(wire, STATUS_SEALED, &patch, "sealed");
    ck_assert_int_eq((int)wire_run(wire, &release).status, STATUS_OK);
    try(wire, STATUS_NO_SPAN, &write, "no_span");
    (void)wire_free(wire);
}

START_TEST(a_refused_write_is_recorded_with_the_reason_and_nothing_else_is)
{
    expected = tmpfile();
    run_worker(work_wrongly);
    broker_stop(&broker);
    assert_trail();
}
END_TEST

/* ---- More than is recorded --------------------------------------------------------------- */

static void flood(void)
{
    jitc_span span;

    client = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
    for (unsigned i = 0; i < FLOOD; i++)
        assert_status(JITC_OK, "", jitc_write(client, &span, 0, &i, sizeof i, JITC_WRITE_DEFAULT));
    client = jitc_close(client);
}

START_TEST(of_a_flood_every_write_is_recorded_or_told_to_be_missing)
{
    char line[LINE_BYTES];
    unsigned records = 0;
    unsigned long long lost = 0;
    FILE *trail;

    run_worker(flood);
    broker_stop(&broker);
    trail = fopen(path, "re");
    ck_assert_ptr_nonnull(trail);
    while (fgets(line, sizeof line, trail) != NULL) {
        const char *number = strstr(line, "\"lost\":");

        ck_assert_ptr_nonnull(strstr(line, ",\"session\":1,"));
        records += number == NULL;
        lost += number != NULL ? strtoull(number + 7, NULL, 10) : 0;
    }
    (void)fclose(trail);
    ck_assert_uint_ge(records, AUDIT_BURST / 2);
    ck_assert_uint_eq(records + lost, FLOOD);
}
END_TEST

/* ---- Reload -------------------------------------------------------------------------------- */

static void write_once(void)
{
    jitc_span span;

    client = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, "code", 4, JITC_WRITE_DEFAULT));
    client = jitc_close(client);
}

static void until_trail_has(long bytes)
{
    struct stat status;

    while (stat(path, &status) != 0 || status.st_size < bytes)
        (void)usleep(1000);
}

static void reload_with(const char *text)
{
    FILE *file = fopen(broker.config, "we");

    ck_assert_ptr_nonnull(file);
    (void)fputs(text, file);
    (void)fclose(file);
    ck_assert_int_eq(kill(broker.pid, SIGHUP), 0);
}

/* The sessions that have a record, one after the other. */
static void assert_sessions(const char *in, const char *sessions)
{
    char line[LINE_BYTES];
    char found[64] = "";
    FILE *trail = fopen(in, "re");

    ck_assert_ptr_nonnull(trail);
    while (fgets(line, sizeof line, trail) != NULL) {
        const char *session = strstr(line, "\"session\":");

        ck_assert_ptr_nonnull(session);
        (void)strncat(found, session + strlen("\"session\":"), 1);
    }
    (void)fclose(trail);
    ck_assert_str_eq(found, sessions);
}

START_TEST(a_reload_goes_on_in_a_new_file_also_where_the_policy_is_refused)
{
    static const char *const broken[] = {
        "nonsense\n", "[daemon]\naudit_file=/nowhere/audit\n[class default]\naudit=file\n"};
    char old[128];

    (void)snprintf(old, sizeof old, "%s/old", folder);
    for (int i = 0; i < 3; i++) {
        char session[2] = {(char)('1' + i), '\0'};

        run_worker(write_once);
        until_trail_has(1);
        ck_assert_int_eq(rename(path, old), 0);
        assert_sessions(old, session);
        reload_with(i == 0 ? policy : broken[i - 1]);
        until_trail_has(0);
    }
    run_worker(write_once);
    broker_stop(&broker);
    assert_sessions(path, "4");
    (void)unlink(old);
}
END_TEST

START_TEST(a_reload_begins_the_trail_of_who_comes_next_and_ends_it)
{
    make_folder();
    (void)snprintf(policy, sizeof policy, "[daemon]\naudit_file=%s\n[class default]\naudit=file\n", path);
    broker_start(&broker, NULL);
    run_worker(write_once);
    reload_with(policy);
    until_trail_has(0);
    run_worker(write_once);
    reload_with("[class default]\n");
    while (broker_log_count(&broker, "policy_loaded:") < 2)
        (void)usleep(1000);
    run_worker(write_once);
    broker_stop(&broker);
    assert_sessions(path, "2");
    remove_folder();
}
END_TEST

/* ---- Beginning and end -------------------------------------------------------------------- */

static unsigned count_threads(const struct broker *of)
{
    char tasks[64];
    struct dirent *entry;
    unsigned count = 0;
    DIR *threads;

    (void)snprintf(tasks, sizeof tasks, "/proc/%d/task", (int)of->pid);
    threads = opendir(tasks);
    ck_assert_ptr_nonnull(threads);
    while ((entry = readdir(threads)) != NULL)
        count += entry->d_name[0] != '.';
    (void)closedir(threads);
    return count;
}

START_TEST(the_trail_is_the_daemons_alone_and_has_a_thread_of_its_own)
{
    struct broker without;
    struct stat status;

    broker_start(&without, NULL);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, 0600);
    ck_assert_uint_eq(status.st_uid, broker.uid);
    ck_assert_uint_eq(count_threads(&without), 1);
    ck_assert_uint_gt(count_threads(&broker), 1); /* the thread sanitizer then has one, too */
    broker_stop(&without);
}
END_TEST

START_TEST(only_those_of_a_class_that_has_an_audit_are_in_the_trail)
{
    if (!are_we_root())
        skip("two users are needed, which takes root");
    make_folder();
    (void)snprintf(policy, sizeof policy,
                   "[daemon]\naudit_file=%s\n[class audited]\nuid=%u\naudit=file\n[class default]\n", path,
                   OTHER_WORKER_UID);
    broker_start(&broker, policy);
    run_worker(write_once);
    run_worker_as(OTHER_WORKER_UID, write_once);
    run_worker(write_once);
    broker_stop(&broker);
    assert_sessions(path, "2");
    remove_folder();
}
END_TEST

START_TEST(where_no_class_has_an_audit_there_is_no_file)
{
    char config[256];

    make_folder();
    (void)snprintf(config, sizeof config, "[daemon]\naudit_file=%s\n[class default]\n", path);
    broker_start(&broker, config);
    run_worker(flood);
    broker_stop(&broker);
    ck_assert_int_eq(access(path, F_OK), -1);
    remove_folder();
}
END_TEST

/* The exit status of a daemon that is to keep its trail there. */
static int start_with(const char *audit_file)
{
    char config[128];
    char socket[128];
    FILE *file;
    int status;
    pid_t pid;

    (void)snprintf(config, sizeof config, "%s/jitbrokerd.conf", folder);
    (void)snprintf(socket, sizeof socket, "%s/socket", folder);
    file = fopen(config, "we");
    ck_assert_ptr_nonnull(file);
    (void)fprintf(file, "[daemon]\naudit_file=%s\n[class default]\naudit=file\n", audit_file);
    (void)fclose(file);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)execl(getenv("JITBROKER_DAEMON"), "jitbrokerd", "--socket", socket, "--config", config,
                    (char *)NULL);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(access(socket, F_OK), -1);
    (void)unlink(config);
    ck_assert_msg(WIFEXITED(status), "%x", (unsigned)status);
    return WEXITSTATUS(status);
}

START_TEST(a_daemon_whose_trail_has_no_file_serves_nobody)
{
    make_folder();
    ck_assert_int_eq(chown(folder, geteuid(), getegid()), 0); /* this daemon is of our own user */
    ck_assert_int_eq(start_with("/nowhere/audit"), EXIT_CONFIG);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(start_with(path), EXIT_CONFIG); /* nobody reads it: nor does this wait */
    remove_folder();
}
END_TEST

START_TEST(without_a_journal_clients_are_served_and_the_log_says_what_is_lost)
{
    if (access(AUDIT_JOURNAL_SOCKET, F_OK) == 0)
        skip("there is a journal");
    broker_start(&broker, "[class default]\naudit=journal\n");
    run_worker(flood);
    (void)kill(broker.pid, SIGTERM);
    ck_assert_int_eq(waitpid(broker.pid, NULL, 0), broker.pid);
    broker.pid = 0;
    ck_assert_uint_ge(broker_log_count(&broker, "records are lost, the journal takes none"), 1);
    ck_assert_uint_le(broker_log_count(&broker, "records are lost"), 3);
    broker_stop(&broker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("audit");
    TCase *trail = tcase_create("trail");
    TCase *others = tcase_create("others");
    const char *given = getenv("JITBROKER_SEED");

    seed = given != NULL ? (unsigned)strtoul(given, NULL, 0) : (unsigned)(time(NULL) ^ getpid());
    (void)printf("JITBROKER_SEED=%u\n", seed);
    tcase_add_checked_fixture(trail, start, stop);
    tcase_set_timeout(trail, 300);
    tcase_add_test(trail, every_write_and_patch_has_one_record_with_the_digest_of_its_bytes);
    tcase_add_test(trail, a_refused_write_is_recorded_with_the_reason_and_nothing_else_is);
    tcase_add_test(trail, of_a_flood_every_write_is_recorded_or_told_to_be_missing);
    tcase_add_test(trail, a_reload_goes_on_in_a_new_file_also_where_the_policy_is_refused);
    tcase_add_test(trail, the_trail_is_the_daemons_alone_and_has_a_thread_of_its_own);
    suite_add_tcase(suite, trail);

    tcase_set_timeout(others, 300);
    tcase_add_test(others, a_reload_begins_the_trail_of_who_comes_next_and_ends_it);
    tcase_add_test(others, only_those_of_a_class_that_has_an_audit_are_in_the_trail);
    tcase_add_test(others, where_no_class_has_an_audit_there_is_no_file);
    tcase_add_test(others, a_daemon_whose_trail_has_no_file_serves_nobody);
    tcase_add_test(others, without_a_journal_clients_are_served_and_the_log_says_what_is_lost);
    suite_add_tcase(suite, others);
    return suite_run(suite);
}
