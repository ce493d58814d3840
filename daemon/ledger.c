/* SPDX-License-Identifier: MIT */
#include "daemon/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "daemon/audit.h"
#include "daemon/memfd.h"
#include "daemon/scan.h"
#include "proto/heap.h"
#include "proto/hello.h"

/* The units begin where the longest answer ends. */
#define UNITS_AT ((size_t)LEDGER_PAGE_BYTES + RECORD_MAX_BYTES)
#define ALL_FEATURES (FEATURE_IMMEDIATE_RELEASE | FEATURE_LARGE_PAGES | FEATURE_RING | FEATURE_EXECUTORS)

static size_t whole_pages(size_t bytes)
{
    return (bytes + LEDGER_PAGE_BYTES - 1) / LEDGER_PAGE_BYTES * LEDGER_PAGE_BYTES;
}

/* A bit a granule, in whole words. */
static size_t written_bytes(uint64_t arena_bytes, uint32_t granularity)
{
    return (size_t)((arena_bytes / granularity + 63) / 64 * sizeof(uint64_t));
}

static size_t written_at(uint64_t arena_bytes)
{
    return UNITS_AT + whole_pages(heap_units_bytes(arena_bytes));
}

static size_t ledger_bytes(uint64_t arena_bytes, uint32_t granularity, bool write_once)
{
    return written_at(arena_bytes) + (write_once ? whole_pages(written_bytes(arena_bytes, granularity)) : 0);
}

static int map(struct ledger *ledger)
{
    void *memory = mmap(NULL, ledger->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ledger->fd, 0);

    if (memory == MAP_FAILED)
        return -errno;
    (void)madvise(memory, ledger->bytes, MADV_DONTDUMP);
    ledger->page = memory;
    return 0;
}

