/* SPDX-License-Identifier: MIT */
/* A session with a ledger, the end of the daemon that had it, and the next one that adopts it. */
#ifndef TESTS_UNIT_LEDGER_STEPS_H
#define TESTS_UNIT_LEDGER_STEPS_H

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/adoption.h"
#include "daemon/config.h"
#include "daemon/ledger.h"
#include "daemon/operation.h"
#include "tests/harness/suite.h"

#define UNITS 9u /* more than fit one page of the ledger */
#define ARENA ((uint64_t)UNITS * BLOCK_BYTES)
#define SPAN UINT64_C(64) /* the first one in an arena */
#define VERSION_OLDEST (LEDGER_VERSION > 1 ? LEDGER_VERSION - 1 : LEDGER_VERSION)

static struct policy *policy;
static struct class *class;
static struct quota quota;
static struct account *account;
static struct session *session;
static struct result result;
/* What is left of a session. */
static int ledger_fd;
static int arena_fd;
static struct ledger_page *page; /* of the ledger, whoever else has it mapped */

static inline void map_page(void)
{
    page = mmap(NULL, LEDGER_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ledger_fd, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
}

static inline void grant_what_nobody_else_does(void)
{
    class->bytes_max = 5 * ARENA;
    class->rate_bytes = 1u << 30;
    class->session_max = 3;
    class->span_max = 77;
    class->executor_max = 5;
    class->rate = 1000;
    class->forbid = SCAN_FAR;
    class->orphans_run = true;
    class->scan = SCAN_DENY;
}

/* A session of a user who is not the daemon's, or is. */
static inline void begin(bool is_sealed, bool write_once)
{
    struct hello hello = {.version_max = PROTOCOL_VERSION, .write_mode = WRITE_THROUGH, .arena_bytes = ARENA};
    struct peer peer = {.uid = geteuid() + !is_sealed, .unit = "some.service"};

    policy = config_defaults("some");
    ck_assert_ptr_nonnull(policy);
    class = policy->classes[0];
    class->write_once = write_once;
    grant_what_nobody_else_does();
    account = quota_account(&quota, peer.uid);
    result_init(&result);
    ck_assert_int_eq(hello_validate(&hello, &result), STATUS_OK);
    session = session_new(7, class, &peer, account, &hello, &result);
    ck_assert_msg(session != NULL, "%s", result.text);
    session->ledger.page->state = LEDGER_LIVE;
    ledger_fd = dup(session->ledger.fd);
    arena_fd = dup(session->arena.fd);
    map_page();
}

static inline void end(void)
{
    session = session_unref(session);
    ck_assert_uint_eq(account->held[QUOTA_BYTES], 0);
    ck_assert_uint_eq(account->held[QUOTA_SPANS], 0);
    account = account_unref(&quota, account);
    policy = policy_unref(policy);
    ck_assert_ptr_null(quota.accounts);
    (void)munmap(page, LEDGER_PAGE_BYTES);
    (void)close(ledger_fd);
    (void)close(arena_fd);
}

/* The operation of the ring's next entry, as far as it gets before the daemon is killed. */
static inline enum status run(const struct request *request)
{
    session->ledger.key = page->head;
    while (!operation_run(session, request, OPERATION_STEP_BYTES, &result))
        continue;
    return result.status;
}

static inline enum status run_all(const struct request *request)
{
    enum status status = run(request);

    ledger_commit_entry(&session->ledger, page->refused[page->head & 1] + (status != STATUS_OK));
    return status;
}

static inline uint64_t alloc(uint64_t bytes)
{
    ck_assert_int_eq(run_all(&(struct request){.operation = OPERATION_ALLOC, .size = bytes}), STATUS_OK);
    return result.offset;
}

static const uint8_t code[64] = {0x90};

static inline struct request write_to(uint64_t span)
{
    return (struct request){
        .operation = OPERATION_WRITE, .span = span, .data = code, .data_bytes = sizeof code};
}

static inline struct request of(enum operation operation, uint64_t span)
{
    return (struct request){.operation = operation, .span = span};
}

/* The daemon dies. */
static inline void leave(void)
{
    session = session_unref(session);
}

/* The next daemon; NULL, or what it finds wrong. */
static inline const char *adopt(void)
{
    struct ledger ledger;
    int fd = dup(ledger_fd);
    const char *flaw = ledger_adopt(&ledger, fd);

    if (flaw != NULL) {
        ck_assert_int_eq(close(fd), 0); /* the caller's still */
        return flaw;
    }
    flaw = ledger_begin_adoption(&ledger);
    if (flaw != NULL) {
        ledger_deinit(&ledger);
        return flaw;
    }
    session = session_adopt(&ledger, dup(arena_fd), class, account, &flaw);
    ck_assert_int_eq(flaw == NULL, session != NULL);
    if (flaw == NULL)
        ledger_end_adoption(&session->ledger);
    ledger_deinit(&ledger);
    return flaw;
}

static inline void come_back(void)
{
    const char *flaw;

    leave();
    flaw = adopt();
    ck_assert_msg(flaw == NULL, "%s", flaw);
}

static inline bool is_span(uint64_t offset, uint64_t bytes)
{
    struct heap_span span;

    return heap_find(&session->heap, offset, &span) && span.bytes == bytes;
}

static inline bool is_same(const char *flaw, const char *wanted)
{
    return flaw == NULL || wanted == NULL ? flaw == wanted : strcmp(flaw, wanted) == 0;
}

#define assert_flaw(wanted, got)                                                                         \
    do {                                                                                                 \
        const char *flaw_ = (got);                                                                       \
        ck_assert_msg(is_same(flaw_, wanted), "%s, not %s", flaw_ != NULL ? flaw_ : "no flaw", #wanted); \
    } while (0)

#endif
