/* SPDX-License-Identifier: MIT */
/*
 * The arena's descriptors, as Welcome brings them: what can be made of them by the worker,
 * by the daemon's own uid and by root. A session of the last two is a sealed one.
 */
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/attacks/attacker.h"
#include "tests/attacks/victim.h"
#include "tests/harness/code.h"
#include "tests/harness/suite.h"
#include "tests/harness/wire.h"

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020 /* Linux 6.3 */
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3 */
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define SPAN_BYTES 4096u

static struct broker through;
static struct broker direct;
static struct victim victim;
static struct wire *wire;
static uint64_t arena_bytes;
static uint64_t span; /* holds `content` */
static uint8_t content[SPAN_BYTES];
static int fd;        /* as received: read-only */
static int fd_direct; /* read-write, or -1 */
static const uint8_t *rx;

static void start_all(void)
{
    broker_start(&through, NULL);
    broker_start(&direct, "[class default]\nwrite=direct\n");
    victim_start(&victim, &through, OTHER_WORKER_UID);
}

static void stop_all(void)
{
    victim_stop(&victim);
    broker_stop(&through);
    broker_stop(&direct);
}

static uint64_t alloc_span(uint64_t size)
{
    const struct request request = {.operation = OPERATION_ALLOC, .size = size};
    struct result result = wire_run(wire, &request);

    ck_assert_msg(result.status == STATUS_OK, "alloc: %s", result.text);
    return result.offset;
}

static void write_span(uint64_t to, const void *bytes, size_t count)
{
    const struct request request = {
        .operation = OPERATION_WRITE, .span = to, .data = bytes, .data_bytes = count};
    struct result result = wire_run(wire, &request);

    ck_assert_msg(result.status == STATUS_OK, "write: %s", result.text);
}

/* A session of that attacker's with one span, and the arena's descriptors in hand. */
static void open_session(enum attacker attacker, const struct broker *broker)
{
    attacker_become(attacker, broker);
    wire = wire_new(broker_socket(broker));
    wire_hello(wire);
    arena_bytes = wire->reply.welcome.arena_bytes;
    ck_assert_int_eq(wire->reply.welcome.sealed, broker == &through && attacker != ATTACKER_WORKER);
    fd = wire->record.fds[0];
    fd_direct = wire->record.fds_count == 2 ? wire->record.fds[1] : -1;
    wire->record.fds_count = 0; /* ours now */
    span = alloc_span(sizeof content);
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 13);
    code_return(content, 77);
    write_span(span, content, sizeof content);
    rx = mmap(NULL, arena_bytes, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(rx, MAP_FAILED);
}

static void assert_filled(uint64_t from, uint64_t bytes, uint32_t pattern)
{
    const uint32_t *words = (const uint32_t *)(const void *)(rx + from);
    uint64_t others = 0;

    for (uint64_t i = 0; i < bytes / sizeof *words; i++)
        others += words[i] != pattern;
    ck_assert_uint_eq(others, 0);
}

/* Whatever was tried: the span is as it was, and the session goes on as ever. */
static void check_session(void)
{
    uint8_t code[CODE_RETURN_BYTES];
    uint64_t fresh;

    if (wire == NULL)
        return;
    ck_assert_mem_eq(rx + span, content, sizeof content);
    ck_assert_uint_eq(code_call(rx + span), 77);
    fresh = alloc_span(100000);
    assert_filled(fresh, 100000, FILL_PATTERN_DEFAULT);
    code_return(code, 78);
    write_span(fresh, code, sizeof code);
    ck_assert_uint_eq(code_call(rx + fresh), 78);
    victim_check(&victim);
    wire = wire_free(wire);
}

/* ---- The read-only descriptor ----------------------------------------------------- */

/* A userfaultfd fills what is missing behind a mapping, whatever the file's permissions say. */
static int register_userfaultfd(void *memory, size_t bytes)
{
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.range = {(uintptr_t)memory, bytes},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};

    if (uffd < 0)
        skip("no userfaultfd here");
    ck_assert_int_eq(ioctl(uffd, UFFDIO_API, &api), 0);
    return outcome(ioctl(uffd, UFFDIO_REGISTER, &range));
}

