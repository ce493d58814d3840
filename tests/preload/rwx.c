/* SPDX-License-Identifier: MIT */
/*
 * Memory that is writable and executable at once, as node, Java, PCRE2 or libffi have it: code that is
 * patched while it runs, code that writes into its own page, data beside code.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <time.h>

#include "tests/preload/program.h"
#include "tests/preload/snippets.h"
#include "tests/unit/dice.h"

#define PATCHES 3000u
#define EXECUTORS 3

/* A thread that runs a function again and again, and says what came of it last. */
struct executor {
    const uint8_t *code;
    uint32_t last;
    bool end;
};

static void *execute(void *of)
{
    struct executor *executor = of;

    while (!__atomic_load_n(&executor->end, __ATOMIC_ACQUIRE))
        __atomic_store_n(&executor->last, code_call(executor->code), __ATOMIC_RELEASE);
    return NULL;
}

static void await(struct executor *executors, size_t count, uint32_t number)
{
    for (size_t i = 0; i < count; i++) {
        while (__atomic_load_n(&executors[i].last, __ATOMIC_ACQUIRE) != number)
            sched_yield();
    }
}

static void start(struct executor *executors, pthread_t *threads, size_t count, const uint8_t *code,
                  size_t step)
{
    for (size_t i = 0; i < count; i++) {
        executors[i] = (struct executor){.code = code + i * step};
        must(pthread_create(&threads[i], NULL, execute, &executors[i]) == 0);
    }
}

static void stop(struct executor *executors, const pthread_t *threads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        __atomic_store_n(&executors[i].end, true, __ATOMIC_RELEASE);
    for (size_t i = 0; i < count; i++)
        must(pthread_join(threads[i], NULL) == 0);
}

static void written_and_run(void)
{
    uint8_t *code = map_pages(16, RWX);

    for (size_t i = 0; i < 2000; i++) {
        uint8_t *at = code + (i * 72) % (16 * PAGE - 16);

        put(at, i);
        must_return(at, i);
        put(at, i + 1);
        must_return(at, i + 1);
    }
}

static void immediates(void)
{
    struct executor executors[EXECUTORS];
    pthread_t threads[EXECUTORS];
    uint8_t *code = map_pages(2, RWX);
    uint8_t *function = code + 64 + 3; /* so that the immediate is aligned */

    put(function, 0);
    start(executors, threads, EXECUTORS, function, 0);
    for (uint32_t i = 1; i <= PATCHES; i++) {
        __atomic_store_n((uint32_t *)(void *)(function + 1), i, __ATOMIC_RELEASE);
        if (i % 50 == 0) /* each waits for a turn of the scheduler, or more */
            await(executors, EXECUTORS, i);
    }
    stop(executors, threads, EXECUTORS);
    must_return(function, PATCHES);
}

static void many_patchers(void)
{
    struct executor executors[2];
    pthread_t threads[2];
    uint8_t *code = map_pages(1, RWX); /* each runs a function of its own, in the same page */

    put(code + 3, 0);
    put(code + 64 + 3, 0);
    start(executors, threads, 2, code + 3, 64);
    for (uint32_t i = 1; i <= 200; i++) {
        __atomic_store_n((uint32_t *)(void *)(code + 64 * (i % 2) + 4), i, __ATOMIC_RELEASE);
        await(executors + i % 2, 1, i);
    }
    stop(executors, threads, 2);
}

static void jumps(void)
{
    /* nopl 0(rax, rax); mov eax, 1; ret -- and what the nop becomes: jmp to mov eax, 2; ret */
    static const uint8_t body[] = {0x0F, 0x1F, 0x44, 0x00, 0x00, 0xB8, 1, 0,   0,
                                   0,    0xC3, 0xB8, 2,    0,    0,    0, 0xC3};
    static const uint8_t jump[] = {0xE9, 6, 0, 0, 0};
    struct executor executors[EXECUTORS];
    pthread_t threads[EXECUTORS];
    uint8_t *code = map_pages(1, RWX);
    uint64_t with[2];

    memcpy(code, body, sizeof body);
    memcpy(&with[0], code, sizeof with[0]);
    memcpy(code, jump, sizeof jump);
    memcpy(&with[1], code, sizeof with[1]);
    start(executors, threads, EXECUTORS, code, 0);
    for (uint32_t i = 1; i <= PATCHES; i++) {
        __atomic_store_n((uint64_t *)(void *)code, with[i % 2], __ATOMIC_RELEASE);
        if (i % 100 < 2)
            await(executors, EXECUTORS, 1 + i % 2);
    }
    stop(executors, threads, EXECUTORS);
}

