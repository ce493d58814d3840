/* SPDX-License-Identifier: MIT */
/*
 * Other people's memory: the daemon's, another session's of another user and of the
 * same one; by the debugger's ways, by their descriptors, and by guessing.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/victim.h"
#include "tests/harness/code.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ADDRESS_SANITIZER
#endif
#endif

/* LeakSanitizer looks for leaks with ptrace, which the lockdown denies, and takes that ill. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

static struct broker broker;
static struct victim stranger; /* of another uid than the attacker */
static struct victim sibling;  /* of the worker's uid */

static void start_all(void)
{
    broker_start(&broker, NULL);
    victim_start(&stranger, &broker, OTHER_WORKER_UID);
    victim_start(&sibling, &broker, WORKER_UID);
}

static void stop_all(void)
{
    victim_stop(&stranger);
    victim_stop(&sibling);
    broker_stop(&broker);
}

static void check_victims(void)
{
    victim_check(&stranger);
    victim_check(&sibling);
}

/* ---- The ways of a debugger ----------------------------------------------------------- */

static const char *proc_path(pid_t pid, const char *name)
{
    static char path[64];

    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return path;
}

static int seize(pid_t pid)
{
    int error = outcome(ptrace(PTRACE_SEIZE, pid, NULL, NULL));

    if (error == 0)
        (void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return error;
}

static int attach(pid_t pid)
{
    return outcome(ptrace(PTRACE_ATTACH, pid, NULL, NULL));
}

/* One byte, over itself or so. */
static int write_vm(pid_t pid, const void *at)
{
    uint8_t byte = 0x90;
    struct iovec local = {&byte, 1};
    struct iovec remote = {(void *)(uintptr_t)at, 1};

    return outcome(process_vm_writev(pid, &local, 1, &remote, 1, 0));
}

static int read_vm(pid_t pid, const void *at)
{
    uint8_t byte;
    struct iovec local = {&byte, 1};
    struct iovec remote = {(void *)(uintptr_t)at, 1};

    return outcome(process_vm_readv(pid, &local, 1, &remote, 1, 0));
}

static int get_fd(pid_t pid, int fd)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int error;

    ck_assert_int_ge(pidfd, 0);
    error = outcome(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
    (void)close(pidfd);
    return error;
}

static int open_fd_of(pid_t pid, int fd)
{
    char name[16];

    (void)snprintf(name, sizeof name, "fd/%d", fd);
    return outcome(open(proc_path(pid, name), O_RDONLY | O_CLOEXEC | O_PATH));
}

static int list_map_files(pid_t pid)
{
    DIR *folder = opendir(proc_path(pid, "map_files"));
    int error = errno;

    if (folder == NULL)
        return error;
    errno = 0;
    while (readdir(folder) != NULL)
        continue;
    error = errno;
    (void)closedir(folder);
    return error;
}

static void assert_out_of_reach(pid_t pid, const void *at, int fd)
{
    assert_error(EPERM, attach(pid));
    assert_error(EPERM, seize(pid));
    assert_error(EPERM, read_vm(pid, at));
    assert_error(EPERM, write_vm(pid, at));
    assert_error(EPERM, get_fd(pid, fd));
    assert_refused(EACCES, open(proc_path(pid, "mem"), O_RDONLY | O_CLOEXEC));
    assert_refused(EACCES, open(proc_path(pid, "mem"), O_RDWR | O_CLOEXEC));
    assert_refused(EACCES, open(proc_path(pid, "maps"), O_RDONLY | O_CLOEXEC));
    assert_error(EACCES, open_fd_of(pid, fd));
    assert_error(EACCES, list_map_files(pid));
}

/* Root as a service has it whose CapabilityBoundingSet= is short. */
static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {{0}};

    if (are_we_root())
        ck_assert_int_eq((int)syscall(SYS_capset, &header, none), 0);
}

START_TEST(the_daemon_is_out_of_reach)
{
    tries("neighbour");
#ifdef HAS_ADDRESS_SANITIZER
    if (_i == ATTACKER_DAEMON_UID)
        skip("the daemon stays dumpable, for LeakSanitizer");
#endif
    attacker_become((enum attacker)_i, &broker);
    if (_i == ATTACKER_ROOT)
        drop_capabilities(); /* with all of them root is master of the machine */
    /* Descriptor 0 is there; which of the others are, nobody is to use. */
    for (int fd = 0; fd < 32; fd++) {
        int error = open_fd_of(broker.pid, fd);

        assert_error(EPERM, get_fd(broker.pid, fd));
        ck_assert_msg(error == EACCES || (_i == ATTACKER_ROOT && error == ENOENT), "%s", strerror(error));
    }
    assert_out_of_reach(broker.pid, &broker, 0);
    if (_i == ATTACKER_WORKER)
        assert_refused(EPERM, kill(broker.pid, SIGTERM));
}
END_TEST

