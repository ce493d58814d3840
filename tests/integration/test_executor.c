/* SPDX-License-Identifier: MIT */
/* Executors, ends of a session for other processes: they run its code, and can do nothing else to it. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/harness/smaps.h"
#include "tests/harness/wire.h"
#include "tests/integration/executor_steps.h"

enum { EXECUTORS = 8 };

/* LeakSanitizer looks for leaks with ptrace, which the lockdown denies, and takes that ill. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

static void start_direct(void)
{
    broker_start(&broker, "[class default]\nwrite=direct\n");
}

static void start_huge(void)
{
    broker_start(&broker, "[class default]\nhuge_pages=yes\n");
}

/* ---- What it can do ------------------------------------------------------------------------- */

static void run_all(jitc_client *executor, int channel)
{
    const uint8_t *base = base_of(executor);
    jitc_stats stats = {.struct_size = sizeof stats};
    jitc_span span;
    uint64_t offset;

    ck_assert_uint_eq(jitc_lockdown(0) & JITC_LOCKDOWN_SECCOMP, 0);
    while ((offset = hear(channel)) != 0) {
        assert_status(JITC_OK, "", jitc_query(executor, &span, base + offset + 1));
        ck_assert_ptr_eq(span.rx, base + offset);
        ck_assert_ptr_null(span.rw);
        assert_status(JITC_OK, "", jitc_sync(executor, &span));
        say(channel, code_call(span.rx));
    }
    assert_status(JITC_OK, "", jitc_statistics(executor, &stats));
    say(channel, stats.allocation_count);
    assert_status(JITC_OK, "", jitc_flush(executor));
    (void)jitc_close(executor);
}

START_TEST(it_runs_what_its_owner_writes_before_and_after_it_came)
{
    struct other other = start_other(run_all);
    jitc_client *owner;
    jitc_span spans[100];
    jitc_span large;
    uint8_t code[CODE_RETURN_BYTES];

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    spans[0] = make_code(owner, 1000);
    pass(&other, open_end(owner));
    for (uint32_t i = 0; i < 100; i++) {
        if (i > 0)
            spans[i] = make_code(owner, 1000 + i);
        say(other.channel, offset_of(owner, &spans[i]));
        ck_assert_uint_eq(hear_other(&other), 1000 + i);
    }
    /* Beyond all that there was when it mapped the arena. */
    assert_status(JITC_OK, "", jitc_alloc(owner, &large, 8u << 20));
    code_return(code, 77);
    assert_status(JITC_OK, "", jitc_write(owner, &large, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    say(other.channel, offset_of(owner, &large));
    ck_assert_uint_eq(hear_other(&other), 77);
    /* What was released and made anew at the same place. */
    assert_status(JITC_OK, "", jitc_release(owner, spans[0].rx));
    spans[0] = make_code(owner, 5000);
    say(other.channel, offset_of(owner, &spans[0]));
    ck_assert_uint_eq(hear_other(&other), 5000);
    say(other.channel, 0);
    ck_assert_uint_eq(hear_other(&other), 101);
    wait_for(&other);
    /* The owner does not mind. */
    ck_assert_uint_eq(code_call(make_code(owner, 7).rx), 7);
    (void)jitc_close(owner);
}
END_TEST

START_TEST(it_is_told_what_its_owner_was_granted)
{
    jitc_options options = broker_options(&broker);
    jitc_client *owner;
    jitc_client *executor;
    jitc_info theirs = {.struct_size = sizeof theirs};
    jitc_info ours = {.struct_size = sizeof ours};
    jitc_info old = {.struct_size = offsetof(jitc_info, is_executor), .is_executor = 77};

    become(WORKER_UID);
    options.arena_bytes = 3 << 20;
    options.granularity = 256;
#if defined(__x86_64__)
    options.fill_pattern = 0xF4F4F4F4u;
#endif
    options.write_mode = JITC_WRITE_THROUGH;
    assert_status(JITC_OK, "", jitc_connect(&owner, &options));
    executor = attach(open_end(owner));
    assert_status(JITC_OK, "", jitc_describe(owner, &theirs));
    assert_status(JITC_OK, "", jitc_describe(executor, &ours));
    ck_assert_int_eq(theirs.is_executor, 0);
    ck_assert_int_eq(ours.is_executor, 1);
    ck_assert_ptr_ne(ours.base, theirs.base);
    ours.base = theirs.base;
    ours.is_executor = 0;
    ck_assert_mem_eq(&ours, &theirs, sizeof ours);
    /* A program of 0.1.0 has a shorter struct, and gets no more than that. */
    assert_status(JITC_OK, "", jitc_describe(executor, &old));
    ck_assert_int_eq(old.is_executor, 77);
    old.struct_size--;
    assert_status(JITC_E_INVALID, "struct_size", jitc_describe(executor, &old));
    (void)jitc_close(executor);
    (void)jitc_close(owner);
}
END_TEST

static uint64_t smaps_kib(const void *address, const char *name)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    size_t length = strlen(name);
    bool is_it = false;
    uint64_t kib = UINT64_MAX;

    ck_assert_ptr_nonnull(file);
    while (kib == UINT64_MAX && fgets(line, sizeof line, file) != NULL) {
        uint64_t from;
        uint64_t to;

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2)
            is_it = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (is_it && strncmp(line, name, length) == 0 && line[length] == ':')
            kib = strtoull(line + length + 1, NULL, 10);
    }
    (void)fclose(file);
    ck_assert_uint_ne(kib, UINT64_MAX);
    return kib;
}

