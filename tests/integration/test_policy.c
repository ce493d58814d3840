/* SPDX-License-Identifier: MIT */
/*
 * Who is served and with what: classes, drop-ins, what a reload changes and what it
 * leaves, and what a file with a mistake does, which is nothing.
 */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/jitclient.h"
#include "proto/limits.h"
#include "tests/harness/attack.h"
#include "tests/harness/broker.h"
#include "tests/harness/code.h"
#include "tests/harness/expect.h"
#include "tests/harness/suite.h"

static struct broker broker;
static char drop_ins[160]; /* the folder conf.d */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static void write_drop_in(const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", drop_ins, name);
    write_file(path, text);
}

static void remove_drop_in(const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", drop_ins, name);
    (void)unlink(path);
}

static void start(void)
{
    broker_start(&broker, "[class none]\nuid=1\n");
    (void)snprintf(drop_ins, sizeof drop_ins, "%s/conf.d", broker.folder);
    ck_assert_int_eq(mkdir(drop_ins, 0755), 0);
}

static void stop(void)
{
    (void)rmdir(drop_ins);
    broker_stop(&broker);
}

/* Sends SIGHUP, and waits until the log has `text` once more. */
static void reload(const char *text)
{
    unsigned before = broker_log_count(&broker, text);

    ck_assert_int_eq(kill(broker.pid, SIGHUP), 0);
    while (broker_log_count(&broker, text) == before)
        (void)usleep(1000);
}

static void put_policy(const char *text)
{
    write_file(broker.config, text);
    reload("policy_loaded:");
}

/* As the worker's uid or another's, in a child: the status of connecting, and on success the arena's size. */
static int connect_as(uid_t uid, gid_t gid, uint64_t *arena_bytes)
{
    jitc_options options = broker_options(&broker);
    jitc_info info = {.struct_size = sizeof info};
    struct answer {
        int status;
        uint64_t arena_bytes;
    } answer = {-1, 0};
    jitc_client *client;
    int ends[2];
    pid_t pid;

    ck_assert_int_eq(pipe(ends), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (are_we_root() && (setgroups(0, NULL) != 0 || setgid(gid) != 0 || setuid(uid) != 0))
            _exit(1);
        answer.status = jitc_connect(&client, &options);
        if (answer.status == JITC_OK && jitc_describe(client, &info) == JITC_OK)
            answer.arena_bytes = info.arena_bytes;
        _exit(write(ends[1], &answer, sizeof answer) != sizeof answer);
    }
    ck_assert_int_eq(read(ends[0], &answer, sizeof answer), sizeof answer);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    (void)close(ends[0]);
    (void)close(ends[1]);
    if (arena_bytes != NULL)
        *arena_bytes = answer.arena_bytes;
    return answer.status;
}

static void assert_arena_of(uid_t uid, gid_t gid, uint64_t bytes)
{
    uint64_t got = 0;

    ck_assert_int_eq(connect_as(uid, gid, &got), JITC_OK);
    ck_assert_uint_eq(got, bytes);
}

/* ---- Classes ------------------------------------------------------------------------------- */

START_TEST(the_first_class_that_matches_is_the_peers_and_default_comes_last)
{
    if (!are_we_root())
        skip("only root can be several users");
    put_policy("[class default]\narena=64K\n"
               "[class one]\nuid=64902\narena=128K\n"
               "[class two]\nuid=64902-64903\narena=192K\n"
               "[class closed]\nuid=64904\nwrite=none\n");
    assert_arena_of(64902, 5, 128 << 10);
    assert_arena_of(64903, 5, 192 << 10);
    assert_arena_of(64905, 5, 64 << 10);
    ck_assert_int_eq(connect_as(64904, 5, NULL), JITC_E_REFUSED);
}
END_TEST

START_TEST(who_is_in_no_class_is_refused)
{
    if (!are_we_root())
        skip("only root can be several users");
    put_policy("[class one]\nuid=64902\n");
    ck_assert_int_eq(connect_as(64902, 5, NULL), JITC_OK);
    ck_assert_int_eq(connect_as(64903, 5, NULL), JITC_E_REFUSED);
    put_policy("");
    ck_assert_int_eq(connect_as(64902, 5, NULL), JITC_E_REFUSED);
    ck_assert_uint_ge(broker_log_count(&broker, "uid 64902 is in no class of the policy"), 1);
}
END_TEST

