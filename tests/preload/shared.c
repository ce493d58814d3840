/* SPDX-License-Identifier: MIT */
/*
 * Code in memory that processes share, as a server has it that forks its workers beforehand: what one adds
 * all others run. PHP's opcache does so.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/preload/program.h"

#define WORKERS 4u
#define EACH 60u
#define FUNCTIONS (WORKERS * EACH)
#define CODE_BYTES ((size_t)16 * PAGE)
#define SLOT (CODE_BYTES / FUNCTIONS / 16 * 16)

/* Beside the code, in memory that is shared as well. */
struct board {
    pthread_mutex_t lock;
    uint32_t count; /* of functions that are there */
};

static struct board *board;
static uint8_t *code;

static void make(int protection)
{
    pthread_mutexattr_t attributes;
    void *shared = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    must(shared != MAP_FAILED);
    board = shared;
    must(pthread_mutexattr_init(&attributes) == 0);
    must(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    must(pthread_mutex_init(&board->lock, &attributes) == 0);
    shared = mmap(NULL, CODE_BYTES, protection, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared != MAP_FAILED);
    code = shared;
}

static uint32_t number(uint32_t function)
{
    return function * 31 + 7;
}

/* With the lock. */
static void add(void)
{
    protect(code, CODE_BYTES, RW);
    put(code + board->count * SLOT, number(board->count));
    protect(code, CODE_BYTES, RX);
    __atomic_store_n(&board->count, board->count + 1, __ATOMIC_RELEASE);
}

static void run_all(void)
{
    uint32_t count = __atomic_load_n(&board->count, __ATOMIC_ACQUIRE);

    for (uint32_t i = 0; i < count; i++)
        must_return(code + i * SLOT, number(i));
}

static void work(void)
{
    for (uint32_t i = 0; i < EACH; i++) {
        must(pthread_mutex_lock(&board->lock) == 0);
        add();
        must(pthread_mutex_unlock(&board->lock) == 0);
        run_all(); /* others add at the same time */
    }
    while (__atomic_load_n(&board->count, __ATOMIC_ACQUIRE) < FUNCTIONS && getppid() != 1)
        run_all();
    run_all();
}

static void serve(void)
{
    pid_t workers[WORKERS];
    bool passed = true;

    for (size_t i = 0; i < WORKERS; i++) {
        workers[i] = split();
        if (workers[i] == 0) {
            work();
            _exit(0);
        }
    }
    for (size_t i = 0; i < WORKERS; i++) {
        int status = 0;
        pid_t ended = waitpid(-1, &status, 0);

        must(ended > 0);
        if (status != 0) { /* the others would wait for what it has to add */
            passed = false;
            __atomic_store_n(&board->count, FUNCTIONS + 1, __ATOMIC_RELEASE);
            for (size_t k = 0; k < WORKERS; k++)
                (void)kill(workers[k], SIGKILL);
        }
    }
    must(passed);
    must_equal(board->count, FUNCTIONS);
    run_all();
}

static void flipped(void)
{
    make(RW);
    protect(code, CODE_BYTES, RX);
    serve();
}

/* What the master has made before is there for all. */
static void made_before(void)
{
    make(RW);
    put(code + CODE_BYTES - 16, 77);
    protect(code, CODE_BYTES, RX);
    must_return(code + CODE_BYTES - 16, 77);
    for (size_t i = 0; i < 3; i++) {
        pid_t child = split();

        if (child == 0) {
            must_return(code + CODE_BYTES - 16, 77 + i);
            protect(code, CODE_BYTES, RW);
            put(code + CODE_BYTES - 16, 78 + i);
            protect(code, CODE_BYTES, RX);
            must_return(code + CODE_BYTES - 16, 78 + i);
            _exit(0);
        }
        must_pass(child);
        must_return(code + CODE_BYTES - 16, 78 + i);
    }
}

/* Two processes by turns: each runs what the other has changed, and changes it. */
static void take_turns(uint32_t first, int from, int to)
{
    char byte = 0;

    for (uint32_t i = first; i < 40; i += 2) {
        must(i == 0 || read(from, &byte, 1) == 1);
        must_return(code, i);
        put(code, i + 1);
        must_return(code, i + 1);
        must(write(to, &byte, 1) == 1);
    }
}

static void at_once(void)
{
    int there[2];
    int back[2];
    pid_t child;

    make(RWX);
    put(code, 0);
    must(pipe(there) == 0 && pipe(back) == 0);
    child = split();
    if (child == 0) {
        (void)close(there[1]);
        take_turns(1, there[0], back[1]);
        _exit(0);
    }
    (void)close(back[1]);
    take_turns(0, back[0], there[1]);
    must_pass(child);
}

static void written_data(void)
{
    pid_t child;

    make(RW);
    protect(code, PAGE, RX);
    child = split();
    if (child == 0) {
        memset(code + PAGE, 0x5A, PAGE); /* beside code, and never code itself */
        protect(code, PAGE, RW);
        code[0] = 0xA5; /* what was code, and is data by now */
        _exit(0);
    }
    must_pass(child);
    must(code[PAGE] == 0x5A && code[2 * PAGE - 1] == 0x5A);
    must_equal(code[0], 0xA5);
}

static void alone(void)
{
    make(RW);
    for (size_t i = 0; i < 100; i++) {
        protect(code, CODE_BYTES, RW);
        put(code + i * 64, i);
        protect(code, CODE_BYTES, RX);
        must_return(code + i * 64, i);
        must_return(code, 0);
    }
    must(madvise(code, CODE_BYTES, MADV_DONTNEED) == 0); /* of shared memory the content stays */
    must_return(code + 99 * 64, 99);
}

/* Beside each other, where what is known of pages is kept for 64 together. */
static uint8_t *make_neighbours(void)
{
    enum { WINDOW = 64 * PAGE };
    uint8_t *place = map_pages((size_t)WINDOW / PAGE * 2, PROT_NONE);
    uint8_t *start = place + (WINDOW - (uintptr_t)place % WINDOW) % WINDOW;

    code = mmap(start + PAGE, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    must(code == start + PAGE);
    must(mmap(start, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == start);
    must(mmap(start + 2 * PAGE, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == start + 2 * PAGE);
    return start;
}

static void change(uint8_t *page, uint32_t value)
{
    protect(page, PAGE, RW);
    put(page, value);
    protect(page, PAGE, RX);
}

static void beside_others(void)
{
    uint8_t *page = make_neighbours();
    pid_t child;

    for (uint32_t i = 0; i < 3; i++)
        put(page + i * PAGE, i);
    protect(page, 3 * PAGE, RX);
    child = split();
    if (child == 0) {
        for (uint32_t i = 0; i < 3; i++) {
            must_return(page + i * PAGE, i);
            change(page + i * PAGE, 10 + i);
            must_return(page + i * PAGE, 10 + i);
        }
        _exit(0);
    }
    must_pass(child);
    must_return(page, 0); /* its own */
    must_return(page + PAGE, 11);
    must_return(page + 2 * PAGE, 12);
    unmap(page + PAGE, PAGE);
    change(page, 20);
    change(page + 2 * PAGE, 22);
    must_return(page, 20);
    must_return(page + 2 * PAGE, 22);
    protect(page, PAGE, RW); /* and nothing else */
    page[0] = 1;
    must_return(page + 2 * PAGE, 22);
}

static void ended(void)
{
    unsigned fds = 0;
    unsigned maps = 0;

    for (uint32_t i = 0; i < 40; i++) {
        pid_t child;

        make(RW);
        change(code, i);
        must_return(code, i);
        child = split();
        if (child == 0) {
            must_return(code, i);
            unmap(code, CODE_BYTES);
            _exit(0);
        }
        must_pass(child);
        must_return(code, i);
        unmap(code, CODE_BYTES);
        unmap(board, PAGE);
        if (i == 4) {
            fds = count_fds();
            maps = count_maps();
        }
    }
    must_equal(count_fds(), fds);
    must(count_maps() <= maps + 2); /* neighbours are one line, or two */
}

int main(int argc, char **argv)
{
    static const struct program_case cases[] = {
        {"alone", "one process flips memory that could be shared", alone},
        {"made_before", "workers run what the master made, and change it for all", made_before},
        {"flipped", "four workers flip and add, and run what the others added", flipped},
        {"at_once", "workers change what is writable and executable at once, and run what others changed",
         at_once},
        {"beside_others", "memory of its own beside code that is shared, and code that others share",
         beside_others},
        {"ended", "of code that was shared, and is unmapped, nothing stays open or mapped", ended},
        {"written_data", "data beside shared code is shared", written_data},
    };

    return program_main(argc, argv, cases, PROGRAM_COUNT(cases));
}