enum { LARGE_BYTES = 4 << 20 };

/* Touches all of a large span, and tells the kernel's figures when everybody has. */
static void weigh(jitc_client *executor, int channel)
{
    const uint8_t *large = base_of(executor) + hear(channel);
    volatile uint8_t sum = 0;

    for (size_t at = 0; at < LARGE_BYTES; at += 4096)
        sum = (uint8_t)(sum + large[at]);
    say(channel, 1);
    (void)hear(channel);
    say(channel, smaps_kib(large, "Rss"));
    say(channel, smaps_kib(large, "Pss"));
    (void)hear(channel);
    (void)jitc_close(executor);
}

START_TEST(all_of_them_share_one_physical_copy)
{
    struct other others[4];
    static uint8_t content[LARGE_BYTES];
    jitc_client *owner;
    jitc_span span;
    uint64_t pss = 0;

    for (int i = 0; i < 4; i++)
        others[i] = start_other(weigh);
    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    assert_status(JITC_OK, "", jitc_alloc(owner, &span, LARGE_BYTES));
    assert_status(JITC_OK, "", jitc_write(owner, &span, 0, content, LARGE_BYTES, JITC_WRITE_DEFAULT));
    for (int i = 0; i < 4; i++) {
        pass(&others[i], open_end(owner));
        say(others[i].channel, offset_of(owner, &span));
    }
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(hear_other(&others[i]), 1);
    for (int i = 0; i < 4; i++) {
        say(others[i].channel, 1);
        ck_assert_uint_ge(hear_other(&others[i]), LARGE_BYTES >> 10);
        pss += hear_other(&others[i]);
    }
    /* The daemon has its share, too. */
    ck_assert_uint_le(pss, LARGE_BYTES >> 10);
    for (int i = 0; i < 4; i++) {
        say(others[i].channel, 1);
        wait_for(&others[i]);
    }
    (void)jitc_close(owner);
}
END_TEST

START_TEST(a_patch_is_seen_by_who_syncs)
{
    jitc_client *owner;
    jitc_client *executor;
    uint8_t code[16] = {0};
    uint64_t word[2];
    jitc_span span;
    jitc_span there;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    executor = attach(open_end(owner));
    span = make_code(owner, 1);
    assert_status(JITC_OK, "", jitc_query(executor, &there, base_of(executor) + offset_of(owner, &span)));
    ck_assert_uint_eq(code_call(there.rx), 1);
    for (uint32_t value = 1; value < 200; value++) {
        (void)memcpy(code, span.rx, sizeof code);
        (void)memcpy(&word[0], code, 8);
        code_return(code, value + 1);
        (void)memcpy(&word[1], code, 8);
        assert_status(JITC_OK, "", jitc_patch(owner, &span, 0, 8, word[0], word[1], NULL));
        assert_status(JITC_OK, "", jitc_sync(executor, &there));
        ck_assert_uint_eq(code_call(there.rx), value + 1);
    }
    there.size++;
    there.rx = (uint8_t *)there.rx + (64u << 20) - offset_of(owner, &span) - 64;
    assert_status(JITC_E_OUT_OF_RANGE, "", jitc_sync(executor, &there));
    assert_status(JITC_E_FOREIGN_POINTER, "", jitc_sync(executor, &span));
    (void)jitc_close(executor);
    (void)jitc_close(owner);
}
END_TEST

