/* SPDX-License-Identifier: MIT */
/*
 * The read+execute mapping, from within the process that has it: ways to write to it,
 * to replace it once the process is locked down, and what runs where no code was written.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/victim.h"
#include "tests/harness/code.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* LeakSanitizer looks for leaks with ptrace, which the lockdown denies, and takes that ill. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

static struct broker broker;
static struct victim victim;
static jitc_client *client;
static jitc_info info;
static jitc_span span;
static uint8_t content[1024]; /* of the span */
static uint8_t *page;         /* that the span lies in */

static void start_all(void)
{
    broker_start(&broker, NULL);
    victim_start(&victim, &broker, OTHER_WORKER_UID);
}

static void stop_all(void)
{
    victim_stop(&victim);
    broker_stop(&broker);
}

static void open_session(enum attacker attacker)
{
    attacker_become(attacker, &broker);
    client = broker_connect(&broker, NULL);
    info.struct_size = sizeof info;
    assert_ok(jitc_describe(client, &info));
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 11);
    code_return(content, 33);
    assert_ok(jitc_alloc(client, &span, sizeof content));
    assert_ok(jitc_write(client, &span, 0, content, sizeof content, JITC_WRITE_DEFAULT));
    page = (uint8_t *)(uintptr_t)info.base;
}

/* Whatever was tried: the span is as it was, and the session goes on as ever. */
static void check_session(void)
{
    jitc_span fresh;

    if (client == NULL)
        return;
    ck_assert_mem_eq(span.rx, content, sizeof content);
    ck_assert_uint_eq(code_call(span.rx), 33);
    assert_ok(jitc_alloc(client, &fresh, sizeof content));
    assert_ok(jitc_write(client, &fresh, 0, content, sizeof content, JITC_WRITE_DEFAULT));
    ck_assert_uint_eq(code_call(fresh.rx), 33);
    victim_check(&victim);
    client = jitc_close(client);
}

/* ---- Writing ------------------------------------------------------------------------ */

static int store(const void *at)
{
    *(volatile uint8_t *)(uintptr_t)at = 0x90;
    return 0;
}

START_TEST(it_is_never_made_writable)
{
    static const int protections[] = {PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE | PROT_EXEC};

    tries("protect");
    open_session((enum attacker)_i);
    ck_assert_int_eq(attempt(store, span.rx), -SIGSEGV);
    for (size_t i = 0; i < sizeof protections / sizeof protections[0]; i++) {
        assert_refused(EACCES, mprotect(page, 65536, protections[i]));
        assert_refused(EACCES, syscall(SYS_pkey_mprotect, page, 65536UL, protections[i], -1));
    }
    /* Taking rights away is its holder's affair, and gives none back. */
    assert_works(mprotect(page, 65536, PROT_READ));
    assert_refused(EACCES, mprotect(page, 65536, PROT_READ | PROT_WRITE));
    assert_works(mprotect(page, 65536, PROT_READ | PROT_EXEC));
    ck_assert_int_eq(attempt(store, span.rx), -SIGSEGV);
}
END_TEST

START_TEST(advice_changes_no_byte)
{
    static const int harmless[] = {MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_RANDOM, MADV_WILLNEED};

    tries("protect");
    open_session((enum attacker)_i);
    assert_refused(EACCES, madvise(page, 65536, MADV_REMOVE));
    assert_refused(EINVAL, madvise(page, 65536, MADV_FREE));
    assert_refused(EINVAL, madvise(page, 65536, MADV_POPULATE_WRITE));
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        (void)madvise(page, 65536, harmless[i]); /* an old kernel may not know it */
        ck_assert_mem_eq(span.rx, content, sizeof content);
    }
}
END_TEST

/* The kernel writes for us where we may not, if it can be made to. */
START_TEST(system_calls_do_not_write_into_it)
{
    uint8_t byte = 0x90;
    struct iovec own = {&byte, 1};
    struct iovec code = {span.rx, 1};
    int ends[2];

    tries("vm-write");
    open_session((enum attacker)_i);
    code.iov_base = span.rx;
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(write(ends[1], &byte, 1), 1);
    assert_refused(EFAULT, read(ends[0], span.rx, 1));
    assert_refused(EFAULT, getrandom(span.rx, 1, 0));
    assert_refused(EFAULT, process_vm_writev(getpid(), &own, 1, &code, 1, 0));
    assert_refused(EFAULT, process_vm_readv(getpid(), &code, 1, &own, 1, 0));
    assert_refused(EFAULT, pipe(span.rx));
}
END_TEST