START_TEST(the_daemons_memory_shows_no_executable_page)
{
    char line[512];
    FILE *maps;

    if (!are_we_root())
        skip("needs root, to read the daemon's maps");
    maps = fopen(proc_path(broker.pid, "maps"), "re");
    if (maps == NULL)
        skip("the daemon's maps can't be read here");
    while (fgets(line, sizeof line, maps) != NULL) {
        const char *protection = strchr(line, ' ');

        ck_assert_ptr_nonnull(protection);
        ck_assert_msg(strncmp(protection + 2, "wx", 2) != 0, "%s", line);
        if (strstr(line, "jitbroker-arena") != NULL)
            ck_assert_msg(protection[3] != 'x', "%s", line);
    }
    (void)fclose(maps);
}
END_TEST

START_TEST(a_stranger_is_out_of_reach)
{
    tries("neighbour");
    if (!are_we_root())
        skip("needs root, for a victim of another uid");
    attacker_become((enum attacker)_i, &broker);
    if (_i == ATTACKER_ROOT)
        drop_capabilities();
    assert_out_of_reach(stranger.pid, stranger.secret->rx, stranger.secret->socket);
    if (_i != ATTACKER_ROOT)
        assert_refused(EPERM, kill(stranger.pid, SIGKILL));
}
END_TEST