#define TARGET_BYTES ((size_t)3 * PAGE)

/* A block of three pages, always the same, with the snippet at that place. */
static void fill(uint8_t *block, const struct snippet *snippet, size_t code)
{
    for (size_t i = 0; i < TARGET_BYTES; i++)
        block[i] = (uint8_t)(i * 7 + i / 256);
    memcpy(block + code, snippet->code, (size_t)(snippet->end - snippet->code));
}

static struct registers enter(uint8_t *block, size_t target)
{
    struct registers registers = {
        .rax = 0x1122334455667788,
        .rcx = 24,
        .rdx = 0x99AABBCCDDEEFF01,
        .rbx = 0x0F1E2D3C4B5A6978,
        .rsi = block + 1024,
        .rdi = block + target,
        .flags = 0x202,
        .xmm0 = "sixteen bytes \xFF\x80",
    };

    return registers;
}

/* The code in the block, which writes into its own page, against the same code outside that writes elsewhere.
 */
static void compare(const struct snippet *snippet, uint8_t *block, uint8_t *plain, size_t code, size_t target)
{
    char how[128];

    (void)snprintf(how, sizeof how, ": %s at %zu writes to %zu", snippet->name, code, target);
    fill(block, snippet, code);
    fill(plain, snippet, code);
    for (size_t round = 0; round < 2; round++) {
        struct registers is = enter(block, target);
        struct registers should = enter(plain, target);

        snippet_run(block + code, &is);
        snippet_run(snippet->code, &should);
        if (memcmp(block, plain, TARGET_BYTES) != 0)
            program_fail(__FILE__, __LINE__, "the memory", how);
        if (is.rax != should.rax || is.rcx != should.rcx || is.rdx != should.rdx || is.rbx != should.rbx ||
            is.rsi - block != should.rsi - plain || is.rdi - block != should.rdi - plain ||
            memcmp(is.xmm0, should.xmm0, sizeof is.xmm0) != 0)
            program_fail(__FILE__, __LINE__, "the registers", how);
        if (((is.flags ^ should.flags) & snippet->flags) != 0)
            program_fail(__FILE__, __LINE__, "the flags", how);
    }
}

/* Each kind that this processor has. */
static void each_kind(void (*layouts)(const struct snippet *, uint8_t *, uint8_t *))
{
    uint8_t *block = map_pages(3, RWX);
    uint8_t *plain = map_pages(3, RW);
    unsigned tried = 0;

    for (size_t i = 0; i < snippets_count; i++) {
        if (!snippet_fits(&snippets[i]))
            continue;
        layouts(&snippets[i], block, plain);
        tried++;
    }
    (void)printf("  %u of %zu kinds of instructions\n", tried, snippets_count);
}

static void in_one_page(const struct snippet *snippet, uint8_t *block, uint8_t *plain)
{
    compare(snippet, block, plain, 0, 2048);
    compare(snippet, block, plain, PAGE + 128, PAGE + 2048);
    if ((snippet->needs & SNIPPET_ALIGNED) == 0) {
        compare(snippet, block, plain, 64, PAGE - 1); /* into the next page too */
        compare(snippet, block, plain, PAGE + 512, PAGE - 3);
    }
}

static void in_two_pages(const struct snippet *snippet, uint8_t *block, uint8_t *plain)
{
    size_t length = (size_t)(snippet->end - snippet->code);

    for (size_t before = 1; before < length; before++) {
        compare(snippet, block, plain, PAGE - before, 2048);
        compare(snippet, block, plain, PAGE - before, PAGE + 2048);
    }
}

static void own_page(void)
{
    each_kind(in_one_page);
}

static void own_pages(void)
{
    each_kind(in_two_pages);
}