START_TEST(all_that_a_class_names_has_to_match)
{
    if (!are_we_root())
        skip("only root can be several users");
    put_policy("[class both]\nuid=64902\ngid=7-9\n");
    ck_assert_int_eq(connect_as(64902, 6, NULL), JITC_E_REFUSED);
    ck_assert_int_eq(connect_as(64902, 7, NULL), JITC_OK);
    ck_assert_int_eq(connect_as(64902, 9, NULL), JITC_OK);
    ck_assert_int_eq(connect_as(64902, 10, NULL), JITC_E_REFUSED);
    ck_assert_int_eq(connect_as(64903, 7, NULL), JITC_E_REFUSED);
}
END_TEST

/* A control group of the hierarchy by which systemd names units, or "" where none can be made. */
static void make_unit(char *folder, size_t bytes)
{
    static const char *const places[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd",
                                         "/sys/fs/cgroup"};

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char list[64];

        (void)snprintf(list, sizeof list, "%s/cgroup.procs", places[i]);
        (void)snprintf(folder, bytes, "%s/jitbroker-test@1.service", places[i]);
        if (access(list, F_OK) == 0 && (mkdir(folder, 0755) == 0 || errno == EEXIST))
            return;
    }
    folder[0] = '\0';
}

static bool move_into(const char *folder)
{
    char list[160];
    FILE *file;
    bool moved;

    (void)snprintf(list, sizeof list, "%s/cgroup.procs", folder);
    file = fopen(list, "we");
    if (file == NULL)
        return false;
    moved = fprintf(file, "%d\n", (int)getpid()) > 0;
    return fclose(file) == 0 && moved;
}

