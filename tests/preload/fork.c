/* SPDX-License-Identifier: MIT */
/* Processes that come of processes: each has code of its own, whatever its relatives write at the same
 * address. */
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/preload/program.h"

extern char **environ;

#define OTHER_UID 64913u

/* Two pages that are flipped, two that are writable and executable at once. */
static uint8_t *flipped;
static uint8_t *at_once;

/* The first time all within 256 KiB: what a process keeps of its ancestors, it keeps by the window. */
static uint8_t *place_pages(uintptr_t place, size_t pages, int protection)
{
    uint8_t *at = mmap((void *)place, pages * PAGE, protection,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    return at != MAP_FAILED ? at : map_pages(pages, protection);
}

static void make(size_t number)
{
    flipped = place_pages(0x30000000000, 2, RW);
    at_once = place_pages(0x30000000000 + 2 * PAGE, 2, RWX);
    put(flipped, number);
    put(flipped + PAGE, number + 1);
    protect(flipped, 2 * PAGE, RX);
    put(at_once, number + 2);
    put(at_once + PAGE, number + 3);
    must_return(at_once + PAGE, number + 3);
}

static void check(size_t number)
{
    must_return(flipped, number);
    must_return(flipped + PAGE, number + 1);
    must_return(at_once, number + 2);
    must_return(at_once + PAGE, number + 3);
}

static void change(size_t number)
{
    protect(flipped, 2 * PAGE, RW);
    put(flipped, number);
    put(flipped + PAGE, number + 1);
    protect(flipped, 2 * PAGE, RX);
    put(at_once, number + 2);
    put(at_once + PAGE, number + 3);
    check(number);
}

static void tell(int fd)
{
    must(write(fd, "x", 1) == 1);
}

static void hear(int fd)
{
    char byte;

    must(read(fd, &byte, 1) == 1);
}

static void each_its_own(void)
{
    make(10);
    for (size_t i = 0; i < 100; i++) {
        pid_t child = split();

        if (child == 0) {
            check(10 * i + 10);
            change(500000 + i);
            check(500000 + i);
            _exit(0);
        }
        change(10 * i + 20);
        must_pass(child);
        check(10 * i + 20);
    }
}

/* What the child inherited stays, though the parent goes on writing before the child first does. */
static void inherited(void)
{
    int go[2];

    make(10);
    must(pipe(go) == 0);
    for (size_t i = 0; i < 20; i++) {
        pid_t child = split();

        if (child == 0) {
            hear(go[0]);
            check(i == 0 ? 10 : (i - 1) * 1000 + 49);
            _exit(0);
        }
        for (size_t k = 0; k < 50; k++)
            change(i * 1000 + k);
        tell(go[1]);
        must_pass(child);
    }
}

/* And the other way round: the child changes all, the parent has never touched it since. */
static void parent_untouched(void)
{
    make(10);
    for (size_t i = 0; i < 20; i++) {
        pid_t child = split();

        if (child == 0) {
            for (size_t k = 0; k < 50; k++)
                change(5000 + k);
            _exit(0);
        }
        must_pass(child);
        check(10);
    }
}

/* The child's half-done flip, and the parent's: it was writable when they parted. */
static void parted_writable(void)
{
    make(10);
    for (size_t i = 0; i < 20; i++) {
        pid_t child;

        protect(flipped, 2 * PAGE, RW);
        put(flipped, i);
        put(at_once, i); /* writable at this moment, if it can only be one at a time */
        child = split();
        put(flipped + PAGE, child == 0 ? 1000 : 2000);
        put(at_once + PAGE, child == 0 ? 1000 : 2000);
        protect(flipped, 2 * PAGE, RX);
        must_return(flipped, i);
        must_return(at_once, i);
        must_return(flipped + PAGE, child == 0 ? 1000 : 2000);
        must_return(at_once + PAGE, child == 0 ? 1000 : 2000);
        if (child == 0)
            _exit(0);
        must_pass(child);
    }
}

static void breed(size_t depth, size_t number)
{
    pid_t children[3];

    check(number);
    change(number * 10);
    for (size_t i = 0; depth > 0 && i < 3; i++) {
        children[i] = split();
        if (children[i] == 0) {
            breed(depth - 1, number * 10);
            _exit(0);
        }
        change(number * 10);
    }
    for (size_t i = 0; depth > 0 && i < 3; i++)
        must_pass(children[i]);
    check(number * 10);
}

static void storm(void)
{
    make(1);
    for (size_t i = 0; i < 3; i++) {
        pid_t child = split();

        if (child == 0) {
            breed(3, 1);
            _exit(0);
        }
        must_pass(child);
        check(1);
    }
}

static void parent_first(void)
{
    int done[2];
    int go[2];
    pid_t child;

    make(10);
    must(pipe(done) == 0 && pipe(go) == 0);
    child = split();
    if (child == 0) {
        change(20);
        if (split() == 0) {
            hear(go[0]); /* its parent is no more */
            check(20);
            change(30);
            check(30);
            tell(done[1]);
        }
        _exit(0);
    }
    must_pass(child);
    tell(go[1]);
    hear(done[0]);
    check(10);
}

static bool done;

static void *keep_busy(void *unused)
{
    uint8_t *mine = map_pages(2, RW);
    uint8_t *both = map_pages(1, RWX);

    (void)unused;
    for (size_t i = 0; !__atomic_load_n(&done, __ATOMIC_ACQUIRE); i++) {
        protect(mine, 2 * PAGE, RW);
        put(mine + PAGE, i);
        protect(mine, 2 * PAGE, RX);
        must_return(mine + PAGE, i);
        put(both, i);
        must_return(both, i);
    }
    return NULL;
}

static void threads_running(void)
{
    pthread_t threads[3];

    make(10);
    for (size_t i = 0; i < 3; i++)
        must(pthread_create(&threads[i], NULL, keep_busy, NULL) == 0);
    for (size_t i = 0; i < 60; i++) {
        pid_t child = split();

        if (child == 0) {
            check(10 * i + 10);
            change(7000 + i);
            _exit(0);
        }
        change(10 * i + 20);
        must_pass(child);
        check(10 * i + 20);
    }
    __atomic_store_n(&done, true, __ATOMIC_RELEASE);
    for (size_t i = 0; i < 3; i++)
        must(pthread_join(threads[i], NULL) == 0);
}

static void *split_often(void *number)
{
    for (size_t i = 0; i < 15; i++) {
        pid_t child = split();

        if (child == 0) {
            change(*(size_t *)number + i);
            _exit(0);
        }
        must_pass(child);
    }
    return NULL;
}

static void threads_fork(void)
{
    pthread_t threads[3];
    size_t numbers[3] = {1000, 2000, 3000};

    make(10);
    for (size_t i = 0; i < 3; i++)
        must(pthread_create(&threads[i], NULL, split_often, &numbers[i]) == 0);
    for (size_t i = 0; i < 3; i++)
        must(pthread_join(threads[i], NULL) == 0);
    check(10);
}

/* The case that the spawned programs run. */
static void once(void)
{
    make(10);
    change(20);
}

static void spawned(void)
{
    static const char *const arguments[] = {"fork", "once", NULL};
    char *const *vector = (char *const *)(uintptr_t)arguments;
    char command[300];
    ssize_t length;
    FILE *output;

    make(10);
    length = readlink("/proc/self/exe", command, 256);
    must(length > 0);
    (void)strcpy(command + length, " once");
    for (size_t i = 0; i < 5; i++) {
        pid_t child;

        must(posix_spawn(&child, "/proc/self/exe", NULL, NULL, vector, environ) == 0);
        change(100 + i);
        must_pass(child);
        check(100 + i);
        must_equal(system(command), 0); /* NOLINT: of the test's own making */
        check(100 + i);
        output = popen(command, "r"); /* NOLINT: of the test's own making */
        must(output != NULL && pclose(output) == 0);
        child = vfork();
        if (child == 0) {
            (void)execve("/proc/self/exe", vector, environ);
            _exit(127);
        }
        must_pass(child);
        change(200 + i);
    }
}

/* A child of vfork() shares its parent's memory: what it runs is the parent's. */
static void vfork_runs(void)
{
    make(10);
    for (size_t i = 0; i < 5; i++) {
        pid_t child = vfork();

        if (child == 0)
            _exit(code_call(flipped) == 10 + i && code_call(at_once) == 12 + i ? 0 : 1);
        must_pass(child);
        change(11 + i);
    }
}

static void by_raw_call(void)
{
    make(10);
    for (size_t i = 0; i < 20; i++) {
        pid_t child = (pid_t)(i % 2 == 0 ? syscall(SYS_fork) : syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));

        must(child >= 0);
        if (child == 0) {
            check(i + 10);
            change(9000 + i);
            _exit(0);
        }
        change(i + 11);
        must_pass(child);
        check(i + 11);
    }
}