/* For a descriptor that was opened for writing, of a sealed arena. */
static void assert_opened_in_vain(int again)
{
    off_t from = 0;
    void *memory;

    assert_refused(EPERM, write(again, "x", 1));
    assert_refused(EPERM, pwrite(again, "x", 1, (off_t)span));
    assert_refused(EPERM, sendfile(again, fd, &from, 1));
    assert_refused(EPERM, ftruncate(again, 0));
    assert_refused(EPERM, ftruncate(again, 65536 - 1));
    assert_refused(EPERM, fallocate(again, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    assert_refused(EOPNOTSUPP, fallocate(again, FALLOC_FL_ZERO_RANGE, 0, 4096));
    assert_refused(EOPNOTSUPP, fallocate(again, FALLOC_FL_COLLAPSE_RANGE, 0, 4096));
    assert_refused(EPERM, fcntl(again, F_ADD_SEALS, F_SEAL_GROW));
    assert_refused(EPERM, mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0));
    assert_refused(EPERM, mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, again, 0));
    memory = mmap(NULL, 65536, PROT_READ, MAP_SHARED, again, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    assert_refused(EACCES, mprotect(memory, 65536, PROT_READ | PROT_WRITE));
    assert_refused(EACCES, madvise(memory, 65536, MADV_REMOVE));
    (void)close(again);
}

START_TEST(reopening_yields_no_descriptor_that_writes)
{
    static const int flags[] = {O_RDWR, O_WRONLY, O_RDWR | O_APPEND, O_RDWR | O_CREAT};

    tries("reopen");
    open_session((enum attacker)_i, &through);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (_i != ATTACKER_ROOT) {
            assert_refused(EACCES, open(fd_path(fd), flags[i] | O_CLOEXEC, 0600));
            continue;
        }
        ck_assert_int_ge(open(fd_path(fd), flags[i] | O_CLOEXEC, 0600), 0);
    }
    if (_i == ATTACKER_ROOT)
        assert_opened_in_vain(open(fd_path(fd), O_RDWR | O_CLOEXEC));
    assert_refused(_i == ATTACKER_ROOT ? EPERM : EACCES, open(fd_path(fd), O_RDWR | O_TRUNC | O_CLOEXEC));
    assert_refused(_i == ATTACKER_WORKER ? EACCES : 0, open(fd_path(fd), O_RDONLY | O_CLOEXEC));
}
END_TEST

START_TEST(its_mode_is_changed_by_its_owner_only_and_in_vain)
{
    tries("descriptor");
    open_session((enum attacker)_i, &through);
    if (_i == ATTACKER_WORKER) {
        assert_refused(EPERM, fchmod(fd, 0600));
        assert_refused(EPERM, fchmod(fd, 0400));
        assert_refused(EPERM, chmod(fd_path(fd), 0666));
        assert_refused(EPERM, fchown(fd, getuid(), getgid()));
        return;
    }
    /* Owner and root may; the seals stay. */
    assert_works(fchmod(fd, 0600));
    if (_i == ATTACKER_ROOT)
        assert_works(fchown(fd, 0, 0));
    assert_opened_in_vain(open(fd_path(fd), O_RDWR | O_CLOEXEC));
    assert_refused(EPERM, open(fd_path(fd), O_RDWR | O_TRUNC | O_CLOEXEC));
    assert_refused(EPERM, truncate(fd_path(fd), 0));
}
END_TEST