static int connect_from(const char *folder)
{
    jitc_options options = broker_options(&broker);
    jitc_client *client;
    int status;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (!move_into(folder))
            _exit(255);
        become(WORKER_UID);
        _exit(jitc_connect(&client, &options));
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(a_class_matches_by_the_systemd_unit_of_the_peer)
{
    char folder[128];
    int status;

    if (!are_we_root())
        skip("only root makes control groups");
    make_unit(folder, sizeof folder);
    if (folder[0] == '\0')
        skip("no control group can be made here");
    put_policy("[class unit]\nunit=jitbroker-test@*.service\n");
    ck_assert_int_eq(connect_as(WORKER_UID, 5, NULL), JITC_E_REFUSED);
    status = connect_from(folder);
    if (status != 255 && broker_log_count(&broker, "unit= matches nobody") == 0) {
        ck_assert_int_eq(status, JITC_OK);
        ck_assert_uint_ge(broker_log_count(&broker, "unit=jitbroker-test@1.service class=unit"), 1);
        put_policy("[class unit]\nunit=jitbroker-test@2.service\n");
        ck_assert_int_eq(connect_from(folder), JITC_E_REFUSED);
    }
    (void)rmdir(folder);
    if (status == 255)
        skip("nobody can be moved into a control group here");
}
END_TEST

/* ---- Files --------------------------------------------------------------------------------- */

START_TEST(drop_ins_override_key_by_key_in_the_order_of_their_names)
{
    write_drop_in("20-later.conf", "[class all]\narena=192K\n");
    write_drop_in("10-first.conf", "[class all]\narena=128K\narena_max=1M\n");
    write_drop_in("30-no.config", "not read");
    write_drop_in(".hidden.conf", "not read");
    put_policy("[class all]\nuid=any\narena=64K\narena_max=2M\n");
    assert_arena_of(WORKER_UID, 5, 192 << 10);
    remove_drop_in("20-later.conf");
    reload("policy_loaded:");
    assert_arena_of(WORKER_UID, 5, 128 << 10);
    write_drop_in("10-first.conf", "[class all]\narena=2M\narena_max=1M\n");
    reload("10-first.conf:2: arena=2097152 is above arena_max=1048576");
    assert_arena_of(WORKER_UID, 5, 128 << 10);
    remove_drop_in("10-first.conf");
    remove_drop_in("30-no.config");
    remove_drop_in(".hidden.conf");
}
END_TEST

/* The policy in force still serves by 64 KiB. */
static void assert_the_old_one_stays(const char *reason)
{
    reload(reason);
    while (broker_log_count(&broker, "policy_refused:") == 0)
        (void)usleep(1000);
    assert_arena_of(WORKER_UID, 5, 64 << 10);
    attack_met(reason);
}

START_TEST(a_file_with_a_mistake_changes_nothing_and_is_told)
{
    char text[256];
    FILE *file;

    tries("policy-file");
    put_policy("[class all]\nuid=any\narena=64K\n");
    write_file(broker.config, "[class all]\nuid=any\narena=128K\nrate=x\n");
    assert_the_old_one_stays(":4: rate=x: not a whole number");
    write_file(broker.config, "[class all]\nuid=any\narena=128K\nwrite=direct\nscan=deny\n");
    assert_the_old_one_stays(":5: with write=direct nothing can be scanned");
    write_file(broker.config, "[class all]\nuid=any\narena=128K\nwrite=direct\nwrite_once=yes\n");
    assert_the_old_one_stays(":5: write_once=yes can't be kept");
    write_file(broker.config, "[class all]\nuid=any\naudit=file\n");
    assert_the_old_one_stays(":3: audit=file needs audit_file=");
    write_file(broker.config, "[class all]\narena=128K\n");
    assert_the_old_one_stays(":1: [class all] does not say who is in it");
    ck_assert_int_eq(unlink(broker.config), 0);
    assert_the_old_one_stays("No such file or directory");
    ck_assert_int_eq(mkdir(broker.config, 0755), 0);
    assert_the_old_one_stays("not a regular file");
    ck_assert_int_eq(rmdir(broker.config), 0);
    ck_assert_int_eq(mkfifo(broker.config, 0644), 0);
    assert_the_old_one_stays("not a regular file");
    ck_assert_int_eq(unlink(broker.config), 0);
    /* A million lines: the first 1 MiB of them would be read. */
    file = fopen(broker.config, "we");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 1000000; i++)
        (void)fputs("#\n", file);
    ck_assert_int_eq(fclose(file), 0);
    assert_the_old_one_stays("larger than 1048576 bytes");
    if (are_we_root()) {
        write_file(broker.config, "[class all]\nuid=any\narena=128K\n");
        ck_assert_int_eq(chmod(broker.config, 0), 0);
        assert_the_old_one_stays("Permission denied");
        ck_assert_int_eq(chmod(broker.config, 0644), 0);
    }
    (void)snprintf(text, sizeof text, "[class all]\nuid=any\narena=192K\n");
    put_policy(text);
    assert_arena_of(WORKER_UID, 5, 192 << 10);
}
END_TEST

/* ---- Reload ---------------------------------------------------------------------------------- */

START_TEST(who_is_connected_keeps_what_it_was_granted)
{
    uint8_t code[CODE_RETURN_BYTES];
    jitc_options options = broker_options(&broker);
    jitc_client *client;
    jitc_client *next;
    jitc_span span;

    put_policy("[class all]\nuid=any\nspan_max=3\n");
    assert_status(JITC_OK, "", jitc_connect(&client, &options));
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
    put_policy("[class all]\nuid=any\nspan_max=1\nwrite_once=yes\n");
    /* The old session still has its three spans, and writes as often as it likes. */
    for (uint32_t value = 1; value <= 2; value++) {
        (void)code_return(code, value);
        assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
        ck_assert_uint_eq(code_call(span.rx), value);
    }
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 64));
    assert_status(JITC_OK, "", jitc_connect(&next, &options));
    assert_status(JITC_OK, "", jitc_alloc(next, &span, 64));
    assert_status(JITC_E_QUOTA_SPANS, "its 1 spans", jitc_alloc(next, &span, 64));
    (void)jitc_close(next);
    put_policy("[class nobody]\nuid=1\n");
    ck_assert_int_eq(jitc_connect(&next, &options), JITC_E_REFUSED);
    assert_status(JITC_OK, "", jitc_flush(client));
    (void)jitc_close(client);
}
END_TEST

