/* SPDX-License-Identifier: MIT */
/*
 * Random calls of mmap, mprotect, munmap, mremap, madvise and fork, stores and calls, on a few pages, against
 * a model of them in plain memory: what each page holds, and what may be done with it. After each step all
 * that can be read is what the model has, and something is tried that must fault, or must run.
 *
 *   model [SEED [STEPS [STEP...]]]    $JITBROKER_SEED, or by the clock; 4,000; all
 *
 * On a difference it tells the last steps. What a step does is by its number and the seed alone, so that the
 * few that matter can be had without the others: shrink.py looks for them. The pages are at a low address,
 * where nobody else maps: holes that munmap leaves there stay holes.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <sys/wait.h>

#include "tests/preload/program.h"
#include "tests/unit/dice.h"

#define PAGES 24u
#define SLOT ((size_t)64) /* where functions may begin */
#define HISTORY 32u
#define DEPTH_MAX 3u

struct page {
    bool is_mapped;
    int protection;
    uint8_t bytes[4096];
};

static struct page model[PAGES];
static uint8_t *base;
static struct dice dice;
static uint64_t seed;
static unsigned step;   /* so many were done, by all ancestors */
static unsigned number; /* of the one that is done now, among those of its lineage */
static unsigned depth;  /* of forks */
static char **chosen;   /* the numbers of the steps that are done; NULL: all */
static char history[HISTORY][128];
static uint8_t scratch[PAGES * 4096];

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
    char *line = history[step % HISTORY];
    int length = snprintf(line, sizeof history[0], "%u: ", number);
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(line + length, sizeof history[0] - (size_t)length, format, arguments);
    va_end(arguments);
}

static void tell(void)
{
    (void)fprintf(stderr, "seed %" PRIu64 ", %u forks deep, pages at %p, step %u; the last were\n", seed,
                  depth, (void *)base, step);
    for (unsigned i = step < HISTORY ? 0 : step - HISTORY + 1; i <= step; i++)
        (void)fprintf(stderr, "  %s\n", history[i % HISTORY]);
}

#define differs(what, page) program_fail(__FILE__, __LINE__, what, on_page(page))

static const char *on_page(size_t page)
{
    static char how[32];

    (void)snprintf(how, sizeof how, ", page %zu", page);
    return how;
}

static uint8_t *at(size_t page)
{
    return base + page * PAGE;
}

static bool may(size_t page, int access)
{
    return model[page].is_mapped && (model[page].protection & access) != 0;
}

/* Anything that may be done lets this processor read. */
static bool is_readable(size_t page)
{
    return model[page].is_mapped && model[page].protection != PROT_NONE;
}

static bool all(size_t first, size_t count, bool (*is)(size_t page))
{
    for (size_t page = first; page < first + count; page++) {
        if (!is(page))
            return false;
    }
    return true;
}

static bool is_mapped(size_t page)
{
    return model[page].is_mapped;
}

static bool is_writable(size_t page)
{
    return may(page, PROT_WRITE);
}

static int random_protection(void)
{
    static const int some[] = {RW, RW, RW, RX, RX, RX, RWX, RWX, PROT_READ, PROT_NONE};

    return some[dice_below(&dice, sizeof some / sizeof some[0])];
}

static void random_range(size_t *first, size_t *count)
{
    *first = dice_below(&dice, PAGES);
    *count = 1 + dice_below(&dice, dice_percent(&dice, 60) ? 3 : PAGES);
    if (*count > PAGES - *first)
        *count = PAGES - *first;
}