START_TEST(it_writes_nothing_itself)
{
    off_t from = 0;

    tries("descriptor");
    open_session((enum attacker)_i, &through);
    assert_refused(EBADF, write(fd, "x", 1));
    assert_refused(EBADF, pwrite(fd, "x", 1, (off_t)span));
    assert_refused(EBADF, sendfile(fd, fd, &from, 1));
    assert_refused(EBADF, copy_file_range(fd, &from, fd, &(off_t){4096}, 1, 0));
    assert_refused(EINVAL, ftruncate(fd, 0));
    assert_refused(EINVAL, ftruncate(fd, (off_t)arena_bytes));
    assert_refused(EBADF, fallocate(fd, 0, 0, (off_t)arena_bytes));
    assert_refused(EBADF, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    /* The access mode is not among the flags that can change. */
    assert_works(fcntl(fd, F_SETFL, O_RDWR | O_APPEND | O_NONBLOCK));
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_refused(EBADF, write(fd, "x", 1));
}
END_TEST

START_TEST(only_root_truncates_by_its_name_and_makes_nothing_shorter)
{
    const int refusal = _i == ATTACKER_ROOT ? EPERM : EACCES;

    tries("descriptor");
    open_session((enum attacker)_i, &through);
    assert_refused(refusal, truncate(fd_path(fd), 0));
    assert_refused(refusal, truncate(fd_path(fd), 65536 - 1));
    if (_i != ATTACKER_ROOT)
        assert_refused(refusal, truncate(fd_path(fd), (off_t)arena_bytes));
}
END_TEST

START_TEST(its_seals_are_final)
{
    static const int seals[] = {F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE};
    int wanted;

    tries("descriptor");
    open_session((enum attacker)_i, &through);
    wanted = _i == ATTACKER_WORKER ? F_SEAL_SEAL : F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE;
    ck_assert_int_eq(fcntl(fd, F_GET_SEALS) & ~F_SEAL_EXEC, wanted);
    for (size_t i = 0; i < sizeof seals / sizeof seals[0]; i++)
        assert_refused(EPERM, fcntl(fd, F_ADD_SEALS, seals[i]));
    ck_assert_int_eq(fcntl(fd, F_GET_SEALS) & ~F_SEAL_EXEC, wanted);
}
END_TEST

START_TEST(it_maps_for_reading_and_running_only)
{
    void *memory;

    tries("map-writable");
    open_session((enum attacker)_i, &through);
    assert_refused(EACCES, mmap(NULL, 65536, PROT_WRITE, MAP_SHARED, fd, 0));
    assert_refused(EACCES, mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    assert_refused(EACCES, mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE, fd, 0));
    assert_refused(EACCES, mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0));
    memory = mmap(NULL, 65536, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    assert_refused(EACCES, mprotect(memory, 65536, PROT_READ | PROT_WRITE));
    assert_error(EPERM, register_userfaultfd(memory, 65536));
}
END_TEST

/*
 * What cannot be forbidden without forbidding the daemon to grow it: who may open it for
 * writing makes it longer. What that shows is zeros, never bytes of anyone's choosing.
 */
START_TEST(a_sealed_arena_grows_by_zeros_that_nobody_fills_but_the_daemon)
{
    const struct request statistics = {.operation = OPERATION_STATISTICS};
    uint64_t large;

    open_session((enum attacker)_i, &through);
    if (_i == ATTACKER_DAEMON_UID)
        assert_works(fchmod(fd, 0600));
    assert_works(truncate(fd_path(fd), (off_t)arena_bytes));
    assert_filled(65536, arena_bytes - 65536, 0);
    assert_opened_in_vain(open(fd_path(fd), O_RDWR | O_CLOEXEC));
    ck_assert_uint_eq(wire_run(wire, &statistics).usage.reserved_bytes, 65536);
    large = alloc_span(arena_bytes / 2);
    assert_filled(large, arena_bytes / 2, FILL_PATTERN_DEFAULT);
    ck_assert_int_eq(register_userfaultfd((void *)(uintptr_t)rx, arena_bytes), EPERM);
}
END_TEST

/* The quota counts live sessions: what a client kept of an ended one must not hold memory any more. */
START_TEST(a_descriptor_kept_of_an_ended_session_holds_no_memory)
{
    struct stat status = {.st_blocks = 1};

    open_session((enum attacker)_i, &through);
    (void)alloc_span(1 << 20);
    wire = wire_free(wire);
    for (int i = 0; i < 500 && status.st_blocks > 0; i++) {
        ck_assert_int_eq(fstat(fd, &status), 0);
        (void)usleep(10000);
    }
    ck_assert_int_eq(status.st_blocks, 0);
    ck_assert_int_eq(status.st_size, 0);
    assert_refused(EBADF, write(fd, "x", 1));
    assert_refused(EACCES, open(fd_path(fd), O_RDWR | O_CLOEXEC));
    victim_check(&victim);
}
END_TEST

/* ---- The writable one of a direct session ------------------------------------------- */

START_TEST(a_direct_arena_cannot_be_made_shorter_or_sealed)
{
    open_session((enum attacker)_i, &direct);
    assert_refused(EPERM, ftruncate(fd_direct, 0));
    assert_refused(EPERM, ftruncate(fd_direct, 65536 - 1));
    assert_refused(_i == ATTACKER_WORKER ? EACCES : EPERM, open(fd_path(fd_direct), O_RDWR | O_TRUNC));
    assert_refused(EPERM, fcntl(fd_direct, F_ADD_SEALS, F_SEAL_GROW));
    assert_refused(EPERM, fcntl(fd_direct, F_ADD_SEALS, F_SEAL_WRITE));
    assert_refused(EPERM, fcntl(fd_direct, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
    if (_i == ATTACKER_WORKER) {
        assert_refused(EPERM, fchmod(fd_direct, 0666));
        assert_refused(EPERM, fchown(fd_direct, getuid(), getgid()));
    }
}
END_TEST

START_TEST(flags_locks_and_positions_of_the_direct_descriptor_leave_the_daemon_alone)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    open_session((enum attacker)_i, &direct);
    assert_works(fcntl(fd_direct, F_SETFL, O_APPEND | O_NONBLOCK | O_ASYNC));
    ck_assert_int_eq(lseek(fd_direct, 12345, SEEK_SET), 12345);
    assert_works(fcntl(fd_direct, F_SETLK, &lock));
    assert_refused(_i == ATTACKER_WORKER ? EACCES : EAGAIN, fcntl(fd_direct, F_SETLEASE, F_WRLCK));
    assert_refused(_i == ATTACKER_WORKER ? EACCES : EAGAIN, fcntl(fd, F_SETLEASE, F_RDLCK));
}
END_TEST

START_TEST(holes_and_length_in_a_direct_arena_harm_nobody)
{
    open_session((enum attacker)_i, &direct);
    assert_works(ftruncate(fd_direct, (off_t)(2 * arena_bytes)));
    assert_works(fallocate(fd_direct, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 65536));
    ck_assert_uint_eq(rx[span], 0); /* its own bytes, its own loss */
    write_span(span, content, sizeof content);
}
END_TEST

/* ---- Running it as a program ----------------------------------------------------------- */

#if defined(__x86_64__)
#define PROGRAM_MACHINE EM_X86_64
static const uint8_t program_code[] = {0xB8, 0x3C, 0, 0, 0, 0xBF, 0x2A, 0, 0, 0, 0x0F, 0x05}; /* exit(42) */
#else
#define PROGRAM_MACHINE EM_AARCH64
static const uint8_t program_code[] = {0xA8, 0x0B, 0x80, 0xD2, 0x40, 0x05,
                                       0x80, 0xD2, 0x01, 0x00, 0x00, 0xD4};
#endif

struct program {
    Elf64_Ehdr header;
    Elf64_Phdr segment;
    uint8_t code[sizeof program_code];
};

static struct program make_program(void)
{
    const Elf64_Addr base = 0x400000;
    struct program program = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = PROGRAM_MACHINE,
                   .e_version = EV_CURRENT,
                   .e_entry = base + offsetof(struct program, code),
                   .e_phoff = offsetof(struct program, segment),
                   .e_ehsize = sizeof(Elf64_Ehdr),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 1},
        .segment = {.p_type = PT_LOAD,
                    .p_flags = PF_R | PF_X,
                    .p_vaddr = base,
                    .p_filesz = sizeof program,
                    .p_memsz = sizeof program,
                    .p_align = 4096},
    };

    memcpy(program.code, program_code, sizeof program_code);
    return program;
}