/* ---- What a class grants -------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

START_TEST(bytes_are_held_to_their_rate_and_none_is_lost)
{
    static uint8_t data[1 << 20];
    jitc_client *client;
    jitc_span span;
    double began;

    put_policy("[class all]\nuid=any\nrate=0 4M\n");
    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, sizeof data));
    began = seconds();
    for (int i = 0; i < 3; i++) {
        memset(data, 0x90 + i, sizeof data);
        assert_status(JITC_OK, "", jitc_write(client, &span, 0, data, sizeof data, JITC_WRITE_DEFAULT));
        ck_assert_mem_eq(span.rx, data, sizeof data);
    }
    /* 3 MiB at 4 MiB a second, of which the first tenth of a second's may come at once. */
    ck_assert_double_ge(seconds() - began, 0.6);
    (void)jitc_close(client);
}
END_TEST

/* What takes hundreds of steps, on the ring, is one operation all the same. */
START_TEST(an_operation_is_one_of_the_rate_however_many_steps_it_takes)
{
    jitc_client *client;
    jitc_span span;
    double began;

    put_policy("[class all]\nuid=any\nrate=10\n");
    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    began = seconds();
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 32 << 20));
    assert_status(JITC_OK, "", jitc_release(client, span.rx));
    assert_status(JITC_OK, "", jitc_flush(client));
    /* The two of them take a few tenths of a second; their 1,024 steps would take 100. */
    ck_assert_double_lt(seconds() - began, 50);
    (void)jitc_close(client);
}
END_TEST

