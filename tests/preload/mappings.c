/* SPDX-License-Identifier: MIT */
/* What is done to the mappings of code by other calls than mprotect: it must be as for any memory. */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/preload/program.h"
#include "tests/unit/dice.h"

#define GIB ((size_t)1 << 30)

/* Pages with a function each, page i returning number + i, read+execute. */
static uint8_t *code_pages(size_t pages, size_t number)
{
    uint8_t *code = map_pages(pages, RW);

    for (size_t page = 0; page < pages; page++)
        put(code + page * PAGE, number + page);
    protect(code, pages * PAGE, RX);
    must_return(code, number);
    return code;
}

static void check(const uint8_t *code, size_t pages, size_t number)
{
    for (size_t page = 0; page < pages; page++)
        must_return(code + page * PAGE, number + page);
}

/* That all of it is writable, and flips. */
static void renew(uint8_t *code, size_t pages, size_t number)
{
    protect(code, pages * PAGE, RW);
    for (size_t page = 0; page < pages; page++)
        put(code + page * PAGE, number + page);
    protect(code, pages * PAGE, RX);
    check(code, pages, number);
}

/* Writable memory where there is none, if nobody else came first. */
static void map_again(uint8_t *at, size_t pages)
{
    void *got = mmap(at, pages * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (got == MAP_FAILED && errno == EEXIST)
        program_skip("somebody else has mapped something there");
    must(got == at);
    must(is_zero(at, pages * PAGE));
}

static void moved(void)
{
    uint8_t *code = code_pages(8, 10);
    uint8_t *to = map_pages(8, PROT_NONE);

    faults_start();
    must(mremap(code, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    check(to, 8, 10);
    must(faults_read(code) && faults_call(code));
    must(faults_write(to));
    renew(to, 8, 20);
    code = map_pages(8, RW); /* perhaps where it was */
    must(is_zero(code, 8 * PAGE));
    renew(code, 8, 30);
    check(to, 8, 20);
}

static void part_moved(void)
{
    uint8_t *code = code_pages(8, 10);
    uint8_t *to = map_pages(4, PROT_NONE);

    must(mremap(code + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE) == to + PAGE);
    check(to + PAGE, 2, 12);
    check(code, 2, 10);
    check(code + 4 * PAGE, 4, 14);
    renew(to + PAGE, 2, 50);
    check(code + 4 * PAGE, 4, 14);
}

static void grown(void)
{
    uint8_t *code = code_pages(2, 10);
    uint8_t *grown_code;
    uint8_t *data;

    (void)code_pages(60, 100);
    grown_code = mremap(code, 2 * PAGE, 40 * PAGE, MREMAP_MAYMOVE);
    must(grown_code != MAP_FAILED);
    check(grown_code, 2, 10);
    must(is_zero(grown_code + 2 * PAGE, 38 * PAGE));
    renew(grown_code, 40, 20);
    data = map_pages(2, RW);
    put(data, 5);
    data = mremap(data, 2 * PAGE, 300 * PAGE, MREMAP_MAYMOVE);
    must(data != MAP_FAILED);
    must(is_zero(data + PAGE, 299 * PAGE));
    protect(data, 300 * PAGE, RX);
    must_return(data, 5);
}

static void grown_in_place(void)
{
    uint8_t *room = map_pages(16, PROT_NONE);
    uint8_t *code;

    must(mmap(room, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == room);
    code = room;
    for (size_t page = 0; page < 4; page++)
        put(code + page * PAGE, page);
    protect(code, 4 * PAGE, RX);
    errno = 0;
    must(mremap(code, 4 * PAGE, 16 * PAGE, 0) == MAP_FAILED && errno == ENOMEM);
    check(code, 4, 0);
    unmap(room + 4 * PAGE, 12 * PAGE);
    must(mremap(code, 4 * PAGE, 16 * PAGE, 0) == code);
    check(code, 4, 0);
    must(is_zero(code + 4 * PAGE, 12 * PAGE));
    renew(code, 16, 7);
}

static void shrunk(void)
{
    uint8_t *code = code_pages(8, 10);

    faults_start();
    must(mremap(code, 8 * PAGE, 3 * PAGE, 0) == code);
    check(code, 3, 10);
    must(faults_call(code + 3 * PAGE));
    map_again(code + 3 * PAGE, 5);
    renew(code, 8, 20);
}

static void data_moved_over(void)
{
    uint8_t *code = code_pages(4, 10);
    uint8_t *data = map_pages(2, RW);

    faults_start();
    memset(data, 0x5A, 2 * PAGE);
    must(mremap(data, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, code + PAGE) == code + PAGE);
    must(code[PAGE] == 0x5A && code[3 * PAGE - 1] == 0x5A);
    must(faults_call(code + PAGE));
    code[PAGE] = 1;
    check(code, 1, 10);
    check(code + 3 * PAGE, 1, 13);
    renew(code, 4, 20);
}

static void both_moved(void)
{
    uint8_t *code = map_pages(4, RWX);
    uint8_t *to = map_pages(4, PROT_NONE);

    put(code, 1);
    must_return(code, 1);
    put(code + 3 * PAGE, 2); /* one is executable, one writable at the moment, if it can only be one */
    must(mremap(code, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    must_return(to + 3 * PAGE, 2);
    must_return(to, 1);
    put(to, 3);
    must_return(to, 3);
    must(is_zero(to + PAGE, 2 * PAGE));
    to = mremap(to, 4 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
    must(to != MAP_FAILED && is_zero(to + 4 * PAGE, 96 * PAGE));
    put(to + 99 * PAGE, 9);
    must_return(to + 99 * PAGE, 9);
    must_return(to, 3);
}

static void moved_and_kept(void)
{
    uint8_t *code = code_pages(4, 10);
    uint8_t *to = mremap(code, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);

    if (to == MAP_FAILED && errno == EINVAL)
        program_skip("this kernel has no MREMAP_DONTUNMAP for it");
    must(to != MAP_FAILED && to != code);
    check(to, 4, 10);
    must(is_zero(code, 4 * PAGE));
    renew(code, 4, 20);
    check(to, 4, 10);
    renew(to, 4, 30);
    check(code, 4, 20);
}

static void fixed_over(void)
{
    uint8_t *code = code_pages(8, 10);
    char name[] = "/tmp/jitbroker-mappings-XXXXXX";
    int fd = mkstemp(name);

    faults_start();
    must(fd >= 0 && unlink(name) == 0 && ftruncate(fd, 2 * PAGE) == 0 && pwrite(fd, "file", 4, 0) == 4);
    must(mmap(code + 2 * PAGE, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
         code + 2 * PAGE);
    must(is_zero(code + 2 * PAGE, 2 * PAGE) && faults_call(code + 2 * PAGE));
    check(code, 2, 10);
    check(code + 4 * PAGE, 4, 14);
    must(mmap(code + 5 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == code + 5 * PAGE);
    must(memcmp(code + 5 * PAGE, "file", 4) == 0 && faults_call(code + 5 * PAGE));
    check(code + 7 * PAGE, 1, 17);
    must(mmap(code + 6 * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
         code + 6 * PAGE);
    must(faults_read(code + 6 * PAGE));
    must(mmap(code, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code);
    must(is_zero(code, PAGE));
    put(code, 5);
    must_return(code, 5);
    must(mmap(code, PAGE, RX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code);
    must(is_zero(code, PAGE));
    errno = 0;
    must(mmap(code + PAGE, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED);
    must_equal(errno, EEXIST);
    check(code + PAGE, 1, 11);
    renew(code, 8, 20);
    (void)close(fd);
}

static void unmapped(void)
{
    uint8_t *code = code_pages(8, 10);

    faults_start();
    unmap(code, 4 * PAGE);
    must(faults_call(code) && faults_call(code + 3 * PAGE));
    check(code + 4 * PAGE, 4, 14);
    map_again(code, 4);
    renew(code, 8, 20);
    unmap(code + 3 * PAGE, 2 * PAGE + 1); /* rounded up */
    check(code, 3, 20);
    check(code + 6 * PAGE, 2, 26);
    must(faults_call(code + 5 * PAGE));
    unmap(code, 8 * PAGE); /* holes are no mistake */
    must(faults_read(code) && faults_read(code + 7 * PAGE));
    for (size_t i = 0; i < 100; i++) {
        map_again(code, 8);
        renew(code, 8, i);
        unmap(code, 8 * PAGE);
    }
    errno = 0;
    must(munmap(code + 1, PAGE) == -1 && errno == EINVAL);
}

static void dropped(void)
{
    uint8_t *code = code_pages(8, 10);

    must(madvise(code + 2 * PAGE, 2 * PAGE, MADV_DONTNEED) == 0);
    must(is_zero(code + 2 * PAGE, 2 * PAGE));
    check(code, 2, 10);
    check(code + 4 * PAGE, 4, 14);
    renew(code, 8, 20);
    protect(code, 8 * PAGE, RW);
    put(code + PAGE, 99);
    must(madvise(code + PAGE, 3 * PAGE, MADV_DONTNEED) == 0); /* written, and not written since */
    must(is_zero(code + PAGE, 3 * PAGE));
    put(code + 2 * PAGE, 5);
    protect(code, 8 * PAGE, RX);
    must_return(code + 2 * PAGE, 5);
    must(is_zero(code + PAGE, PAGE));
    check(code, 1, 20);
    check(code + 4 * PAGE, 4, 24);
    code = map_pages(2, RWX);
    put(code, 1);
    must_return(code, 1);
    put(code + PAGE, 2);
    must(madvise(code, 2 * PAGE, MADV_DONTNEED) == 0);
    must(is_zero(code, 2 * PAGE));
    put(code, 3);
    must_return(code, 3);
    protect(code, 2 * PAGE, PROT_NONE);
    must(madvise(code, 2 * PAGE, MADV_DONTNEED) == 0);
    protect(code, 2 * PAGE, RX);
    must(is_zero(code, 2 * PAGE));
}

static void freed(void)
{
    uint8_t *code = code_pages(4, 10);

    must(madvise(code, 4 * PAGE, MADV_FREE) == 0);
    for (size_t page = 0; page < 4; page++)
        must(is_zero(code + page * PAGE, PAGE) || code_call(code + page * PAGE) == 10 + page);
    renew(code, 4, 20);
    protect(code, 4 * PAGE, RW);
    must(madvise(code, 4 * PAGE, MADV_FREE) == 0);
    put(code + PAGE, 5);
    protect(code, 4 * PAGE, RX);
    must_return(code + PAGE, 5);
}

static void advised(void)
{
    uint8_t *code = code_pages(4, 10);

    must(madvise(code, 4 * PAGE, MADV_WILLNEED) == 0);
    must(madvise(code, 4 * PAGE, MADV_NORMAL) == 0);
    must(madvise(code, 4 * PAGE, MADV_DONTDUMP) == 0);
    must(posix_madvise(code, 4 * PAGE, POSIX_MADV_RANDOM) == 0);
    must(posix_madvise(code, 4 * PAGE, POSIX_MADV_DONTNEED) == 0); /* which glibc makes nothing */
    check(code, 4, 10);
    errno = 0;
    must(madvise(code + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
    must(mlock(code, 4 * PAGE) == 0 && munlock(code, 4 * PAGE) == 0);
    must(msync(code, 4 * PAGE, MS_ASYNC) == 0);
    check(code, 4, 10);
}

static void forbidden(void)
{
    uint8_t *code = code_pages(4, 10);

    faults_start();
    protect(code + PAGE, 2 * PAGE, PROT_NONE);
    must(faults_read(code + PAGE) && faults_call(code + PAGE) && faults_write(code + 2 * PAGE));
    check(code, 1, 10);
    check(code + 3 * PAGE, 1, 13);
    protect(code, 4 * PAGE, RX);
    check(code, 4, 10);
    protect(code, 4 * PAGE, PROT_NONE);
    protect(code, 4 * PAGE, PROT_READ);
    must(faults_call(code) && faults_write(code));
    must(code[0] == 0xB8);
    protect(code, 4 * PAGE, PROT_NONE);
    renew(code, 4, 20);
}

static void reservation(void)
{
    struct dice dice = {dice_seed()};
    uint8_t *all = mmap(NULL, GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    enum { PIECES = 64, PIECE_PAGES = 16 };
    uint8_t *pieces[PIECES];

    must(all != MAP_FAILED);
    for (size_t i = 0; i < PIECES; i++) {
        size_t slot = GIB / PIECES / (PIECE_PAGES * PAGE);

        pieces[i] = all + i * (GIB / PIECES) + dice_below(&dice, slot) * PIECE_PAGES * PAGE;
        if (i == 0)
            pieces[i] = all;
        if (i == PIECES - 1)
            pieces[i] = all + GIB - PIECE_PAGES * PAGE;
        renew(pieces[i], PIECE_PAGES, i * 100);
    }
    for (size_t i = 0; i < PIECES; i += 2) { /* as V8 gives back what it doesn't use */
        if (i % 4 == 0)
            must(mmap(pieces[i], PIECE_PAGES * PAGE, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == pieces[i]);
        else
            must(madvise(pieces[i], PIECE_PAGES * PAGE, MADV_DONTNEED) == 0);
    }
    for (size_t i = 1; i < PIECES; i += 2)
        check(pieces[i], PIECE_PAGES, i * 100);
    for (size_t i = 0; i < PIECES; i += 2) {
        protect(pieces[i], PIECE_PAGES * PAGE, RW);
        must(is_zero(pieces[i], PIECE_PAGES * PAGE));
        renew(pieces[i], PIECE_PAGES, i * 200);
    }
    unmap(all, GIB);
    all = mmap(NULL, GIB, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
               0); /* as Java's code cache may be */
    must(all != MAP_FAILED);
    for (size_t i = 0; i < 100; i++) {
        uint8_t *at = all + dice_below(&dice, GIB / 64) * 64;

        put(at, i);
        must_return(at, i);
    }
    unmap(all, GIB);
}

static void keys(void)
{
    uint8_t *code = map_pages(2, RW);
    int key;

    put(code, 1);
    must(pkey_mprotect(code, 2 * PAGE, RX, -1) == 0);
    must_return(code, 1);
    must(pkey_mprotect(code, 2 * PAGE, RW, -1) == 0);
    put(code, 2);
    key = pkey_alloc(0, 0);
    if (key < 0)
        must(errno == ENOSPC || errno == EINVAL); /* there is none here: as programs expect it */
    else
        must(pkey_mprotect(code, 2 * PAGE, RX, key) == 0);
    if (key < 0)
        protect(code, 2 * PAGE, RX);
    must_return(code, 2);
}

static void by_raw_call(void)
{
    uint8_t *code;

    faults_start();
    for (size_t i = 0; i < 20; i++) {
        code = (uint8_t *)syscall(SYS_mmap, NULL, 4 * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(code != MAP_FAILED);
        must(is_zero(code, 4 * PAGE));
        put(code, i);
        must_return(code, i);
        put(code + PAGE, i);
        must(syscall(SYS_mprotect, code, 4 * PAGE, RX) == 0);
        must_return(code + PAGE, i);
        must(faults_write(code + PAGE));
        must(syscall(SYS_mprotect, code, 2 * PAGE, RW) == 0);
        put(code, i + 1);
        must(syscall(SYS_pkey_mprotect, code, 2 * PAGE, RX, -1) == 0);
        must_return(code, i + 1);
        must(syscall(SYS_mprotect, code, PAGE, PROT_READ) == 0);
        must(faults_call(code));
        must(syscall(SYS_munmap, code, 4 * PAGE) == 0);
    }
}

/* Calls that nobody answers by a trap, since they make nothing executable, and what comes after. */
static void past_the_library(void)
{
    uint8_t *code = code_pages(8, 10);
    uint8_t *to = map_pages(8, PROT_NONE);

    faults_start();
    must(syscall(SYS_munmap, code, 8 * PAGE) == 0);
    must((uint8_t *)syscall(SYS_mmap, code, 8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
         code);
    must(is_zero(code, 8 * PAGE));
    put(code, 5);
    protect(code, 8 * PAGE, RX);
    must_return(code, 5);
    must(is_zero(code + PAGE, 7 * PAGE));
    must(syscall(SYS_mprotect, code, 8 * PAGE, RW) == 0);
    must(faults_call(code));
    put(code + PAGE, 6);
    protect(code, 8 * PAGE, RX);
    must_return(code + PAGE, 6);
    must((uint8_t *)syscall(SYS_mremap, code, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
    must_return(to + PAGE, 6);
    protect(to, 8 * PAGE, RW);
    put(to, 7);
    protect(to, 8 * PAGE, RX);
    must_return(to, 7);
    must(syscall(SYS_madvise, to, PAGE, MADV_DONTNEED) == 0);
    must(is_zero(to, PAGE));
    must_return(to + PAGE, 6);
}

static void kernel_reads_and_writes(void)
{
    uint8_t *code = code_pages(4, 10);
    uint8_t copy[PAGE];
    struct iovec here = {copy, PAGE};
    struct iovec there = {code + PAGE, PAGE};
    int ends[2];

    must(pipe(ends) == 0);
    must(write(ends[1], code, PAGE) == (ssize_t)PAGE);
    must(read(ends[0], copy, PAGE) == (ssize_t)PAGE && memcmp(copy, code, PAGE) == 0);
    must(process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)PAGE);
    must(memcmp(copy, code + PAGE, PAGE) == 0);
    for (size_t i = 0; i < 40; i++) {
        protect(code, 4 * PAGE, RW);
        put(copy, 500 + i);
        must(write(ends[1], copy, PAGE) == (ssize_t)PAGE);
        must(read(ends[0], code + 2 * PAGE, PAGE) == (ssize_t)PAGE); /* into what was code */
        protect(code, 4 * PAGE, RX);
        must_return(code + 2 * PAGE, 500 + i);
        must_return(code + 3 * PAGE, 13);
    }
    errno = 0;
    must(write(ends[1], copy, 6) == 6);
    must(read(ends[0], code, 6) == -1 && errno == EFAULT);
}

static void of_files(void)
{
    char name[] = "/tmp/jitbroker-mappings-XXXXXX";
    int fd = mkstemp(name);
    uint8_t function[CODE_RETURN_BYTES];
    uint8_t *code;

    must(fd >= 0 && ftruncate(fd, 4 * PAGE) == 0);
    put(function, 42);
    must(pwrite(fd, function, sizeof function, (off_t)PAGE) == (ssize_t)sizeof function);
    must(pwrite(fd, function, sizeof function, (off_t)(3 * PAGE)) == (ssize_t)sizeof function);
    code = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0); /* as of a library that is loaded */
    must(code != MAP_FAILED);
    protect(code, 4 * PAGE, RX);
    must_return(code + PAGE, 42);
    protect(code, 2 * PAGE, RW); /* and relocated */
    put(code + PAGE + 64, 43);
    protect(code, 2 * PAGE, RX);
    must_return(code + PAGE + 64, 43);
    must_return(code + PAGE, 42);
    must_return(code + 3 * PAGE, 42);
    must(pread(fd, function, 1, (off_t)(PAGE + 64)) == 1 && function[0] == 0);
    must(unlink(name) == 0);
    (void)close(fd);
}

static void libraries(void)
{
    uint8_t *code = code_pages(4, 10);

    for (size_t i = 0; i < 5; i++) {
        void *library = dlopen("libutil.so.1", RTLD_NOW | RTLD_LOCAL);

        if (library == NULL)
            library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
        must(library != NULL);
        renew(code, 4, i);
        must(dlclose(library) == 0);
        check(code, 4, i);
    }
}

static void mistakes(void)
{
    errno = 0;
    must(mmap(NULL, 0, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
    errno = 0;
    must(mmap(NULL, PAGE, RWX, MAP_PRIVATE, -1, 0) == MAP_FAILED && errno == EBADF);
    errno = 0;
    must(mmap(NULL, SIZE_MAX - PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
         errno == ENOMEM);
    errno = 0;
    must(mmap((void *)(uintptr_t)1, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
    must_equal(errno, EINVAL);
    errno = 0;
    must(mremap((void *)(uintptr_t)1, PAGE, PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EINVAL);
    errno = 0;
    must(madvise((void *)(uintptr_t)(PAGE * 2), PAGE, MADV_DONTNEED) == -1 && errno == ENOMEM);
}

int main(int argc, char **argv)
{
    static const struct program_case cases[] = {
        {"moved", "mremap moves code: it runs there, and what was here is gone", moved},
        {"part_moved", "mremap moves two pages out of the middle of code", part_moved},
        {"grown", "mremap makes code longer: what is new is zero", grown},
        {"grown_in_place", "mremap makes code longer where it is, or says that it can't", grown_in_place},
        {"shrunk", "mremap makes code shorter", shrunk},
        {"data_moved_over", "mremap moves data over code", data_moved_over},
        {"both_moved", "mremap moves and grows pages that are writable and executable at once", both_moved},
        {"moved_and_kept", "mremap with MREMAP_DONTUNMAP leaves empty pages behind", moved_and_kept},
        {"fixed_over", "MAP_FIXED over parts of code: anonymous, a file, nothing, both", fixed_over},
        {"unmapped", "munmap of half, of the middle, of all, and the address is used again", unmapped},
        {"dropped", "MADV_DONTNEED on code, on what was code, and on pages that are both", dropped},
        {"freed", "MADV_FREE leaves the content or zeros, and what is stored then stays", freed},
        {"advised", "other advice, mlock and msync do to code what they do to memory", advised},
        {"forbidden", "code that nobody may touch for a while", forbidden},
        {"reservation", "a GiB that is reserved and used in pieces, given back and used again", reservation},
        {"keys", "pkey_mprotect without a key, and with one if there is one", keys},
        {"by_raw_call", "mmap, mprotect, pkey_mprotect and munmap as system calls of its own", by_raw_call},
        {"past_the_library", "munmap, mmap, mprotect, mremap and madvise past libc, then through it",
         past_the_library},
        {"kernel_reads_and_writes", "read and write, from code and into what was code",
         kernel_reads_and_writes},
        {"of_files", "a private mapping of a file is executable, is changed and is executable again",
         of_files},
        {"libraries", "libraries are loaded and unloaded in between", libraries},
        {"mistakes", "what the calls refuse they refuse by the same errno", mistakes},
    };

    return program_main(argc, argv, cases, PROGRAM_COUNT(cases));
}