static void other_user(void)
{
    if (geteuid() != 0)
        program_skip("only root may become another user");
    make(10);
    for (size_t i = 0; i < 10; i++) {
        pid_t child = split();

        if (child == 0) {
            if (i % 2 == 0)
                change(20);
            must(setgroups(0, NULL) == 0);
            must(setresgid(OTHER_UID, OTHER_UID, OTHER_UID) == 0);
            must(setresuid(OTHER_UID, OTHER_UID, OTHER_UID) == 0);
            check(i % 2 == 0 ? 20 : 10 + i);
            change(30);
            make(40);
            change(50);
            _exit(0);
        }
        must_pass(child);
        change(11 + i);
    }
}

static void thousand(void)
{
    unsigned maps = 0;
    unsigned fds = 0;
    long resident = 0;

    make(10);
    for (size_t i = 0; i < 1000; i++) {
        pid_t child = split();

        if (child == 0) {
            if (i % 4 == 0)
                change(5000 + i);
            check(i % 4 == 0 ? 5000 + i : 10 + i);
            _exit(0);
        }
        change(11 + i);
        must_pass(child);
        if (i == 100) {
            maps = count_maps();
            fds = count_fds();
            resident = resident_kib();
        }
    }
    must(count_maps() <= maps + 4);
    must(count_fds() <= fds + 2); /* some come and go */
    must(resident_kib() <= resident + 1024);
}