/* Linux lets processes of one user debug each other; code they share no way to write. */
START_TEST(a_siblings_code_is_not_written_by_its_debugger)
{
    int mem;

    tries("ptrace");
    attacker_become(are_we_root() ? ATTACKER_WORKER : ATTACKER_DAEMON_UID, &broker);
    if (read_vm(sibling.pid, sibling.secret->rx) == EPERM)
        skip("this kernel lets nobody debug a sibling (kernel.yama.ptrace_scope)");
    assert_error(EFAULT, write_vm(sibling.pid, sibling.secret->rx));
    mem = open(proc_path(sibling.pid, "mem"), O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(mem, 0);
    assert_refused(EIO, pwrite(mem, "\x90", 1, (off_t)(uintptr_t)sibling.secret->rx));
    ck_assert_int_eq(attach(sibling.pid), 0);
    ck_assert_int_eq(waitpid(sibling.pid, NULL, __WALL), sibling.pid);
    assert_refused(EIO, ptrace(PTRACE_POKETEXT, sibling.pid, sibling.secret->rx, (void *)0x90UL));
    assert_works(ptrace(PTRACE_DETACH, sibling.pid, NULL, NULL));
}
END_TEST

START_TEST(a_sibling_is_out_of_reach_after_the_lockdown)
{
    int pidfd;

    tries("ptrace");
    attacker_become(are_we_root() ? ATTACKER_WORKER : ATTACKER_DAEMON_UID, &broker);
    pidfd = (int)syscall(SYS_pidfd_open, sibling.pid, 0);
    if (!lock_down(JITC_LOCKDOWN_LANDLOCK | JITC_LOCKDOWN_SECCOMP))
        return;
    assert_out_of_reach(sibling.pid, sibling.secret->rx, sibling.secret->socket);
    assert_refused(EPERM, syscall(SYS_pidfd_getfd, pidfd, sibling.secret->socket, 0));
}
END_TEST

/* ---- By guessing ------------------------------------------------------------------------- */

/* A fresh session, empty, of a worker that knows where the others' spans are. */
static struct wire *open_session(enum attacker attacker)
{
    struct wire *wire;

    attacker_become(attacker, &broker);
    wire = wire_new(broker_socket(&broker));
    wire_hello(wire);
    return wire;
}

START_TEST(offsets_of_others_spans_are_nobodys_here)
{
    static const struct request guesses[] = {
        {.operation = OPERATION_QUERY},
        {.operation = OPERATION_RELEASE},
        {.operation = OPERATION_SEAL},
        {.operation = OPERATION_SHRINK, .size = 64},
        {.operation = OPERATION_WRITE, .data = (const uint8_t *)"\x90", .data_bytes = 1},
        {.operation = OPERATION_PATCH, .width = 1, .expected = 0xB8, .desired = 0x90},
    };
    struct wire *wire = open_session((enum attacker)_i);

    tries("guess");
    ck_assert_uint_gt(stranger.secret->offset, 0);
    for (size_t i = 0; i < sizeof guesses / sizeof guesses[0]; i++) {
        struct request request = guesses[i];

        for (request.span = 64; request.span < 2 * 65536; request.span += 64) {
            struct result result = wire_run(wire, &request);

            if (result.status != STATUS_NO_SPAN)
                ck_abort_msg("%s at 0x%llx: %d %s", operation_name(request.operation),
                             (unsigned long long)request.span, (int)result.status, result.text);
        }
    }
    (void)wire_free(wire);
}
END_TEST

/* How many of the arena's bytes are neither trap fill nor its end. */
static uint64_t count_strange_bytes(int fd)
{
    static uint8_t block[65536];
    uint64_t strange = 0;
    off_t at = 0;
    ssize_t got;

    while ((got = pread(fd, block, sizeof block, at)) > 0) {
        for (ssize_t i = 0; i < got; i += (ssize_t)sizeof(uint32_t)) {
            uint32_t word;

            memcpy(&word, block + i, sizeof word);
            strange += word != FILL_PATTERN_DEFAULT;
        }
        at += got;
    }
    ck_assert_int_eq(got, 0);
    return strange;
}

START_TEST(an_arena_shows_nothing_of_others_nor_of_its_predecessors)
{
    struct wire *wire;

    tries("guess");
    attacker_become((enum attacker)_i, &broker);
    for (int turn = 0; turn < 4; turn++) {
        const struct request alloc = {.operation = OPERATION_ALLOC, .size = 1 << 20};
        static const uint8_t secret[65536] = {[0 ... 65535] = 0x5A};
        struct request write = {
            .operation = OPERATION_WRITE, .data = secret, .data_bytes = sizeof secret, .at = 65536};
        struct stat status;
        int fd;

        wire = wire_new(broker_socket(&broker));
        wire_hello(wire);
        ck_assert_uint_eq(wire->record.fds_count, 1);
        fd = dup(wire->record.fds[0]);
        ck_assert_int_eq(fstat(fd, &status), 0);
        ck_assert_int_eq(status.st_size, 0);
        write.span = wire_run(wire, &alloc).offset;
        ck_assert_uint_eq(count_strange_bytes(fd), 0);
        ck_assert_int_eq(wire_run(wire, &write).status, STATUS_OK);
        ck_assert_uint_eq(count_strange_bytes(fd), sizeof secret / 4);
        (void)close(fd);
        wire = wire_free(wire);
    }
}
END_TEST

START_TEST(a_siblings_addresses_mean_nothing_here)
{
    jitc_client *client;
    jitc_info info = {.struct_size = sizeof info};
    jitc_span span;

    tries("guess");
    attacker_become(are_we_root() ? ATTACKER_WORKER : ATTACKER_DAEMON_UID, &broker);
    /* Both processes were forked from one, so both would get the same address. */
    (void)mmap((void *)(uintptr_t)sibling.secret->base, 4096, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    client = broker_connect(&broker, NULL);
    assert_ok(jitc_describe(client, &info));
    ck_assert_ptr_ne(info.base, sibling.secret->base);
    ck_assert_int_eq(jitc_query(client, &span, sibling.secret->rx), JITC_E_FOREIGN_POINTER);
    ck_assert_int_eq(jitc_release(client, sibling.secret->rx), JITC_E_FOREIGN_POINTER);
    span = (jitc_span){.rx = (void *)(uintptr_t)sibling.secret->rx, .size = 1024};
    ck_assert_int_eq(jitc_write(client, &span, 0, "\x90", 1, JITC_WRITE_DEFAULT), JITC_E_FOREIGN_POINTER);
    (void)jitc_close(client);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory: the neighbours");
    TCase *tcase = tcase_create("everyone");

    tcase_add_unchecked_fixture(tcase, start_all, stop_all);
    tcase_add_checked_fixture(tcase, NULL, check_victims);
    tcase_set_timeout(tcase, 0);
    tcase_add_loop_test(tcase, the_daemon_is_out_of_reach, 0, ATTACKER_COUNT);
    tcase_add_test(tcase, the_daemons_memory_shows_no_executable_page);
    tcase_add_loop_test(tcase, a_stranger_is_out_of_reach, 0, ATTACKER_COUNT);
    tcase_add_test(tcase, a_siblings_code_is_not_written_by_its_debugger);
    tcase_add_test(tcase, a_sibling_is_out_of_reach_after_the_lockdown);
    tcase_add_loop_test(tcase, offsets_of_others_spans_are_nobodys_here, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, an_arena_shows_nothing_of_others_nor_of_its_predecessors, 0, ATTACKER_COUNT);
    tcase_add_test(tcase, a_siblings_addresses_mean_nothing_here);
    suite_add_tcase(suite, tcase);

    return suite_run(suite);
}