/* inc dword [rip + 0xFA]; ret -- and others that find their operand by their own address. */
static void own_address(void)
{
    static const struct {
        uint8_t code[16];
        uint32_t result; /* at 0x100, after it ran twice on 5 there */
    } rows[] = {
        {{0xFF, 0x05, 0xFA, 0, 0, 0, 0xC3}, 7},
        {{0xC7, 0x05, 0xF6, 0, 0, 0, 0x21, 0x43, 0x65, 0x07, 0xC3}, 0x07654321},
        {{0xF0, 0x83, 0x05, 0xF8, 0, 0, 0, 0x10, 0xC3}, 37},    /* lock add dword [rip], 16 */
        {{0x81, 0x05, 0xF6, 0, 0, 0, 0, 1, 0, 0, 0xC3}, 0x205}, /* add dword [rip], 256 */
        {{0x48, 0x89, 0x25, 0xF9, 0, 0, 0, 0xC3}, 0},           /* mov [rip], rsp */
    };
    uint8_t *code = map_pages(1, RWX);
    uint32_t *word = (uint32_t *)(void *)(code + 0x100);
    uint64_t far;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memcpy(code, rows[i].code, sizeof rows[i].code);
        *word = 5;
        (void)code_call(code);
        (void)code_call(code);
        if (rows[i].result != 0)
            must_equal(*word, rows[i].result);
    }
    memcpy(&far, code + 0x100, sizeof far);
    must(far > (uint64_t)(uintptr_t)&far - 65536 && far < (uint64_t)(uintptr_t)&far + 65536);
}

static void counts(void)
{
    uint8_t *code = map_pages(1, RWX);

    memcpy(code, "\xFF\x05\xFA\x00\x00\x00\xC3", 7);
    for (size_t i = 0; i < 20000; i++)
        (void)code_call(code);
    must_equal(*(uint32_t *)(void *)(code + 0x100), 20000);
}

static void *count_up(void *code)
{
    for (size_t i = 0; i < 2000; i++)
        (void)code_call(code);
    return NULL;
}

/* lock inc dword [rip + 0xF9]; ret */
static void counts_of_threads(void)
{
    pthread_t threads[4];
    uint8_t *code = map_pages(1, RWX);

    memcpy(code, "\xF0\xFF\x05\xF9\x00\x00\x00\xC3", 8);
    for (size_t i = 0; i < 4; i++)
        must(pthread_create(&threads[i], NULL, count_up, code) == 0);
    for (size_t i = 0; i < 4; i++)
        must(pthread_join(threads[i], NULL) == 0);
    must_equal(*(uint32_t *)(void *)(code + 0x100), 8000);
}

static void *store_words(void *at)
{
    uint32_t *word = at;

    for (uint32_t i = 1; i <= 2000; i++) {
        (void)__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(word + 1, i, __ATOMIC_SEQ_CST);
        must_equal(__atomic_load_n(word + 1, __ATOMIC_SEQ_CST), i);
        memset(word + 2, (int)i, 24);
        must_equal(word[2], (i & 0xFF) * 0x01010101u);
        must_equal(word[7], (i & 0xFF) * 0x01010101u);
    }
    return NULL;
}

static void no_store_is_lost(void)
{
    struct executor executors[2];
    pthread_t threads[2];
    pthread_t writers[4];
    uint8_t *code = map_pages(1, RWX);

    put(code, 1);
    put(code + 64, 2);
    start(executors, threads, 2, code, 64);
    for (size_t i = 0; i < 4; i++)
        must(pthread_create(&writers[i], NULL, store_words, code + 1024 + 64 * i) == 0);
    for (size_t i = 0; i < 4; i++)
        must(pthread_join(writers[i], NULL) == 0);
    stop(executors, threads, 2);
    for (size_t i = 0; i < 4; i++)
        must_equal(*(uint32_t *)(void *)(code + 1024 + 64 * i), 2000);
}

/* As engines of JavaScript do it: functions with their caches and counters beside them, in the same page. */
static void data_beside_code(void)
{
    /* inc dword [rip+0x3A]; mov eax, [rip+0x38]; ret: counts at +0x40, answers what is at +0x44 */
    static const uint8_t body[] = {0xFF, 0x05, 0x3A, 0, 0, 0, 0x8B, 0x05, 0x38, 0, 0, 0, 0xC3};
    enum { FUNCTIONS = 32 };
    struct dice dice = {dice_seed()};
    uint8_t *code = map_pages(1, RWX);
    uint32_t calls[FUNCTIONS] = {0};
    uint32_t value[FUNCTIONS] = {0};

    for (size_t i = 0; i < FUNCTIONS; i++)
        memcpy(code + 128 * i, body, sizeof body);
    for (size_t step = 0; step < 5000; step++) {
        size_t i = dice_below(&dice, FUNCTIONS);
        uint32_t *data = (uint32_t *)(void *)(code + 128 * i + 0x40);

        if (dice_percent(&dice, 25))
            data[1] = value[i] = (uint32_t)dice_next(&dice);
        must_return(code + 128 * i, value[i]);
        must_equal(data[0], ++calls[i]);
    }
}