static void step_map(void)
{
    int protection = random_protection();
    size_t first;
    size_t count;

    random_range(&first, &count);
    note("mmap %zu+%zu %d", first, count, protection);
    if (mmap(at(first), count * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
        at(first))
        differs("mmap failed", first);
    for (size_t page = first; page < first + count; page++) {
        model[page].is_mapped = true;
        model[page].protection = protection;
        memset(model[page].bytes, 0, PAGE);
    }
}

static void step_unmap(void)
{
    size_t first;
    size_t count;

    random_range(&first, &count);
    note("munmap %zu+%zu", first, count);
    if (munmap(at(first), count * PAGE) != 0)
        differs("munmap failed", first);
    for (size_t page = first; page < first + count; page++)
        model[page].is_mapped = false;
}

/* Where there is a hole, what comes before it has changed, and what comes after has not. */
static void step_protect(void)
{
    int protection = random_protection();
    size_t first;
    size_t count;
    size_t page;
    int result;

    random_range(&first, &count);
    note("mprotect %zu+%zu %d", first, count, protection);
    if (!all(first, count, is_mapped) && dice_percent(&dice, 80))
        return;
    errno = 0;
    result = mprotect(at(first), count * PAGE - dice_below(&dice, PAGE), protection);
    for (page = first; page < first + count && model[page].is_mapped; page++)
        model[page].protection = protection;
    if (page == first + count ? result != 0 : result != -1 || errno != ENOMEM)
        differs("mprotect's result", page);
}

static void step_advise(void)
{
    bool frees = dice_percent(&dice, 25);
    size_t first;
    size_t count;

    random_range(&first, &count);
    note("madvise %zu+%zu %s", first, count, frees ? "MADV_FREE" : "MADV_DONTNEED");
    if (!all(first, count, is_mapped))
        return;
    if (madvise(at(first), count * PAGE, frees ? MADV_FREE : MADV_DONTNEED) != 0)
        differs("madvise failed", first);
    for (size_t page = first; page < first + count; page++) {
        if (frees && dice_percent(&dice, 50) && is_writable(page)) {
            /* Any store to it, and the page is either what it was or zero, for good. */
            __atomic_store_n(at(page) + 4095, 1, __ATOMIC_SEQ_CST);
            model[page].bytes[4095] = 1;
            if (at(page)[0] == model[page].bytes[0] && memcmp(at(page), model[page].bytes, PAGE) == 0)
                continue;
            memset(model[page].bytes, 0, PAGE - 1);
        } else if (frees) {
            /* That it goes later would be seen as a difference: so it goes now. */
            if (madvise(at(page), PAGE, MADV_DONTNEED) != 0)
                differs("madvise failed", page);
            memset(model[page].bytes, 0, PAGE);
        } else {
            memset(model[page].bytes, 0, PAGE);
        }
    }
}

/* One page, which is one mapping whatever came before, or several of which that is known. */
static void step_move(void)
{
    size_t count = dice_percent(&dice, 50) ? 1 : 1 + dice_below(&dice, 5);
    size_t from = dice_below(&dice, PAGES - count + 1);
    size_t to = dice_below(&dice, PAGES - count + 1);

    note("mremap %zu+%zu to %zu", from, count, to);
    if ((from < to ? to - from : from - to) < count)
        return;
    if (count > 1) {
        int protection = random_protection();

        if (mmap(at(from), count * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at(from))
            differs("mmap failed", from);
        for (size_t page = from; page < from + count; page++) {
            model[page] = (struct page){.is_mapped = true, .protection = protection};
            put(at(page) + SLOT, page + number);
            put(model[page].bytes + SLOT, page + number);
        }
        if (mprotect(at(from), count * PAGE, protection) != 0)
            differs("mprotect failed", from);
    }
    if (!is_mapped(from))
        return;
    if (mremap(at(from), count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(to)) != at(to))
        differs("mremap failed", from);
    for (size_t i = 0; i < count; i++) {
        model[to + i] = model[from + i];
        model[from + i].is_mapped = false;
    }
}

static void step_write(void)
{
    size_t first = dice_below(&dice, PAGES * PAGE - 600);
    size_t bytes = 1 + dice_below(&dice, dice_percent(&dice, 50) ? 16 : 600);
    size_t pages = (first % PAGE + bytes + PAGE - 1) / PAGE;

    note("write %zu+%zu", first, bytes);
    if (!all(first / PAGE, pages, is_writable))
        return;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)dice_next(&dice);

        base[first + i] = byte;
        model[(first + i) / PAGE].bytes[(first + i) % PAGE] = byte;
    }
}

static void step_write_function(void)
{
    size_t page = dice_below(&dice, PAGES);
    size_t slot = dice_below(&dice, PAGE / SLOT) * SLOT;
    uint32_t result = (uint32_t)dice_next(&dice);

    note("function %" PRIu32 " to %zu/%zu", result, page, slot);
    if (!is_writable(page))
        return;
    put(at(page) + slot, result);
    put(model[page].bytes + slot, result);
}

/* All functions of a page, or of some pages in turn. */
static void step_call(void)
{
    size_t first;
    size_t count;

    random_range(&first, &count);
    note("call %zu+%zu", first, count);
    for (size_t page = first; page < first + count; page++) {
        for (size_t slot = 0; may(page, PROT_EXEC) && slot < PAGE; slot += SLOT) {
            const uint8_t *function = model[page].bytes + slot;
            uint32_t result;

            if (function[0] != 0xB8 || function[5] != 0xC3)
                continue;
            memcpy(&result, function + 1, sizeof result);
            if (code_call(at(page) + slot) != result)
                differs("a function's result", page);
        }
    }
}

/* Code that counts in its own page, where that is allowed: inc dword [rip + 26]; ret */
static void step_count(void)
{
    static const uint8_t code[] = {0xFF, 0x05, 26, 0, 0, 0, 0xC3};
    size_t page = dice_below(&dice, PAGES);
    size_t slot = dice_below(&dice, PAGE / SLOT) * SLOT;
    uint32_t count;

    note("counts in %zu/%zu", page, slot);
    if (!may(page, PROT_WRITE) || !may(page, PROT_EXEC))
        return;
    memcpy(at(page) + slot, code, sizeof code);
    memcpy(model[page].bytes + slot, code, sizeof code);
    for (unsigned i = 0; i < 3; i++) {
        (void)code_call(at(page) + slot);
        memcpy(&count, model[page].bytes + slot + 32, sizeof count);
        count++;
        memcpy(model[page].bytes + slot + 32, &count, sizeof count);
    }
}