static char *const arguments[] = {(char *)(uintptr_t) "program", NULL};
static char *const environment[] = {NULL};

static int execute_descriptor(const void *which)
{
    (void)syscall(SYS_execveat, *(const int *)which, "", arguments, environment, AT_EMPTY_PATH);
    return errno;
}

static int execute_name(const void *which)
{
    (void)execve(fd_path(*(const int *)which), arguments, environment);
    return errno;
}

START_TEST(it_is_no_program)
{
    const struct program program = make_program();
    int control = (int)syscall(SYS_memfd_create, "program", MFD_EXEC);

    tries("execute");
    /* It would run, were it anywhere else. */
    if (control >= 0) {
        ck_assert_int_eq(write(control, &program, sizeof program), sizeof program);
        ck_assert_int_eq(attempt(execute_descriptor, &control), 42);
    }
    open_session((enum attacker)_i, &direct);
    ck_assert_int_eq(pwrite(fd_direct, &program, sizeof program, 0), sizeof program);
    assert_error(EACCES, attempt(execute_descriptor, &fd));
    assert_error(EACCES, attempt(execute_descriptor, &fd_direct));
    assert_error(EACCES, attempt(execute_name, &fd));
    write_span(span, content, sizeof content); /* the program's tail lay over it */
    if (syscall(SYS_memfd_create, "probe", MFD_NOEXEC_SEAL) < 0)
        skip("this kernel has no MFD_NOEXEC_SEAL: its owner may make it executable");
    ck_assert_int_ne(fcntl(fd, F_GET_SEALS) & F_SEAL_EXEC, 0);
    assert_refused(EPERM, fchmod(fd, 0500));
    assert_refused(EPERM, fchmod(fd_direct, 0777));
    assert_error(EACCES, attempt(execute_name, &fd_direct));
}
END_TEST