/* Its stack ends a page after its beginning: in its own page, or in the next. */
static void stack_beside_code(void)
{
    static const uint8_t body[] = {
        0x49, 0x89, 0xE3,                         /* mov r11, rsp */
        0x48, 0x8D, 0x25, 0xF6, 0x0F, 0x00, 0x00, /* lea rsp, [rip + 0xFF6] */
        0xB8, 0x07, 0x00, 0x00, 0x00,             /* mov eax, 7 */
        0x50,                                     /* push rax */
        0xE8, 0x05, 0x00, 0x00, 0x00,             /* call to the inc */
        0x58,                                     /* pop rax */
        0x4C, 0x89, 0xDC,                         /* mov rsp, r11 */
        0xC3,                                     /* ret */
        0x48, 0xFF, 0x44, 0x24, 0x08,             /* inc qword [rsp + 8] */
        0xC3,                                     /* ret */
    };
    uint8_t *code = map_pages(3, RWX);

    for (size_t at = 0; at <= 2 * PAGE; at += 2048) {
        memcpy(code + at, body, sizeof body);
        for (size_t i = 0; i < 50; i++)
            must_return(code + at, 8);
    }
}

static void without_write(void)
{
    uint8_t *code = mmap(NULL, 4 * PAGE, RX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    must(code != MAP_FAILED);
    faults_start();
    must(is_zero(code, 4 * PAGE));
    must(faults_write(code));
    protect(code, 2 * PAGE, RW);
    put(code + PAGE, 1);
    must(faults_call(code + PAGE));
    protect(code, 4 * PAGE, RX);
    must_return(code + PAGE, 1);
    must(is_zero(code + 2 * PAGE, 2 * PAGE));
    protect(code + 2 * PAGE, 2 * PAGE, RWX);
    put(code + 3 * PAGE, 3);
    must_return(code + 3 * PAGE, 3);
}

static void from_and_to(void)
{
    uint8_t *code = map_pages(8, RW);

    faults_start();
    for (size_t round = 0; round < 50; round++) {
        protect(code, 8 * PAGE, RWX);
        for (size_t page = 0; page < 8; page++) {
            put(code + page * PAGE, round + page);
            if (page % 2 == 0)
                must_return(code + page * PAGE, round + page);
        }
        protect(code, 4 * PAGE, RX);
        must(faults_write(code));
        must(faults_write(code + PAGE));
        must_return(code + PAGE, round + 1);
        protect(code + 4 * PAGE, 4 * PAGE, RW);
        must(faults_call(code + 4 * PAGE));
        must(faults_call(code + 5 * PAGE));
        put(code + 4 * PAGE, round + 100);
        protect(code + 4 * PAGE, 4 * PAGE, RX);
        must_return(code + 4 * PAGE, round + 100);
        must_return(code + 7 * PAGE, round + 7);
    }
}

static void calls_across(void)
{
    uint8_t *code = map_pages(2, RWX);

    /* Each writes the other's immediate, and jumps there as a tail call, ten times in all. */
    for (size_t i = 0; i < 200; i++) {
        size_t here = i % 2 * PAGE;
        size_t there = PAGE - here;
        int32_t distance;

        put(code + there + 64, i);
        code[here] = 0xC7; /* mov dword [rip + distance], i + 1000 */
        code[here + 1] = 0x05;
        distance = (int32_t)(there + 65) - (int32_t)(here + 10);
        memcpy(code + here + 2, &distance, 4);
        memcpy(code + here + 6, &(uint32_t){(uint32_t)i + 1000}, 4);
        code[here + 10] = 0xE9; /* jmp there + 64 */
        distance = (int32_t)(there + 64) - (int32_t)(here + 15);
        memcpy(code + here + 11, &distance, 4);
        must_return(code + here, i + 1000);
    }
}

static void kernel_reads(void)
{
    uint8_t *code = map_pages(2, RWX);
    uint8_t copy[16];
    int ends[2];

    must(pipe(ends) == 0);
    for (size_t i = 0; i < 20; i++) {
        put(code + PAGE - 3, i);
        if (i % 2 == 0)
            must_return(code + PAGE - 3, i);
        must(write(ends[1], code + PAGE - 3, 6) == 6);
        must(read(ends[0], copy, sizeof copy) == 6);
        must(memcmp(copy, code + PAGE - 3, 6) == 0);
    }
}

static void kernel_writes(void)
{
    uint8_t *code = map_pages(2, RWX);
    uint8_t function[CODE_RETURN_BYTES];
    int ends[2];

    must(pipe(ends) == 0);
    for (size_t i = 0; i < 20; i++) {
        put(code, i);
        must_return(code, i); /* executable now, if it can only be one at a time */
        put(function, i + 100);
        must(write(ends[1], function, sizeof function) == (ssize_t)sizeof function);
        must(read(ends[0], code + PAGE - 3, sizeof function) == (ssize_t)sizeof function);
        must_return(code + PAGE - 3, i + 100);
    }
}

static void kernel_writes_at(void)
{
    uint8_t *code = map_pages(1, RWX);
    char name[] = "/tmp/jitbroker-rwx-XXXXXX";
    int fd = mkstemp(name);

    must(fd >= 0 && unlink(name) == 0);
    must(pwrite(fd, "abcdef", 6, 0) == 6);
    for (size_t i = 0; i < 20; i++) {
        put(code, i);
        must_return(code, i);
        must(pread(fd, code + 64, 6, 0) == 6 && memcmp(code + 64, "abcdef", 6) == 0);
        must_return(code, i);
    }
    (void)close(fd);
}

static void kernel_writes_otherwise(void)
{
    uint8_t *code = map_pages(1, RWX);
    char name[] = "/tmp/jitbroker-rwx-XXXXXX";
    int fd = mkstemp(name);
    struct iovec parts[2] = {{code + 100, 3}, {code + 200, 3}};
    struct timespec *now = (struct timespec *)(void *)(code + 512);

    must(fd >= 0 && unlink(name) == 0);
    must(pwrite(fd, "abcdef", 6, 0) == 6);
    put(code, 1);
    must_return(code, 1);
    must(preadv(fd, parts, 2, 0) == 6 && memcmp(code + 100, "abc", 3) == 0 &&
         memcmp(code + 200, "def", 3) == 0);
    must_return(code, 1);
    must(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, now) == 0);
    must_return(code, 1);
    must(getrandom(code + 600, 8, 0) == 8);
    (void)close(fd);
}