/* Each is the child of the one before. */
static void generations(void)
{
    unsigned maps = 0;
    unsigned fds = 0;

    make(0);
    for (size_t i = 1; i <= 64; i++) {
        pid_t child;

        check(i - 1);
        child = split();
        if (child != 0) {
            check(i - 1);
            must_pass(child);
            check(i - 1);
            return;
        }
        change(i);
        if (i == 4) {
            maps = count_maps();
            fds = count_fds();
        }
    }
    must(count_maps() <= maps + 4);
    must_equal(count_fds(), fds);
}

/* As daemons begin: two forks, a session, and every descriptor closed that may be open. */
static void daemonized(void)
{
    int ends[2];
    pid_t child;

    make(10);
    must(pipe(ends) == 0);
    child = split();
    if (child == 0) {
        must(setsid() > 0);
        if (split() != 0)
            _exit(0);
        for (int fd = 0; fd < 1024; fd++) {
            if (fd != ends[1])
                (void)close(fd);
        }
        check(10);
        change(20);
        must(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2);
        change(30);
        tell(ends[1]);
        _exit(0);
    }
    must_pass(child);
    (void)close(ends[1]);
    hear(ends[0]);
    check(10);
}

static void numbers(void)
{
    int first = open("/dev/null", O_RDONLY);

    must(first >= 0);
    make(10);
    change(20);
    must_equal(open("/dev/null", O_RDONLY), first + 1); /* what is opened beside is not in the way */
    for (int fd = 3; fd < 20; fd++)
        must_equal(dup2(first, fd), fd);
    change(30);
}

static void all_closed(void)
{
    make(10);
    for (int fd = 3; fd < 1024; fd++)
        (void)close(fd);
    change(20);
    must(close_range(3, ~0u, 0) == 0);
    change(30);
    closefrom(3);
    change(40);
}

static void all_closed_by_raw_call(void)
{
    make(10);
    must(syscall(SYS_close_range, 3u, ~0u, 0u) == 0);
    check(10);
    change(20);
    for (int fd = 3; fd < 1024; fd++)
        (void)syscall(SYS_close, fd);
    change(30);
}

int main(int argc, char **argv)
{
    static const struct program_case cases[] = {
        {"each_its_own", "parent and child overwrite the same code with different numbers", each_its_own},
        {"inherited", "a child runs what it inherited while its parent writes on", inherited},
        {"parent_untouched", "what children write is not seen by their parent", parent_untouched},
        {"parted_writable", "they part while the code is writable", parted_writable},
        {"storm", "forty children, grandchildren and theirs flip, patch and run", storm},
        {"parent_first", "the parent ends first, and the child goes on", parent_first},
        {"threads_running", "children of a process whose threads flip and patch", threads_running},
        {"threads_fork", "three threads fork at the same time", threads_fork},
        {"once", "what the spawned programs do", once},
        {"spawned", "posix_spawn, system, popen, vfork and exec", spawned},
        {"vfork_runs", "a child of vfork runs its parent's code", vfork_runs},
        {"by_raw_call", "children that were made by a system call of the program's own", by_raw_call},
        {"other_user", "children that become another user", other_user},
        {"thousand", "a thousand forks, and neither memory nor mappings nor descriptors grow", thousand},
        {"generations", "64 generations, and neither mappings nor descriptors grow", generations},
        {"daemonized", "a daemon that closes all descriptors it may have", daemonized},
        {"numbers", "what is opened gets the lowest number, as ever", numbers},
        {"all_closed", "all descriptors are closed, and code is made as before", all_closed},
        {"all_closed_by_raw_call", "so they are by system calls of the program's own",
         all_closed_by_raw_call},
    };

    return program_main(argc, argv, cases, PROGRAM_COUNT(cases));
}