START_TEST(of_a_direct_session_it_gets_no_writable_descriptor)
{
    jitc_client *owner;
    jitc_client *executor;
    jitc_info info = {.struct_size = sizeof info};
    struct wire *wire;
    jitc_span span;
    jitc_span there;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    span = make_code(owner, 5);
    ck_assert_ptr_nonnull(span.rw);
    assert_status(JITC_OK, "", jitc_flush(owner)); /* what is written directly tells the daemon nothing */
    wire = wire_new(open_end(owner));
    wire_hello(wire);
    ck_assert_uint_eq(wire->record.fds_count, 1);
    ck_assert_uint_eq(wire->reply.welcome.write_mode, WRITE_THROUGH);
    ck_assert(wire->reply.welcome.executor);
    ck_assert_ptr_eq(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, wire->record.fds[0], 0),
                     MAP_FAILED);
    ck_assert_int_eq(errno, EACCES);
    (void)wire_free(wire);
    executor = attach(open_end(owner));
    assert_status(JITC_OK, "", jitc_describe(executor, &info));
    ck_assert_int_eq(info.write_mode, JITC_WRITE_THROUGH);
    assert_status(JITC_OK, "", jitc_query(executor, &there, base_of(executor) + offset_of(owner, &span)));
    ck_assert_ptr_null(there.rw);
    ck_assert_uint_eq(code_call(there.rx), 5);
    (void)jitc_close(executor);
    (void)jitc_close(owner);
}
END_TEST

START_TEST(huge_pages_of_its_owner_show_in_its_mapping)
{
    jitc_options options = broker_options(&broker);
    jitc_client *owner;
    jitc_client *executor;
    jitc_info info = {.struct_size = sizeof info};

    become(WORKER_UID);
    options.flags = JITC_LARGE_PAGES;
    owner = broker_connect(&broker, &options);
    assert_status(JITC_OK, "", jitc_describe(owner, &info));
    if (!info.has_large_pages)
        skip("no huge pages here");
    executor = attach(open_end(owner));
    assert_status(JITC_OK, "", jitc_describe(executor, &info));
    ck_assert_int_eq(info.has_large_pages, 1);
    ck_assert_uint_eq((uintptr_t)info.base % (2u << 20), 0);
    (void)jitc_close(executor);
    (void)jitc_close(owner);
}
END_TEST

/* ---- What it can't ---------------------------------------------------------------------------- */