int main(int argc, char **argv)
{
    static const struct program_case cases[] = {
        {"written_and_run", "code is written and run at once, 2,000 times in 16 pages", written_and_run},
        {"immediates", "three threads run code whose immediate another changes: each sees the new one",
         immediates},
        {"many_patchers", "two functions of one page are patched in turn while both run", many_patchers},
        {"jumps", "a nop of five bytes becomes a jump and a nop again under threads that run it", jumps},
        {"own_page", "each kind of instruction that writes may write into its own page", own_page},
        {"own_pages", "so may each that stands in two pages into either", own_pages},
        {"own_address", "an instruction writes into its page at an address relative to its own", own_address},
        {"counts", "code counts in its own page up to 20,000", counts},
        {"counts_of_threads", "four threads count in the page that all of them run", counts_of_threads},
        {"no_store_is_lost", "what threads store into a page that others run is all there", no_store_is_lost},
        {"data_beside_code", "functions keep counters and values beside them", data_beside_code},
        {"stack_beside_code", "code has its stack beside it, in its own page and in the next",
         stack_beside_code},
        {"without_write", "anonymous memory that was executable from the start becomes writable",
         without_write},
        {"from_and_to", "pages become writable and executable at once, and one of them, and back",
         from_and_to},
        {"calls_across", "code in one page changes that in another and goes there", calls_across},
        {"kernel_reads", "write() takes from pages of either kind", kernel_reads},
        {"kernel_writes", "read() puts code into a page that was run", kernel_writes},
        {"kernel_writes_at", "so does pread()", kernel_writes_at},
        {"kernel_writes_otherwise", "so do preadv, clock_gettime and getrandom", kernel_writes_otherwise},
    };

    return program_main(argc, argv, cases, PROGRAM_COUNT(cases));
}
