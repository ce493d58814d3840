/* SPDX-License-Identifier: MIT */
/* What an arena's memfd lets anyone do, and that all its bytes are trap fill until they are written. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "proto/limits.h"
#include "tests/harness/suite.h"

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020 /* what MFD_NOEXEC_SEAL sets, since Linux 6.3 */
#endif
#define UNIT ((uint64_t)BLOCK_BYTES)
#define RESERVED (8 * UNIT)
#define TRAP 0xCCCCCCCCu
#define NOBODY 65534

static struct arena arena;
static const uint8_t *rx; /* all of it, as the client has it */
static int fd_client;

static void begin_filled(enum arena_kind kind, uint32_t pattern)
{
    void *memory;

    ck_assert_int_eq(arena_init(&arena, kind, RESERVED, pattern, false), 0);
    fd_client = arena_open_read_only(&arena);
    ck_assert_int_ge(fd_client, 0);
    memory = mmap(NULL, RESERVED, PROT_READ | PROT_EXEC, MAP_SHARED, fd_client, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    rx = memory;
}

static void begin(int kind)
{
    begin_filled((enum arena_kind)kind, TRAP);
}

static void end(void)
{
    if (rx != NULL)
        ck_assert_int_eq(munmap((void *)(uintptr_t)rx, RESERVED), 0);
    arena_deinit(&arena);
}

static void assert_filled(uint64_t from, uint64_t to, uint32_t pattern)
{
    for (uint64_t at = from; at < to; at += sizeof pattern) {
        if (memcmp(rx + at, &pattern, sizeof pattern) != 0)
            ck_abort_msg("no trap fill at 0x%" PRIx64, at);
    }
}

static uint64_t file_bytes(void)
{
    struct stat status;

    ck_assert_int_eq(fstat(arena.fd, &status), 0);
    return (uint64_t)status.st_size;
}

static sigjmp_buf bus_error;

static void on_bus_error(int signal)
{
    siglongjmp(bus_error, signal);
}

static bool is_readable(uint64_t offset)
{
    const struct sigaction action = {.sa_handler = on_bus_error};
    struct sigaction before;
    volatile bool readable = false;

    ck_assert_int_eq(sigaction(SIGBUS, &action, &before), 0);
    if (sigsetjmp(bus_error, 1) == 0) {
        (void)*(const volatile uint8_t *)(rx + offset);
        readable = true;
    }
    ck_assert_int_eq(sigaction(SIGBUS, &before, NULL), 0);
    return readable;
}

static int reopen(int fd, int flags)
{
    char path[32];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static unsigned open_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(folder);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

/* ---- Every kind ---------------------------------------------------------------------- */

START_TEST(it_is_born_empty_and_readable_by_its_owner_only)
{
    struct stat status;

    begin(_i);
    ck_assert_int_eq(fstat(arena.fd, &status), 0);
    ck_assert_uint_eq(status.st_mode & 07777, _i == ARENA_DIRECT ? 0600 : 0400);
    ck_assert_int_eq(status.st_size, 0);
    ck_assert_uint_eq(arena.grown_bytes, 0);
    ck_assert(!is_readable(0));
    ck_assert_int_eq(fcntl(arena.fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd_client, F_GETFD), FD_CLOEXEC);
}
END_TEST

START_TEST(its_seals_are_those_of_its_kind_and_final)
{
    const int seals[] = {
        [ARENA_THROUGH] = F_SEAL_SEAL,
        [ARENA_SEALED] = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE,
        [ARENA_DIRECT] = F_SEAL_SEAL | F_SEAL_SHRINK,
    };
    int found;

    begin(_i);
    found = fcntl(arena.fd, F_GET_SEALS);
    ck_assert_int_ge(found, 0);
    ck_assert_int_eq(found & ~F_SEAL_EXEC, seals[_i]);
    ck_assert_int_eq(fcntl(arena.fd, F_ADD_SEALS, F_SEAL_GROW), -1);
    ck_assert_int_eq(errno, EPERM);
    if ((found & F_SEAL_EXEC) != 0)
        ck_assert_int_eq(fchmod(arena.fd, 0500), -1);
}
END_TEST

START_TEST(nothing_is_written_by_the_descriptor_that_the_client_gets)
{
    begin(_i);
    ck_assert_int_eq(arena_grow(&arena, UNIT), 0);
    ck_assert_int_eq(fcntl(fd_client, F_GETFL) & O_ACCMODE, O_RDONLY);
    ck_assert_int_eq(pwrite(fd_client, "x", 1, 0), -1);
    ck_assert_int_eq(errno, EBADF);
    ck_assert_int_eq(ftruncate(fd_client, 0), -1);
    ck_assert_int_eq(fallocate(fd_client, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    ck_assert_ptr_eq(mmap(NULL, UNIT, PROT_READ | PROT_WRITE, MAP_SHARED, fd_client, 0), MAP_FAILED);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_eq(mprotect((void *)(uintptr_t)rx, UNIT, PROT_READ | PROT_WRITE), -1);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_eq(madvise((void *)(uintptr_t)rx, UNIT, MADV_REMOVE), -1);
    assert_filled(0, UNIT, TRAP);
}
END_TEST

START_TEST(no_other_uid_reopens_it)
{
    int open_to_all;

    if (geteuid() != 0) {
        printf("no_other_uid_reopens_it: skipped, only root can become someone else\n");
        return;
    }
    begin(_i);
    open_to_all = memfd_create("open to all", MFD_CLOEXEC);
    ck_assert_int_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
    ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0); /* else /proc/self itself would refuse */
    ck_assert_int_ge(reopen(open_to_all, O_RDWR), 0);
    ck_assert_int_eq(reopen(fd_client, O_RDWR), -1);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_eq(reopen(fd_client, O_RDONLY), -1);
    ck_assert_int_eq(fchmod(fd_client, 0666), -1);
}
END_TEST

START_TEST(it_grows_by_trap_fill_that_the_client_sees_at_once)
{
    begin(_i);
    for (uint64_t units = 1; units <= 8; units += units) {
        uint64_t before = arena.grown_bytes;

        ck_assert_int_eq(arena_grow(&arena, units * UNIT), 0);
        ck_assert_uint_eq(arena.grown_bytes, units * UNIT);
        ck_assert_uint_eq(file_bytes(), units * UNIT);
        assert_filled(before, units * UNIT, TRAP);
        ck_assert(units == 8 || !is_readable(units * UNIT));
        arena_write(&arena, before, "code", 4);
        ck_assert_mem_eq(rx + before, "code", 4);
    }
    ck_assert_mem_eq(rx, "code", 4);
    ck_assert_mem_eq(rx + 4 * UNIT, "code", 4);
}
END_TEST

START_TEST(writes_and_fills_reach_exactly_their_range)
{
    uint8_t bytes[100];

    begin(_i);
    memset(bytes, 0x5A, sizeof bytes);
    ck_assert_int_eq(arena_grow(&arena, 2 * UNIT), 0);
    arena_write(&arena, UNIT - 52, bytes, 100);
    ck_assert_mem_eq(rx + UNIT - 52, bytes, 100);
    assert_filled(0, UNIT - 52, TRAP);
    assert_filled(UNIT + 48, 2 * UNIT, TRAP);
    arena_fill(&arena, UNIT, 64);
    assert_filled(UNIT, 2 * UNIT, TRAP);
    ck_assert_mem_eq(rx + UNIT - 52, bytes, 52);
    arena_write(&arena, 2 * UNIT - 1, bytes, 1);
    ck_assert_uint_eq(rx[2 * UNIT - 1], 0x5A);
    arena_write(&arena, 2 * UNIT, bytes, 0);
    arena_write(&arena, 0, NULL, 0);
    arena_fill(&arena, 2 * UNIT, 0);
    arena_fill(&arena, 0, 2 * UNIT);
    assert_filled(0, 2 * UNIT, TRAP);
}
END_TEST

START_TEST(a_patch_swaps_its_width_and_tells_what_was_there)
{
    const uint64_t wanted = UINT64_C(0x1122334455667788);
    uint8_t bytes[24];

    begin(_i);
    ck_assert_int_eq(arena_grow(&arena, UNIT), 0);
    for (uint32_t width = 1; width <= 8; width *= 2) {
        uint64_t mask = UINT64_MAX >> (64 - 8 * width);
        uint64_t at = UNIT - 8 - width;
        uint64_t before = 0;

        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(0xA0 + i);
        arena_write(&arena, UNIT - 24, bytes, sizeof bytes);
        memcpy(&before, bytes + 16 - width, width);
        ck_assert_uint_eq(arena_patch(&arena, at, width, before ^ 1, wanted & mask), before);
        ck_assert_mem_eq(rx + UNIT - 24, bytes, sizeof bytes);
        ck_assert_uint_eq(arena_patch(&arena, at, width, before, wanted & mask), before);
        memcpy(bytes + 16 - width, &wanted, width); /* little endian */
        ck_assert_mem_eq(rx + UNIT - 24, bytes, sizeof bytes);
        /* The last ones of the arena. */
        (void)arena_patch(&arena, UNIT - width, width, 0, 0);
    }
}
END_TEST

START_TEST(a_pattern_of_four_different_bytes_keeps_its_order)
{
    const uint32_t brk = 0xD4200000u;

    begin_filled((enum arena_kind)_i, brk);
    ck_assert_int_eq(arena_grow(&arena, 2 * UNIT), 0);
    assert_filled(0, 2 * UNIT, brk);
    arena_write(&arena, 64, "0123456789abcdef", 16);
    arena_fill(&arena, 64, 16);
    assert_filled(0, 2 * UNIT, brk);
    ck_assert_int_eq(arena_grow(&arena, 5 * UNIT), 0);
    assert_filled(0, 5 * UNIT, brk);
}
END_TEST

START_TEST(growth_that_fails_leaves_it_as_it_was_and_can_be_tried_again)
{
    struct rlimit limit;
    rlim_t before;

    begin(_i);
    ck_assert_int_eq(arena_grow(&arena, UNIT), 0);
    arena_write(&arena, 0, "code", 4);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    before = limit.rlim_cur;
    limit.rlim_cur = 2 * UNIT + 4096;
    ck_assert_ptr_ne(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(arena_grow(&arena, 4 * UNIT), -EFBIG);
    limit.rlim_cur = before;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_uint_eq(arena.grown_bytes, UNIT);
    if (_i == ARENA_THROUGH)
        ck_assert_uint_eq(file_bytes(), UNIT);
    assert_filled(4, file_bytes(), TRAP); /* no unfilled byte, even where it can't be taken back */
    ck_assert_int_eq(arena_grow(&arena, 4 * UNIT), 0);
    assert_filled(4, 4 * UNIT, TRAP);
    ck_assert_mem_eq(rx, "code", 4);
}
END_TEST

START_TEST(it_is_not_executable_in_this_process)
{
    FILE *maps;
    char line[512];
    bool seen = false;

    ck_assert_int_eq(arena_init(&arena, (enum arena_kind)_i, RESERVED, TRAP, false), 0);
    maps = fopen("/proc/self/maps", "re");
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        char *mode = strchr(line, ' ');

        if (strtoull(line, NULL, 16) != (uintptr_t)arena.bytes)
            continue;
        seen = true;
        ck_assert_ptr_nonnull(mode);
        ck_assert_mem_eq(mode + 1, "rw-s", 4);
    }
    ck_assert(seen);
    (void)fclose(maps);
}
END_TEST

START_TEST(what_it_opened_is_closed_with_it)
{
    unsigned before = open_fds();
    struct rlimit limit;

    ck_assert_int_eq(arena_init(&arena, (enum arena_kind)_i, RESERVED, TRAP, false), 0);
    ck_assert_uint_eq(open_fds(), before + 1);
    arena_deinit(&arena);
    arena_deinit(&arena);
    ck_assert_uint_eq(open_fds(), before);
    /* Also where it could not be set up. */
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)dup(STDERR_FILENO);
    ck_assert_int_eq(close((int)limit.rlim_cur), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(arena_init(&arena, (enum arena_kind)_i, RESERVED, TRAP, false), -EMFILE);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(open_fds(), before);
}
END_TEST

START_TEST(what_was_revoked_is_gone_also_where_it_is_still_mapped)
{
    const uint8_t zeros[4] = {0};
    struct stat status;

    begin(_i);
    ck_assert_int_eq(arena_grow(&arena, 2 * UNIT), 0);
    arena_write(&arena, UNIT, "code", 4);
    arena_revoke(&arena);
    arena_deinit(&arena);
    ck_assert_int_eq(fstat(fd_client, &status), 0);
    switch (_i) {
    case ARENA_THROUGH:
        ck_assert_int_eq(status.st_size, 0);
        ck_assert(!is_readable(0));
        break;
    case ARENA_DIRECT:
        ck_assert_int_eq(status.st_blocks, 0);
        ck_assert_mem_eq(rx + UNIT, zeros, 4);
        break;
    default: /* a sealed one can't be */
        ck_assert_mem_eq(rx + UNIT, "code", 4);
        break;
    }
}
END_TEST

START_TEST(what_was_not_revoked_stays_for_who_maps_it)
{
    begin(_i);
    ck_assert_int_eq(arena_grow(&arena, UNIT), 0);
    arena_write(&arena, 0, "code", 4);
    arena_deinit(&arena);
    ck_assert_mem_eq(rx, "code", 4);
    assert_filled(4, UNIT, TRAP);
}
END_TEST

/* ---- One kind ------------------------------------------------------------------------ */

START_TEST(what_was_trimmed_is_gone_and_comes_back_as_trap_fill)
{
    begin(ARENA_THROUGH);
    ck_assert_int_eq(arena_grow(&arena, 4 * UNIT), 0);
    arena_write(&arena, UNIT - 4, "kept", 4);
    arena_write(&arena, UNIT, "gone", 4);
    ck_assert(arena_trim(&arena, 4 * UNIT));
    ck_assert_uint_eq(file_bytes(), 4 * UNIT);
    ck_assert(arena_trim(&arena, UNIT));
    ck_assert_uint_eq(arena.grown_bytes, UNIT);
    ck_assert_uint_eq(file_bytes(), UNIT);
    ck_assert(is_readable(UNIT - 1));
    ck_assert(!is_readable(UNIT));
    ck_assert_int_eq(arena_grow(&arena, 3 * UNIT), 0);
    assert_filled(UNIT, 3 * UNIT, TRAP);
    ck_assert_mem_eq(rx + UNIT - 4, "kept", 4);
    ck_assert(arena_trim(&arena, 0));
    ck_assert(!is_readable(0));
    ck_assert_int_eq(arena_grow(&arena, UNIT), 0);
    assert_filled(0, UNIT, TRAP);
}
END_TEST

START_TEST(what_others_could_cut_is_never_cut)
{
    begin(_i); /* sealed, direct */
    ck_assert_int_eq(arena_grow(&arena, 3 * UNIT), 0);
    arena_write(&arena, 2 * UNIT, "code", 4);
    ck_assert(!arena_trim(&arena, UNIT));
    ck_assert_uint_eq(arena.grown_bytes, 3 * UNIT);
    ck_assert_uint_eq(file_bytes(), 3 * UNIT);
    ck_assert_mem_eq(rx + 2 * UNIT, "code", 4);
    ck_assert_int_eq(ftruncate(arena.fd, (off_t)UNIT), -1);
    ck_assert_int_eq(errno, EPERM);
}
END_TEST

START_TEST(nobody_gets_a_new_writable_view_of_a_sealed_one)
{
    int again;

    begin(ARENA_SEALED);
    ck_assert_int_eq(arena_grow(&arena, UNIT), 0);
    again = reopen(fd_client, O_RDWR);
    if (again < 0) { /* the owner may read only; root may do anything */
        ck_assert_int_eq(errno, EACCES);
        ck_assert_int_eq(fchmod(fd_client, 0600), 0);
        again = reopen(fd_client, O_RDWR);
    }
    ck_assert_int_ge(again, 0);
    ck_assert_int_eq(pwrite(again, "x", 1, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_ptr_eq(mmap(NULL, UNIT, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(fallocate(again, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(again, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    assert_filled(0, UNIT, TRAP);
    /* Our own view still writes, and it still grows. */
    arena_write(&arena, 0, "code", 4);
    ck_assert_mem_eq(rx, "code", 4);
    ck_assert_int_eq(arena_grow(&arena, 2 * UNIT), 0);
    assert_filled(UNIT, 2 * UNIT, TRAP);
}
END_TEST

START_TEST(a_direct_ones_writable_descriptor_shares_no_flag_with_ours)
{
    uint8_t *rw;
    int fd;

    begin(ARENA_DIRECT);
    fd = arena_open_writable(&arena);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK), 0);
    ck_assert_int_eq(fcntl(arena.fd, F_GETFL) & (O_APPEND | O_NONBLOCK), 0);
    ck_assert_int_eq(arena_grow(&arena, UNIT), 0);
    ck_assert_int_eq(lseek(fd, 100, SEEK_SET), 100);
    ck_assert_int_eq(arena_grow(&arena, 3 * UNIT), 0);
    ck_assert_uint_eq(file_bytes(), 3 * UNIT);
    assert_filled(0, 3 * UNIT, TRAP);
    rw = mmap(NULL, RESERVED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(rw, MAP_FAILED);
    memcpy(rw + UNIT, "code", 4);
    ck_assert_mem_eq(rx + UNIT, "code", 4);
    ck_assert_mem_eq(arena.bytes + UNIT, "code", 4);
    ck_assert_int_eq(munmap(rw, RESERVED), 0);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_direct_client_can_not_cut_it_under_us_nor_leave_anything_in_its_growth)
{
    int fd;

    begin(ARENA_DIRECT);
    fd = arena_open_writable(&arena);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(arena_grow(&arena, UNIT), 0);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(pwrite(fd, "code", 4, (off_t)(2 * UNIT)), 4);
    ck_assert_int_eq(ftruncate(fd, (off_t)(RESERVED + UNIT)), 0);
    ck_assert_int_eq(arena_grow(&arena, 3 * UNIT), 0);
    assert_filled(0, 3 * UNIT, TRAP);
    ck_assert_uint_eq(arena.grown_bytes, 3 * UNIT);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *every = tcase_create("through, sealed, direct");
    TCase *one = tcase_create("one kind");

    tcase_add_checked_fixture(every, NULL, end);
    tcase_add_loop_test(every, it_is_born_empty_and_readable_by_its_owner_only, 0, 3);
    tcase_add_loop_test(every, its_seals_are_those_of_its_kind_and_final, 0, 3);
    tcase_add_loop_test(every, nothing_is_written_by_the_descriptor_that_the_client_gets, 0, 3);
    tcase_add_loop_test(every, no_other_uid_reopens_it, 0, 3);
    tcase_add_loop_test(every, it_grows_by_trap_fill_that_the_client_sees_at_once, 0, 3);
    tcase_add_loop_test(every, writes_and_fills_reach_exactly_their_range, 0, 3);
    tcase_add_loop_test(every, a_patch_swaps_its_width_and_tells_what_was_there, 0, 3);
    tcase_add_loop_test(every, a_pattern_of_four_different_bytes_keeps_its_order, 0, 3);
    tcase_add_loop_test(every, growth_that_fails_leaves_it_as_it_was_and_can_be_tried_again, 0, 3);
    tcase_add_loop_test(every, it_is_not_executable_in_this_process, 0, 3);
    tcase_add_loop_test(every, what_it_opened_is_closed_with_it, 0, 3);
    tcase_add_loop_test(every, what_was_revoked_is_gone_also_where_it_is_still_mapped, 0, 3);
    tcase_add_loop_test(every, what_was_not_revoked_stays_for_who_maps_it, 0, 3);
    suite_add_tcase(suite, every);
    tcase_add_checked_fixture(one, NULL, end);
    tcase_add_test(one, what_was_trimmed_is_gone_and_comes_back_as_trap_fill);
    tcase_add_loop_test(one, what_others_could_cut_is_never_cut, ARENA_SEALED, ARENA_DIRECT + 1);
    tcase_add_test(one, nobody_gets_a_new_writable_view_of_a_sealed_one);
    tcase_add_test(one, a_direct_ones_writable_descriptor_shares_no_flag_with_ours);
    tcase_add_test(one, a_direct_client_can_not_cut_it_under_us_nor_leave_anything_in_its_growth);
    suite_add_tcase(suite, one);
    return suite_run(suite);
}