/* Who may do so once this process is another user: stops the daemon when the descriptor is closed. */
static int prepare_to_stop_daemon(int *stopped)
{
    int go[2];
    int done[2];

    ck_assert_int_eq(pipe(go), 0);
    ck_assert_int_eq(pipe(done), 0);
    if (check_fork() == 0) {
        char byte;

        (void)close(go[1]);
        (void)close(done[0]);
        exit(read(go[0], &byte, 1) == 0 && kill(broker.pid, SIGSTOP) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    (void)close(go[0]);
    (void)close(done[1]);
    *stopped = done[0];
    return go[1];
}

static int no_callback(jitc_span *span, void *user)
{
    (void)span, (void)user;
    ck_abort_msg("the callback was called");
}

START_TEST(the_library_refuses_all_else_without_asking)
{
    jitc_client *owner;
    jitc_client *executor;
    jitc_scope *scope = NULL;
    jitc_span span;
    jitc_span there;
    jitc_span none;
    int fd = -7;
    int stopped;
    int stopper = prepare_to_stop_daemon(&stopped);
    char byte;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    span = make_code(owner, 5);
    executor = attach(open_end(owner));
    assert_status(JITC_OK, "", jitc_query(executor, &there, base_of(executor) + offset_of(owner, &span)));
    (void)close(stopper);
    ck_assert_int_eq(read(stopped, &byte, 1), 0); /* from here on nobody can be asked */
    assert_status(JITC_E_REFUSED, "is an executor", jitc_alloc(executor, &none, 64));
    assert_status(JITC_E_REFUSED, "is an executor", jitc_release(executor, there.rx));
    assert_status(JITC_E_REFUSED, "is an executor", jitc_shrink(executor, &there, 1));
    assert_status(JITC_E_REFUSED, "is an executor", jitc_shrink(executor, &there, 0));
    assert_status(JITC_E_REFUSED, "is an executor",
                  jitc_write(executor, &there, 0, "x", 1, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_REFUSED, "is an executor",
                  jitc_write(executor, &there, 0, "", 0, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_REFUSED, "is an executor",
                  jitc_write_fn(executor, &there, no_callback, NULL, JITC_WRITE_DEFAULT));
    assert_status(JITC_E_REFUSED, "is an executor", jitc_scope_begin(executor, &scope, JITC_WRITE_DEFAULT));
    ck_assert_ptr_null(scope);
    assert_status(JITC_E_REFUSED, "is an executor", jitc_patch(executor, &there, 0, 1, 0, 1, NULL));
    assert_status(JITC_E_REFUSED, "is an executor", jitc_seal(executor, &there));
    assert_status(JITC_E_REFUSED, "is an executor", jitc_reset(executor, JITC_RESET_HARD));
    assert_status(JITC_E_REFUSED, "is an executor", jitc_open_executor(executor, &fd));
    ck_assert_int_eq(fd, -7);
    ck_assert_uint_eq(code_call(there.rx), 5);
    (void)jitc_close(executor);
    (void)jitc_close(owner);
}
END_TEST

START_TEST(the_daemon_refuses_all_else_whatever_is_sent)
{
    static const struct request requests[] = {
        {.operation = OPERATION_ALLOC, .size = 64},
        {.operation = OPERATION_RELEASE, .span = 64},
        {.operation = OPERATION_SHRINK, .span = 64, .size = 1},
        {.operation = OPERATION_WRITE, .span = 64, .data = (const uint8_t *)"x", .data_bytes = 1},
        {.operation = OPERATION_PATCH, .span = 64, .width = 1, .expected = 0xB8, .desired = 0xCC},
        {.operation = OPERATION_SEAL, .span = 64},
        {.operation = OPERATION_RESET},
        {.operation = OPERATION_RESET, .kind = RESET_HARD},
        {.operation = OPERATION_LEASE, .size = 64},
        {.operation = OPERATION_CARVE, .span = 128, .size = 64},
        {.operation = OPERATION_RETURN, .span = 0},
        /* Where its owner would be refused for another reason, too. */
        {.operation = OPERATION_ALLOC},
        {.operation = OPERATION_RELEASE, .span = 64, .filled = true},
    };
    const struct request query = {.operation = OPERATION_QUERY, .span = 65};
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    struct result before;
    struct result result;
    struct buffer out;
    jitc_client *owner;
    struct wire *wire;
    jitc_span span;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    span = make_code(owner, 5);
    wire = wire_new(open_end(owner));
    wire_hello(wire);
    before = wire_run(wire, &statistics);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        result = wire_run(wire, &requests[i]);
        ck_assert_msg(result.status == STATUS_REFUSED && strstr(result.text, "only runs and queries") != NULL,
                      "%s: %d: %s", operation_name(requests[i].operation), (int)result.status, result.text);
    }
    /* In one request each operation stands for itself. */
    out = wire_begin(wire);
    ck_assert(codec_put_operation(&out, &query));
    ck_assert(codec_put_operation(&out, &requests[0]));
    ck_assert(codec_put_operation(&out, &statistics));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_uint_eq(wire->reply.results_count, 3);
    codec_result(&wire->reply, 0, &result);
    ck_assert_int_eq(result.status, STATUS_OK);
    codec_result(&wire->reply, 1, &result);
    ck_assert_int_eq(result.status, STATUS_REFUSED);
    codec_result(&wire->reply, 2, &result);
    ck_assert_int_eq(result.status, STATUS_OK);
    ck_assert_mem_eq(&result.usage, &before.usage, sizeof result.usage);
    out = wire_begin(wire);
    ck_assert(codec_put_open_executor(&out));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert(wire->reply.has_error && wire->reply.error.status == STATUS_REFUSED);
    ck_assert_uint_eq(wire->record.fds_count, 0);
    ck_assert_uint_eq(code_call(span.rx), 5);
    (void)wire_free(wire);
    (void)jitc_close(owner);
}
END_TEST

static void assert_hello_refused(jitc_client *owner, struct hello hello, enum status status,
                                 const char *field)
{
    struct wire *wire = wire_new(open_end(owner));
    struct buffer out = wire_begin(wire);

    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert_msg(wire->reply.has_error && wire->reply.error.status == status &&
                      strcmp(wire->reply.error.field, field) == 0,
                  "%d: %s: %s", (int)wire->reply.error.status, wire->reply.error.field,
                  wire->reply.error.text);
    wire_expect_end(wire);
    (void)wire_free(wire);
}

START_TEST(its_hello_says_nothing_of_the_arena)
{
    const struct hello plain = {.version_min = 1, .version_max = 1};
    struct hello hello = plain;
    struct buffer out;
    jitc_client *owner;
    struct wire *wire;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    hello.granularity = 64;
    assert_hello_refused(owner, hello, STATUS_INVALID, "granularity");
    hello = plain;
    hello.fill_pattern = FILL_PATTERN_DEFAULT;
    assert_hello_refused(owner, hello, STATUS_INVALID, "fill_pattern");
    hello = plain;
    hello.write_mode = WRITE_THROUGH;
    assert_hello_refused(owner, hello, STATUS_INVALID, "write_mode");
    hello = plain;
    hello.arena_bytes = 1;
    assert_hello_refused(owner, hello, STATUS_INVALID, "arena_bytes");
    hello = plain;
    hello.version_max = 0;
    hello.version_min = 0;
    assert_hello_refused(owner, hello, STATUS_VERSION, "version_max");

    /* All features may be wished for. Those of an owner are not granted. */
    wire = wire_new(open_end(owner));
    out = wire_begin(wire);
    hello = plain;
    hello.features = UINT64_MAX;
    ck_assert(codec_put_hello(&out, &hello));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert(wire->reply.has_welcome);
    ck_assert_uint_eq(wire->reply.welcome.features, 0);
    ck_assert_uint_eq(wire->reply.welcome.ring_bytes, 0);
    ck_assert_uint_eq(wire->record.fds_count, 1);
    /* One is enough. */
    out = wire_begin(wire);
    ck_assert(codec_put_hello(&out, &plain));
    wire_send(wire, &out);
    wire_receive(wire);
    ck_assert(wire->reply.has_error && wire->reply.error.status == STATUS_PROTOCOL);
    (void)wire_free(wire);
    /* Nothing comes before it. */
    wire = wire_new(open_end(owner));
    out = wire_begin(wire);
    wire_send(wire, &out);
    wire_expect_goodbye(wire, STATUS_PROTOCOL, "first request is Hello");
    (void)wire_free(wire);
    ck_assert_uint_eq(code_call(make_code(owner, 3).rx), 3);
    (void)jitc_close(owner);
}
END_TEST

START_TEST(each_role_has_its_way_in)
{
    jitc_options options = broker_options(&broker);
    jitc_client *owner;
    jitc_client *other = NULL;
    int pair[2];

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    assert_status(JITC_E_INVALID, "use jitc_attach", jitc_adopt(&other, open_end(owner), &options));
    assert_status(JITC_E_INVALID, "no executor's", jitc_attach(&other, broker_socket(&broker)));
    assert_status(JITC_E_SYSTEM, "descriptor -1", jitc_attach(&other, -1));
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_status(JITC_E_INVALID, "SOCK_SEQPACKET", jitc_attach(&other, pair[0]));
    ck_assert_int_eq(close(pair[0]), -1); /* it was taken over */
    (void)close(pair[1]);
    ck_assert_ptr_null(other);
    assert_status(JITC_E_INVALID, "fd is NULL", jitc_open_executor(owner, NULL));
    assert_status(JITC_E_INVALID, "client is NULL", jitc_open_executor(NULL, pair));
    (void)jitc_close(owner);
}
END_TEST

START_TEST(a_child_of_an_executor_runs_and_asks_nothing)
{
    jitc_client *owner;
    jitc_client *executor;
    jitc_span span;
    jitc_span there;
    pid_t pid;
    int status = -1;
    int fd;

    become(WORKER_UID);
    owner = broker_connect(&broker, NULL);
    span = make_code(owner, 9);
    executor = attach(open_end(owner));
    assert_status(JITC_OK, "", jitc_query(executor, &there, base_of(executor) + offset_of(owner, &span)));
    pid = check_fork();
    if (pid == 0) {
        ck_assert_uint_eq(code_call(there.rx), 9);
        assert_status(JITC_E_FORKED, "", jitc_query(executor, &span, there.rx));
        assert_status(JITC_E_FORKED, "", jitc_alloc(executor, &span, 1));
        assert_status(JITC_E_FORKED, "", jitc_sync(executor, &there));
        assert_status(JITC_E_FORKED, "", jitc_open_executor(owner, &fd));
        (void)jitc_close(executor);
        (void)jitc_close(owner);
        exit(EXIT_SUCCESS);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    assert_status(JITC_OK, "", jitc_query(executor, &there, there.rx));
    (void)jitc_close(executor);
    (void)jitc_close(owner);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("executors");

    ADD_CASE(suite, "default", start_default, it_runs_what_its_owner_writes_before_and_after_it_came,
             it_is_told_what_its_owner_was_granted, all_of_them_share_one_physical_copy,
             a_patch_is_seen_by_who_syncs, the_library_refuses_all_else_without_asking,
             the_daemon_refuses_all_else_whatever_is_sent, its_hello_says_nothing_of_the_arena,
             each_role_has_its_way_in, a_child_of_an_executor_runs_and_asks_nothing);
    ADD_CASE(suite, "direct", start_direct, of_a_direct_session_it_gets_no_writable_descriptor);
    ADD_CASE(suite, "huge", start_huge, huge_pages_of_its_owner_show_in_its_mapping);
    return suite_run(suite);
}