/* Gets memory for [from, to) of it. */
static int reserve(const struct ledger *ledger, size_t from, size_t to)
{
    while (fallocate(ledger->fd, 0, (off_t)from, (off_t)(to - from)) != 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static int set_up(struct ledger *ledger)
{
    ledger->fd = memfd_new("jitbroker-ledger");
    if (ledger->fd < 0)
        return ledger->fd;
    if (ftruncate(ledger->fd, (off_t)ledger->bytes) != 0 || fchmod(ledger->fd, 0400) != 0 ||
        fcntl(ledger->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return -errno;
    return reserve(ledger, 0, LEDGER_PAGE_BYTES);
}

int ledger_init(struct ledger *ledger, uint64_t arena_bytes, uint32_t granularity, bool write_once)
{
    int error;

    *ledger = (struct ledger){
        .fd = -1,
        .bytes = ledger_bytes(arena_bytes, granularity, write_once),
        .answer_bytes = LEDGER_PAGE_BYTES - LEDGER_ANSWER_AT,
    };
    error = set_up(ledger);
    if (error == 0)
        error = map(ledger);
    if (error != 0) {
        ledger_deinit(ledger);
        return error;
    }
    memcpy(ledger->page->magic, LEDGER_MAGIC, sizeof ledger->page->magic);
    ledger->page->version = LEDGER_VERSION;
    ledger->page->arena_bytes = arena_bytes;
    ledger->page->granularity = granularity;
    ledger->page->grants.write_once = write_once;
    return 0;
}

void ledger_deinit(struct ledger *ledger)
{
    if (ledger->page != NULL)
        (void)munmap(ledger->page, ledger->bytes);
    if (ledger->page != NULL || ledger->fd >= 0)
        (void)close(ledger->fd);
    *ledger = (struct ledger){.fd = -1};
}

/* ---- Adopting ----------------------------------------------------------------------------- */

/* It ends within `size`, and is nothing but what a log can have. */
static bool is_text(const char *text, size_t size)
{
    size_t length = strnlen(text, size);

    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    return length < size;
}

static const char *check_identity(const struct ledger_page *page)
{
    if (memcmp(page->magic, LEDGER_MAGIC, sizeof page->magic) != 0)
        return "it does not begin like a ledger";
    if (page->version < LEDGER_VERSION - 1 || page->version > LEDGER_VERSION)
        return "this daemon does not know its format";
    if (page->state != LEDGER_LIVE && page->state != LEDGER_ORPHANED)
        return page->state == LEDGER_ENDED ? "its session has ended" : "its session has not begun";
    if (page->session == 0 || page->session == UINT64_MAX || page->kind > ARENA_DIRECT)
        return "its session is none";
    if (page->arena_bytes < ARENA_MIN_BYTES || page->arena_bytes > ARENA_LIMIT_BYTES ||
        page->arena_bytes % BLOCK_BYTES != 0)
        return "its arena has no size";
    if (page->granularity < GRANULARITY_MIN_BYTES || page->granularity > GRANULARITY_MAX_BYTES ||
        (page->granularity & (page->granularity - 1)) != 0 || !fill_pattern_traps(page->fill_pattern) ||
        (page->features & ~ALL_FEATURES) != 0)
        return "its session can't have been granted";
    return NULL;
}

static const char *check_grants(const struct ledger_grants *grants)
{
    if (!is_text(grants->class, sizeof grants->class) || grants->class[0] == '\0')
        return "its class has no name";
    if (grants->scan > SCAN_DENY || grants->audit > AUDIT_FILE || grants->write_once > 1 ||
        grants->orphans_run > 1 || (grants->forbid & ~SCAN_ALL) != 0)
        return "no class grants what it says";
    return NULL;
}

static const char *check_progress(const struct ledger_page *page)
{
    uint64_t done = (page->progress & (LEDGER_SENT - 1)) >> 32;
    /* Where more results are to come, there has to be room for them. */
    bool is_whole = (page->progress & (LEDGER_READY | LEDGER_SENT)) != 0;
    uint64_t used_max = is_whole ? RECORD_MAX_BYTES : (done + 1) * RESULT_MAX_BYTES;

    if (page->grown_bytes % BLOCK_BYTES != 0 || page->grown_bytes > page->arena_bytes ||
        page->unfilled_bytes % BLOCK_BYTES != 0 || page->unfilled_bytes > page->arena_bytes ||
        page->gives_back > 1)
        return "its arena can't have grown so far";
    if ((page->progress & LEDGER_KEY_SOCKET) != 0 || done > OPERATIONS_MAX ||
        (uint32_t)page->progress > used_max || page->intent.kind >= INTENT_COUNT ||
        page->head >= LEDGER_KEY_SOCKET)
        return "no daemon gets so far";
    return NULL;
}

static const char *check_page(const struct ledger_page *page)
{
    const char *flaw = check_identity(page);

    if (flaw == NULL)
        flaw = check_grants(&page->grants);
    if (flaw == NULL && !is_text(page->unit, sizeof page->unit))
        flaw = "its unit is no text";
    return flaw == NULL ? check_progress(page) : flaw;
}

/* From the version before to ours. Between its stores it is still the former. */
static void take_step(struct ledger_page *page)
{
    page->began_ns = 0;
    page->operations = 0;
    page->refusals = 0;
    page->executor = 0;
    page->executor_died = 0;
    page->executor_deaths = 0;
    page->due_ns = 0;
    page->due_bytes_ns = 0;
    ledger_order();
    page->version = LEDGER_VERSION;
    ledger_order();
}

const char *ledger_adopt(struct ledger *ledger, int fd)
{
    struct ledger_page page;
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    const char *flaw;

    *ledger = (struct ledger){.fd = -1};
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &status) != 0)
        return "its length is not sealed";
    if (pread(fd, &page, sizeof page, 0) != (ssize_t)sizeof page)
        return "it is too short";
    flaw = check_page(&page);
    if (flaw != NULL)
        return flaw;
    *ledger = (struct ledger){
        .fd = fd,
        .bytes = ledger_bytes(page.arena_bytes, page.granularity, page.grants.write_once != 0),
        .answer_bytes = LEDGER_PAGE_BYTES - LEDGER_ANSWER_AT,
    };
    if (status.st_size != (off_t)ledger->bytes)
        flaw = "it has another length than its arena";
    else if (reserve(ledger, 0, LEDGER_PAGE_BYTES) != 0 || map(ledger) != 0 ||
             ledger_reserve_answer(ledger, (uint32_t)page.progress) != 0)
        flaw = memfd_no_memory;
    if (flaw == NULL && ledger->page->version < LEDGER_VERSION)
        take_step(ledger->page);
    if (flaw != NULL) {
        ledger->fd = -1; /* the caller's */
        if (ledger->page != NULL)
            (void)munmap(ledger->page, ledger->bytes);
        *ledger = (struct ledger){.fd = -1};
    }
    return flaw;
}

/* Each of these before what it is about is forgotten: to be killed in between counts once more. */
static void count_death(struct ledger_page *page)
{
    bool is_first = page->steps == page->died_at + 2;

    page->deaths = is_first ? page->deaths + 1 : 1;
    ledger_order();
    page->died_at = page->steps;
    ledger_order();
    page->steps++;
}

static void count_executor_death(struct ledger_page *page)
{
    page->executor_deaths = page->executor == page->executor_died ? page->executor_deaths + 1 : 1;
    ledger_order();
    page->executor_died = page->executor;
    ledger_order();
    page->executor = 0;
}

const char *ledger_begin_adoption(struct ledger *ledger)
{
    struct ledger_page *page = ledger->page;

    if (page->executor != 0)
        count_executor_death(page);
    if (page->steps % 2 != 0) {
        count_death(page);
        if (page->deaths >= LEDGER_DEATHS_MAX) {
            page->state = LEDGER_ENDED; /* also where the store gives it to one more daemon */
            return "the daemon died of what it asks for, again and again";
        }
    }
    page->steps |= 1;
    ledger_order();
    LEDGER_STEP_OF("adopting", page->session);
    return NULL;
}

/* ---- Parts ---------------------------------------------------------------------------------- */

void *ledger_units(const struct ledger *ledger)
{
    return (uint8_t *)ledger->page + UNITS_AT;
}

uint64_t *ledger_written(const struct ledger *ledger)
{
    return (uint64_t *)(void *)((uint8_t *)ledger->page + written_at(ledger->page->arena_bytes));
}

uint8_t *ledger_answer(const struct ledger *ledger)
{
    return (uint8_t *)ledger->page + LEDGER_ANSWER_AT;
}

int ledger_reserve_answer(struct ledger *ledger, size_t bytes)
{
    size_t end = whole_pages(LEDGER_ANSWER_AT + bytes);
    int error;

    if (bytes <= ledger->answer_bytes)
        return 0;
    error = reserve(ledger, LEDGER_PAGE_BYTES, end);
    if (error == 0)
        ledger->answer_bytes = end - LEDGER_ANSWER_AT;
    return error;
}

int ledger_reserve_units(struct ledger *ledger, uint64_t arena_bytes)
{
    const struct ledger_page *page = ledger->page;
    size_t end = whole_pages(heap_units_bytes(arena_bytes));
    int error = 0;

    if (end > ledger->units_bytes)
        error = reserve(ledger, UNITS_AT + ledger->units_bytes, UNITS_AT + end);
    if (error != 0)
        return error;
    if (end > ledger->units_bytes)
        ledger->units_bytes = end;
    if (page->grants.write_once != 0 && arena_bytes > 0)
        error = reserve(ledger, written_at(page->arena_bytes),
                        written_at(page->arena_bytes) +
                            whole_pages(written_bytes(arena_bytes, page->granularity)));
    return error;
}

void ledger_cut_units(struct ledger *ledger, uint64_t arena_bytes)
{
    size_t from = UNITS_AT + heap_units_bytes(arena_bytes);
    size_t to = written_at(ledger->page->arena_bytes);

    if (from < to)
        (void)fallocate(ledger->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
                        (off_t)(to - from));
    if (ledger->page->grants.write_once == 0)
        return;
    from = written_at(ledger->page->arena_bytes) + written_bytes(arena_bytes, ledger->page->granularity);
    if (from < ledger->bytes)
        (void)fallocate(ledger->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
                        (off_t)(ledger->bytes - from));
}

#ifdef JITBROKER_KILL_POINTS
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

static const char *kill_at(void)
{
    const char *text = getenv("JITBROKER_KILL_AT");

    return text == NULL ? "" : text;
}

void ledger_step(void)
{
    static unsigned long steps;
    static unsigned long number;

    if (steps++ == 0)
        number = strtoul(kill_at(), NULL, 10);
    if (steps == number)
        (void)raise(SIGKILL);
}

void ledger_step_of(const char *what, uint64_t number)
{
    char name[64];

    (void)snprintf(name, sizeof name, "%s-%" PRIu64, what, number);
    if (strcmp(name, kill_at()) == 0)
        (void)raise(SIGKILL);
}
#endif