/* The kernel reads and writes, where it is not said that it can't: pages that are both. */
static void step_kernel(void)
{
    size_t page = dice_below(&dice, PAGES);
    int ends[2];

    note("through a pipe, %zu", page);
    if (pipe(ends) != 0)
        differs("pipe failed", page);
    if (is_readable(page)) {
        if (write(ends[1], at(page) + 100, 200) != 200 || read(ends[0], scratch, 200) != 200 ||
            memcmp(scratch, model[page].bytes + 100, 200) != 0)
            differs("what write() took", page);
    }
    if (model[page].is_mapped && model[page].protection == RW) {
        memset(scratch, (int)number, 200);
        if (write(ends[1], scratch, 200) != 200 || read(ends[0], at(page) + 300, 200) != 200)
            differs("read() failed", page);
        memcpy(model[page].bytes + 300, scratch, 200);
    }
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void step_fault(void)
{
    size_t page = dice_below(&dice, PAGES);
    size_t offset = dice_below(&dice, PAGE / SLOT) * SLOT;

    note("faults of %zu/%zu", page, offset);
    if (faults_read(at(page) + offset) == is_readable(page))
        differs("whether it can be read", page);
    if (faults_write(at(page) + offset) == may(page, PROT_WRITE))
        differs("whether it can be written", page);
    if (!may(page, PROT_EXEC) && !faults_call(at(page) + offset))
        differs("whether it can't be called", page);
}

static void steps(uint64_t lineage, unsigned count);

/* The child goes its own way for a while; the parent at the same time, or after it. */
static void step_fork(void)
{
    bool waits = dice_percent(&dice, 50);
    unsigned of_child = 1 + (unsigned)dice_below(&dice, 60);
    unsigned of_parent = 1 + (unsigned)dice_below(&dice, 20);
    uint64_t lineage = dice_next(&dice);
    int status = 0;
    pid_t child;

    note("fork, %u steps for the child, %s", of_child, waits ? "first" : "beside");
    if (depth >= DEPTH_MAX)
        return;
    child = fork();
    if (child < 0)
        differs("fork failed", 0);
    depth++;
    if (child == 0) {
        steps(lineage, of_child);
        _exit(0);
    }
    if (!waits)
        steps(lineage + 1, of_parent);
    depth--;
    if (waitpid(child, &status, 0) != child || status != 0)
        differs("the child failed", 0);
}

static void compare(void)
{
    for (size_t page = 0; page < PAGES; page++) {
        if (is_readable(page) && memcmp(at(page), model[page].bytes, PAGE) != 0)
            differs("the content", page);
    }
}

static bool is_chosen(unsigned one)
{
    char **word = chosen;

    while (word != NULL && *word != NULL && strtoul(*word, NULL, 0) != one)
        word++;
    return word == NULL || *word != NULL;
}

static void steps(uint64_t lineage, unsigned count)
{
    static const struct {
        unsigned percent;
        void (*step)(void);
    } kinds[] = {
        {8, step_map},   {5, step_unmap},  {22, step_protect}, {4, step_advise},
        {5, step_move},  {11, step_write}, {3, step_count},    {16, step_write_function},
        {12, step_call}, {4, step_kernel}, {9, step_fault},    {1, step_fork},
    };

    for (unsigned i = 0; i < count; i++) {
        size_t kind = 0;
        unsigned left;

        if (depth == 0 && !is_chosen(i))
            continue;
        dice.state = lineage + i * UINT64_C(0x1000000);
        left = (unsigned)dice_below(&dice, 100);
        number = i;
        step++;
        while (left >= kinds[kind].percent)
            left -= kinds[kind++].percent;
        kinds[kind].step();
        compare();
    }
}

int main(int argc, char **argv)
{
    unsigned count = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 4000;

    if (argc > 3)
        chosen = argv + 3;
    if (argc > 1) {
        seed = strtoull(argv[1], NULL, 0);
        (void)printf("JITBROKER_SEED=%" PRIu64 "\n", seed);
    } else {
        seed = dice_seed();
    }
    program_tell = tell;
    dice.state = seed;
    (void)fflush(stdout);
    base = (uint8_t *)(UINT64_C(0x10000000000) + dice_below(&dice, 1 << 20) * PAGE);
    if (mmap(base, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != base)
        differs("the pages can't be had", 0);
    if (munmap(base, PAGES * PAGE) != 0)
        differs("munmap failed", 0);
    faults_start();
    steps(seed, count);
    (void)printf("%u steps\n", step);
    return EXIT_SUCCESS;
}