/* These ignore the protection of a private page; for a shared one they need a writable file. */
static int write_by_mem(int fd)
{
    return outcome(pwrite(fd, "\x90", 1, (off_t)(uintptr_t)span.rx));
}

static int open_mem(void)
{
    return open("/proc/self/mem", O_RDWR | O_CLOEXEC);
}

START_TEST(proc_mem_does_not_write_it)
{
    int before;
    bool locked;

    tries("proc-mem");
    open_session((enum attacker)_i);
    before = open_mem();
    ck_assert_int_ge(before, 0);
    assert_error(EIO, write_by_mem(before));
    locked = lock_down(JITC_LOCKDOWN_LANDLOCK);
    assert_error(EIO, write_by_mem(before)); /* kept from before: still no way to the arena */
    if (locked)
        assert_refused(EACCES, open_mem());
}
END_TEST

static int poke_child(void)
{
    pid_t pid = fork();
    int error;

    if (pid == 0) {
        (void)pause();
        _exit(0);
    }
    error = outcome(ptrace(PTRACE_ATTACH, pid, NULL, NULL));
    if (error == 0) {
        (void)waitpid(pid, NULL, __WALL);
        error = outcome(ptrace(PTRACE_POKETEXT, pid, span.rx, (void *)0x9090909090909090UL));
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, __WALL);
    return error;
}

START_TEST(a_tracer_does_not_write_it)
{
    tries("ptrace");
    open_session((enum attacker)_i);
    assert_error(EIO, poke_child());
    (void)lock_down(0);
    assert_error(EPERM, poke_child());
}
END_TEST

START_TEST(map_files_lead_to_no_writable_descriptor)
{
    char path[96];
    int error;

    open_session((enum attacker)_i);
    (void)snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (unsigned long)(uintptr_t)info.base,
                   (unsigned long)((uintptr_t)info.base + info.arena_bytes));
    error = outcome(open(path, O_RDWR | O_CLOEXEC));
    if (error == 0) {
        int fd = open(path, O_RDWR | O_CLOEXEC);

        ck_assert_int_eq(_i, ATTACKER_ROOT);
        assert_refused(EPERM, pwrite(fd, "x", 1, 64));
        assert_refused(EPERM, mmap(NULL, 65536, PROT_WRITE, MAP_SHARED, fd, 0));
        return;
    }
    ck_assert_msg(error == EPERM || error == EACCES, "%s", strerror(error));
}
END_TEST

/* ---- After the lockdown ------------------------------------------------------------------ */

START_TEST(a_private_copy_of_code_does_not_run_once_locked_down)
{
    uint8_t *copy;

    tries("map-private");
    open_session((enum attacker)_i);
    copy = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(copy, MAP_FAILED);
    memcpy(copy, page, 4096);
    code_return(copy, 34);
    (void)lock_down(0);
    assert_refused(EPERM, mprotect(copy, 4096, PROT_READ | PROT_EXEC));
    assert_refused(EPERM, mprotect(page, 65536, PROT_READ | PROT_EXEC));
}
END_TEST

static int run(const void *code)
{
    return (int)code_call(code);
}