START_TEST(it_is_no_program_where_the_daemon_wrote_one)
{
    const struct program program = make_program();

    tries("execute");
    open_session((enum attacker)_i, &through);
    /* The file starts with the trap granule: the earliest span is not its head. */
    ck_assert_uint_gt(span, 0);
    write_span(span, &program, sizeof program);
    assert_error(EACCES, attempt(execute_descriptor, &fd));
    assert_error(EACCES, attempt(execute_name, &fd));
    write_span(span, content, sizeof content);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory: the descriptor");
    TCase *tcase = tcase_create("everyone");

    tcase_add_unchecked_fixture(tcase, start_all, stop_all);
    tcase_add_checked_fixture(tcase, NULL, check_session);
    tcase_set_timeout(tcase, 0);
    tcase_add_loop_test(tcase, reopening_yields_no_descriptor_that_writes, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, its_mode_is_changed_by_its_owner_only_and_in_vain, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, it_writes_nothing_itself, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, only_root_truncates_by_its_name_and_makes_nothing_shorter, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, its_seals_are_final, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, it_maps_for_reading_and_running_only, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, a_sealed_arena_grows_by_zeros_that_nobody_fills_but_the_daemon,
                        ATTACKER_DAEMON_UID, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, a_descriptor_kept_of_an_ended_session_holds_no_memory, ATTACKER_WORKER,
                        ATTACKER_WORKER + 1);
    tcase_add_loop_test(tcase, a_direct_arena_cannot_be_made_shorter_or_sealed, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, flags_locks_and_positions_of_the_direct_descriptor_leave_the_daemon_alone, 0,
                        ATTACKER_COUNT);
    tcase_add_loop_test(tcase, holes_and_length_in_a_direct_arena_harm_nobody, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, it_is_no_program, 0, ATTACKER_COUNT);
    tcase_add_loop_test(tcase, it_is_no_program_where_the_daemon_wrote_one, 0, ATTACKER_COUNT);
    suite_add_tcase(suite, tcase);

    return suite_run(suite);
}