START_TEST(code_is_written_once_where_the_class_says_so)
{
    const uint8_t byte = 0x90;
    static uint8_t large[200000];
    uint8_t code[CODE_RETURN_BYTES];
    jitc_client *client;
    jitc_span span;
    jitc_span other;

    put_policy("[class all]\nuid=any\nwrite_once=yes\n");
    become(WORKER_UID);
    client = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 256));
    (void)code_return(code, 7);
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(span.rx), 7);
    /* The same granule, although the bytes were never written; the last one's end; and the next granule. */
    assert_status(JITC_E_SEALED, "written once", jitc_write(client, &span, 63, &byte, 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_SEALED, "written once", jitc_write(client, &span, 63, large, 2, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_SEALED, "written once", jitc_patch(client, &span, 0, 1, code[0], 0xCC, NULL));
    assert_status(JITC_OK, "", jitc_write(client, &span, 64, &byte, 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_patch(client, &span, 128, 1, 0xCC, 0x90, NULL));
    assert_status(JITC_E_SEALED, "written once", jitc_patch(client, &span, 129, 1, 0xCC, 0x90, NULL));
    ck_assert_uint_eq(code_call(span.rx), 7);
    ck_assert_uint_eq(((const uint8_t *)span.rx)[63], 0xCC);

    /* What comes in parts is one write all the same, wherever it starts. */
    assert_status(JITC_OK, "", jitc_alloc(client, &other, sizeof large));
    memset(large, 0xC3, sizeof large);
    assert_status(JITC_OK, "", jitc_write(client, &other, 13, large, sizeof large - 13, JITC_WRITE_DEFAULT));
    ck_assert_mem_eq((const uint8_t *)other.rx + 13, large, sizeof large - 13);
    assert_status(JITC_E_SEALED, "written once",
                  jitc_write(client, &other, 100000, large, 1, JITC_WRITE_DEFAULT));

    /* Released memory traps before it is anyone's again, and takes a write then. */
    assert_status(JITC_OK, "", jitc_release(client, span.rx));
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 256));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_shrink(client, &span, 64));
    assert_status(JITC_E_SEALED, "written once",
                  jitc_write(client, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    assert_status(JITC_OK, "", jitc_reset(client, JITC_RESET_SOFT));
    assert_status(JITC_OK, "", jitc_alloc(client, &span, 4096));
    assert_status(JITC_OK, "", jitc_write(client, &span, 0, large, 4096, JITC_WRITE_DEFAULT));
    (void)jitc_close(client);
}
END_TEST

/* ---- Asking ---------------------------------------------------------------------------------- */

/* Runs the daemon's program with these arguments; its output is in `text`. Returns its exit status. */
static int ask(char *text, size_t bytes, const char *arguments)
{
    char command[512];
    size_t used;
    FILE *output;
    int status;

    (void)snprintf(command, sizeof command, "%s --config=%s %s 2>&1", broker.program, broker.config,
                   arguments);
    output = popen(command, "re");
    ck_assert_ptr_nonnull(output);
    used = fread(text, 1, bytes - 1, output);
    text[used] = '\0';
    status = pclose(output);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define assert_says(text, part) ck_assert_msg(strstr(text, part) != NULL, "not \"%s\" in:\n%s", part, text)

START_TEST(explain_says_what_a_peer_gets_and_by_which_line)
{
    char text[8192];

    write_file(broker.config, "[class first]\nuid=33\ngid=7\n[class second]\nuid=33\nbytes_max=64M\n"
                              "[class third]\nunit=a*.service\nwrite=none\n");
    write_drop_in("a.conf", "[class second]\nrate=5 1M\n");
    ck_assert_int_eq(ask(text, sizeof text, "--explain --uid=33"), 0);
    assert_says(text, "not in [class first]: gid=7  ");
    assert_says(text, "jitbrokerd.conf:3\n");
    assert_says(text, "in [class second]  ");
    assert_says(text, "  bytes_max=64M  ");
    assert_says(text, "jitbrokerd.conf:6\n");
    assert_says(text, "  rate=5 1M  ");
    assert_says(text, "conf.d/a.conf:2\n");
    assert_says(text, "  arena_max=256M  default\n");
    ck_assert_int_eq(ask(text, sizeof text, "--explain --uid=33 --gid=7"), 0);
    assert_says(text, "in [class first]  ");
    ck_assert_int_eq(ask(text, sizeof text, "--explain --uid=1 --unit=ab.service"), 1);
    assert_says(text, "in [class third]  ");
    assert_says(text, "refused: write=none");
    ck_assert_int_eq(ask(text, sizeof text, "--explain --uid=1"), 1);
    assert_says(text, "not in [class third]: unit=a*.service  ");
    assert_says(text, "refused: in no class");
    ck_assert_int_eq(ask(text, sizeof text, "--explain"), 2);
    ck_assert_int_eq(ask(text, sizeof text, "--uid=3"), 2);
    ck_assert_int_eq(ask(text, sizeof text, "--explain --uid=x"), 2);
    ck_assert_int_eq(ask(text, sizeof text, "--check-config"), 0);
    assert_says(text, "jitbrokerd.conf: ok\n");
    assert_says(text, "conf.d/a.conf: ok\n");
    write_drop_in("a.conf", "[class second]\nrate=5 1X\n");
    ck_assert_int_eq(ask(text, sizeof text, "--check-config"), 78);
    assert_says(text, "conf.d/a.conf:2: rate=1X: not a whole number");
    ck_assert_int_eq(ask(text, sizeof text, "--explain --uid=33"), 78);
    remove_drop_in("a.conf");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("policy");
    TCase *tcase = tcase_create("policy");

    tcase_add_unchecked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, the_first_class_that_matches_is_the_peers_and_default_comes_last);
    tcase_add_test(tcase, who_is_in_no_class_is_refused);
    tcase_add_test(tcase, all_that_a_class_names_has_to_match);
    tcase_add_test(tcase, a_class_matches_by_the_systemd_unit_of_the_peer);
    tcase_add_test(tcase, drop_ins_override_key_by_key_in_the_order_of_their_names);
    tcase_add_test(tcase, a_file_with_a_mistake_changes_nothing_and_is_told);
    tcase_add_test(tcase, who_is_connected_keeps_what_it_was_granted);
    tcase_add_test(tcase, bytes_are_held_to_their_rate_and_none_is_lost);
    tcase_add_test(tcase, an_operation_is_one_of_the_rate_however_many_steps_it_takes);
    tcase_add_test(tcase, code_is_written_once_where_the_class_says_so);
    tcase_add_test(tcase, explain_says_what_a_peer_gets_and_by_which_line);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