/* As the row has it: a private mapping of the very file, changed, and made executable. */
START_TEST(a_private_mapping_of_the_arena_is_changed_but_not_run)
{
    const struct request alloc = {.operation = OPERATION_ALLOC, .size = sizeof content};
    struct wire *wire;
    uint8_t *copy;
    int fd;

    tries("map-private");
    open_session((enum attacker)_i);
    wire = wire_new(broker_socket(&broker)); /* a session whose descriptor no library closes */
    wire_hello(wire);
    fd = wire->record.fds[0];
    wire->record.fds_count = 0;
    ck_assert_int_eq(wire_run(wire, &alloc).status, STATUS_OK);
    copy = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    ck_assert_ptr_ne(copy, MAP_FAILED);
    code_return(copy + 64, 35);
    ck_assert_mem_eq(span.rx, content, sizeof content); /* a copy it is */
    assert_works(mprotect(copy, 65536, PROT_READ | PROT_EXEC));
    ck_assert_int_eq(attempt(run, copy + 64), 35); /* the way in, as long as it is open */
    assert_works(mprotect(copy, 65536, PROT_READ | PROT_WRITE));
    (void)lock_down(0);
    assert_refused(EPERM, mprotect(copy, 65536, PROT_READ | PROT_EXEC));
    assert_refused(EPERM, mmap(NULL, 65536, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
    assert_refused(EPERM, mmap(NULL, 65536, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
    wire = wire_free(wire);
}
END_TEST

START_TEST(the_sealed_mapping_stays_where_and_as_it_is)
{
    const size_t all = 65536;
    const unsigned ended = broker_log_count(&broker, "session_ended: ");
    bool is_gone = false;
    void *other;
    int id;

    tries("replace");
    open_session((enum attacker)_i);
    other = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    id = shmget(IPC_PRIVATE, all, 0600);
    ck_assert_int_ge(id, 0);
    if (!lock_down(JITC_LOCKDOWN_SEAL_ARENAS)) {
        (void)shmctl(id, IPC_RMID, NULL);
        return;
    }
    assert_refused(EPERM, munmap(page, info.arena_bytes));
    assert_refused(EPERM, munmap(page, 4096));
    assert_refused(EPERM, munmap(page + info.arena_bytes - 4096, 4096));
    assert_refused(EPERM, mmap(page, all, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    assert_refused(EPERM,
                   mmap(page, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    assert_refused(EPERM, mremap(page, info.arena_bytes, all, 0));
    assert_refused(EPERM, mremap(page, all, all, MREMAP_MAYMOVE | MREMAP_FIXED, other));
    assert_refused(EPERM, mremap(other, all, all, MREMAP_MAYMOVE | MREMAP_FIXED, page));
    assert_refused(EPERM, mprotect(page, all, PROT_NONE));
    assert_refused(EPERM, mprotect(page, all, PROT_READ));
    assert_refused(EPERM, shmat(id, page, SHM_REMAP));
    assert_refused(EPERM, syscall(SYS_remap_file_pages, page, all, 0UL, 1UL, 0UL));
    (void)shmctl(id, IPC_RMID, NULL);
    (void)madvise(page, all, MADV_DONTNEED);
    check_session();
    /* Closing can't unmap it any more: the daemon takes the memory back, unless that is sealed as well. */
    for (int i = 0; i < 500 && !is_gone; i++) {
        is_gone = attempt(run, span.rx) == -SIGBUS;
        if (info.is_sealed && broker_log_count(&broker, "session_ended: ") > ended)
            break;
        (void)usleep(10000);
    }
    ck_assert_int_eq(is_gone, !info.is_sealed);
    assert_refused(EPERM, munmap(page, info.arena_bytes));
}
END_TEST

/* ---- Running what is no code ---------------------------------------------------------------- */

START_TEST(released_memory_traps)
{
    tries("released");
    open_session((enum attacker)_i);
    assert_ok(jitc_release(client, span.rx));
    assert_ok(jitc_flush(client));
    for (size_t i = 0; i < sizeof content; i += 64)
        ck_assert_int_eq(attempt(run, (uint8_t *)span.rx + i), -SIGTRAP);
    assert_ok(jitc_alloc(client, &span, sizeof content)); /* handed out again, and still nobody's code */
    ck_assert_int_eq(attempt(run, span.rx), -SIGTRAP);
    assert_ok(jitc_write(client, &span, 0, content, sizeof content, JITC_WRITE_DEFAULT));
}
END_TEST

START_TEST(what_was_shrunk_off_or_reset_traps)
{
    const uint8_t *tail;

    tries("released");
    open_session((enum attacker)_i);
    tail = (const uint8_t *)span.rx + 64;
    assert_ok(jitc_shrink(client, &span, 64));
    assert_ok(jitc_flush(client));
    ck_assert_int_eq(attempt(run, tail), -SIGTRAP);
    assert_ok(jitc_reset(client, JITC_RESET_SOFT));
    ck_assert_int_eq(attempt(run, span.rx), -SIGTRAP);
    assert_ok(jitc_alloc(client, &span, sizeof content));
    assert_ok(jitc_write(client, &span, 0, content, sizeof content, JITC_WRITE_DEFAULT));
}
END_TEST

START_TEST(the_leading_granule_and_what_follows_the_code_trap)
{
    uint8_t code[CODE_RETURN_BYTES];
    jitc_span one;

    tries("released");
    open_session((enum attacker)_i);
    ck_assert_ptr_eq(span.rx, page + info.granularity);
    for (size_t i = 0; i < info.granularity; i += 4)
        ck_assert_int_eq(attempt(run, page + i), -SIGTRAP);
    code_return(code, 36);
    assert_ok(jitc_alloc(client, &one, 64));
    assert_ok(jitc_write(client, &one, 0, code, sizeof code, JITC_WRITE_DEFAULT));
    ck_assert_int_eq(attempt(run, one.rx), 36);
    for (size_t i = (CODE_RETURN_BYTES + 3) / 4 * 4; i < 128; i += 4)
        ck_assert_int_eq(attempt(run, (uint8_t *)one.rx + i), -SIGTRAP);
}
END_TEST

START_TEST(beyond_the_last_block_is_a_bus_error)
{
    tries("beyond");
    open_session((enum attacker)_i);
    ck_assert_int_eq(attempt(run, page + 65536 - 4), -SIGTRAP);
    ck_assert_int_eq(attempt(run, page + 65536), -SIGBUS);
    ck_assert_int_eq(attempt(run, page + info.arena_bytes - 64), -SIGBUS);
    ck_assert_int_eq(attempt(run, page + info.arena_bytes), -SIGSEGV);
}
END_TEST

START_TEST(blocks_that_went_back_to_the_system_are_a_bus_error)
{
    const jitc_options defaults = broker_options(&broker);
    jitc_options options = defaults;
    jitc_client *eager;
    jitc_span large;

    tries("beyond");
    open_session(ATTACKER_WORKER); /* a sealed arena gives nothing back */
    options.flags = JITC_IMMEDIATE_RELEASE;
    eager = broker_connect(&broker, &options);
    assert_ok(jitc_alloc(eager, &large, 200000));
    assert_ok(jitc_write(eager, &large, 190000, content, sizeof content, JITC_WRITE_DEFAULT));
    assert_ok(jitc_release(eager, large.rx));
    ck_assert_int_eq(attempt(run, large.rx), -SIGBUS);
    ck_assert_int_eq(attempt(run, (uint8_t *)large.rx + 190000), -SIGBUS);
    assert_ok(jitc_alloc(eager, &large, 200000));
    ck_assert_int_eq(attempt(run, (uint8_t *)large.rx + 190000), -SIGTRAP);
    (void)jitc_close(eager);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory: the mapping");
    TCase *tcase = tcase_create("everyone");

    tcase_add_unchecked_fixture(tcase, start_all, stop_all);
    tcase_add_checked_fixture(tcase, NULL, check_session);
    tcase_set_timeout(tcase, 0);
    tcase_add_loop_test(tcase, it_is_never_made_writable, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, advice_changes_no_byte, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, system_calls_do_not_write_into_it, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, proc_mem_does_not_write_it, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, a_tracer_does_not_write_it, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, map_files_lead_to_no_writable_descriptor, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, a_private_copy_of_code_does_not_run_once_locked_down, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, a_private_mapping_of_the_arena_is_changed_but_not_run, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, the_sealed_mapping_stays_where_and_as_it_is, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, released_memory_traps, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, what_was_shrunk_off_or_reset_traps, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, the_leading_granule_and_what_follows_the_code_trap, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, beyond_the_last_block_is_a_bus_error, 0, ATTACKER_COUNT);
    tcase_add_test(tcase, blocks_that_went_back_to_the_system_are_a_bus_error);
    suite_add_tcase(suite, tcase);

    return suite_run(suite);
}
