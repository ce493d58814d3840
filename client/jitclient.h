/* SPDX-License-Identifier: MIT */
/*
 * libjitclient: executable memory for processes that may not make any.
 *
 * jitbrokerd owns the memory and is its only writer; this library maps it
 * read+execute, once, and has the daemon do everything else. The model is
 * asmjit's JitAllocator: a *span* is a run of granules with an address to run
 * (rx), perhaps an address to write (rw), and a size.
 *
 * Results. A function that can fail returns int: JITC_OK (0) or one of
 * enum jitc_status. jitc_strerror() names the status; jitc_error_detail() is the
 * sentence that says what was wrong in this very call. On failure nothing is
 * changed and output arguments are left as they were, unless said otherwise.
 *
 * Waiting. With a ring, memory shared with the daemon (policy: ring=), the daemon is only told of
 * jitc_release(), jitc_shrink() and most jitc_alloc(): they return before it has done its part. All else
 * returns when it is done. What one client is asked for is done in the order of the calls. That the daemon is
 * gone or away is noticed by the first call that waits: within 0.1 s, or timeout_ms. Without a
 * ring every call waits.
 *
 * A daemon that is away. One that is restarted keeps its clients' sockets and sessions, and the next one goes
 * on with them; until then it gives no answer, like one that hangs. A call that gets none within timeout_ms
 * returns JITC_E_TIMEOUT, and the client is as good as before: when the daemon is back, calls succeed again.
 * No call waits longer than timeout_ms + 0.1 s in all, but a write of more than 32 KiB (64 KiB without a
 * ring) as long for each part. A call that waits first waits for what earlier ones left unanswered; where
 * that does not come it has asked for nothing. With JITC_FAIL_FAST it doesn't wait for that, and returns
 * TIMEOUT at once. Calls that need not wait (see jitc_alloc() and jitc_release()) go on as long as the ring
 * has room. What the daemon then refuses is told to nobody. What TIMEOUT means for what was asked for:
 * - jitc_release(), jitc_shrink(), jitc_seal(), jitc_reset(): it will be done, before anything that is asked
 *   for later. The caller's span is as if it were done. A span is not to be released again.
 * - jitc_alloc(), jitc_open_executor(): nothing is had. What comes late the library gives back by itself, at
 *   the latest when the next jitc_flush() returns JITC_OK.
 * - jitc_write(), jitc_write_fn(), a scope's flush and end: the bytes, some or all, may be there, or may come
 *   until a later call that waits has succeeded. They are to be written again before they are run; where
 *   code is written once, into another span. The callback may not have been called.
 * - jitc_patch(): the same. Threads that run the code may see either until it is patched again.
 * - jitc_query(), jitc_statistics(), jitc_flush(): nothing was found out.
 * - jitc_connect() and its kin: there is no client.
 *
 * Threads. Every function may be called from any thread. With a ring operations of several threads are on
 * their way at once; without, they are one after another, and waiting for one's turn counts as waiting.
 * jitc_close() must be the last call on its client. A jitc_span is a plain value that its holder must
 * not change from two threads at once; a jitc_scope belongs to one thread at a time.
 *
 * Fork. Code that was mapped keeps running in a child, but the client is its
 * parent's: in the child every call returns JITC_E_FORKED and does nothing, save
 * jitc_close(), which frees the child's copy and leaves the parent's alone. The ring and the
 * writable view of a direct arena are not mapped there.
 *
 * Signals. The library installs no handler, raises no SIGPIPE, never prints and
 * never exits. jitc_strerror() is async-signal-safe. With a ring, a handler of a signal that its thread
 * brought about itself, as SIGSEGV by a fault or SIGSYS by a system call, may call jitc_alloc(),
 * jitc_release(), jitc_write(), jitc_scope_write(), jitc_scope_flush() and jitc_map(), as long as
 * - it has interrupted no call of the library: what those are given must not fault, and the signal is blocked
 *   around them where it may come otherwise;
 * - it returns, and saves errno: it is not left by longjmp() while a call is under way.
 * They take no memory from the heap then, wait for no lock but the library's own, and need 8 KiB of stack.
 * There are two exceptions, both of calls that fail: a jitc_release() that times out is remembered on the
 * heap, and the sentence of SYSTEM and DISCONNECTED may have the words of strerror(3) in it.
 * No other function may be called from a handler. Where the library waits a thread can't be cancelled.
 *
 * The end of a session. While the client is open and the daemon lives, code stays. It also
 * stays, and runs on, when the daemon stops, crashes or hangs. It does not when the session
 * is ended: by jitc_close(), or by the daemon, for a breach of the protocol that this library does
 * not commit. Then the daemon takes the memory back, and running the code is SIGBUS.
 */
#ifndef JITCLIENT_H
#define JITCLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JITC_VERSION_MAJOR 0
#define JITC_VERSION_MINOR 1
#define JITC_VERSION_PATCH 0

#if defined(__GNUC__)
#define JITC_API __attribute__((visibility("default")))
#else
#define JITC_API
#endif

/* ---- Results ------------------------------------------------------------ */

enum jitc_status {
    JITC_OK = 0,

    /* Said by the daemon; the numbers are those of the protocol. */
    JITC_E_MALFORMED = 1,         /* a record that is no message of the protocol */
    JITC_E_PROTOCOL = 2,          /* a message out of order, or with descriptors nobody asked for */
    JITC_E_VERSION = 3,           /* no protocol version in common */
    JITC_E_UNKNOWN_OPERATION = 4, /* the daemon is older than the request */
    JITC_E_UNKNOWN_FIELD = 5,     /* the same, for a part of the request */
    JITC_E_REFUSED = 6,           /* the policy does not serve this peer, or not like this */
    JITC_E_INVALID = 7,           /* an argument is outside what its field allows */
    JITC_E_MISALIGNED = 8,        /* an offset is not a multiple of what it must be */
    JITC_E_NO_SPAN = 9,           /* no live span starts (query: lies) there */
    JITC_E_OUT_OF_RANGE = 10,     /* past the end of the span */
    JITC_E_SEALED = 11,           /* the span cannot change until it is released */
    JITC_E_MISMATCH = 12,         /* patch: the bytes were not the expected ones */
    JITC_E_TOO_LARGE = 13,        /* larger than an empty arena could hold */
    JITC_E_ARENA_FULL = 14,       /* no free run of that length in this arena */
    JITC_E_QUOTA_SPANS = 15,      /* the session holds as many spans as it may */
    JITC_E_QUOTA_BYTES = 16,      /* the user holds as much code memory as it may */
    JITC_E_QUOTA_SESSIONS = 17,   /* the user, or the daemon, holds as many sessions as it may */
    JITC_E_NO_MEMORY = 18,        /* the daemon could not get memory from the system */
    JITC_E_HELLO_TIMEOUT = 19,    /* connected, but never said Hello */
    JITC_E_STOPPING = 20,         /* the daemon is shutting down */
    JITC_E_FORBIDDEN = 21,        /* the bytes hold an instruction that the policy forbids */
    JITC_E_FROZEN = 22,           /* the daemon was restarted, and a sealed arena can't change since */

    /* Found on this side of the socket. */
    JITC_E_NO_BROKER = 100,       /* no socket to connect to, or nobody behind it */
    JITC_E_DISCONNECTED = 101,    /* the daemon is gone, or has ended the session: see the detail */
    JITC_E_TIMEOUT = 102,         /* no answer in time to a call that waits; see "A daemon that is away" */
    JITC_E_FORKED = 103,          /* the client belongs to the parent process */
    JITC_E_FOREIGN_POINTER = 104, /* the pointer is not into this client's arena */
    JITC_E_SYSTEM = 105,          /* a system call failed; the detail names it */
    JITC_E_BAD_REPLY = 106,       /* the daemon's answer makes no sense; disconnected */
    JITC_E_CALLBACK = 107,        /* the write callback returned an error */
    JITC_E_NOT_NEAR = 108         /* JITC_NEAR_REQUIRED, and nothing is free there */
};

/* The name of a status as a short phrase; never NULL. Async-signal-safe. */
JITC_API const char *jitc_strerror(int status);

/*
 * The sentence of the last failure on this thread: what was wrong, where, and
 * what to do. "" if nothing failed yet. Valid until the next failure on this
 * thread; not to be freed.
 */
JITC_API const char *jitc_error_detail(void);

/*
 * A connection to a broker, its arena and what lives in it: its owner's, or an executor's (jitc_attach()).
 * Opaque.
 */
typedef struct jitc_client jitc_client;

/*
 * Where the last failure on this thread, which was FORBIDDEN and of this client, found the forbidden
 * instruction: the address at which its first byte is, or would have been, run. That may be up to
 * 3 bytes before the span or the bytes that were written, where what stands there completes it. With
 * *name (may be NULL) as policies and manuals call it ("syscall"), valid until the next failure on this
 * thread. NULL, and *name unchanged, where the last failure was another.
 */
JITC_API const void *jitc_error_forbidden(const jitc_client *client, const char **name);

/* "MAJOR.MINOR.PATCH" of the library that is loaded. */
JITC_API const char *jitc_version(void);

/* ---- Clients ------------------------------------------------------------ */

enum jitc_write_mode {
    JITC_WRITE_ANY = 0,     /* whatever the policy grants, direct if it can be had */
    JITC_WRITE_THROUGH = 1, /* the daemon writes; this process never can */
    JITC_WRITE_DIRECT = 2   /* a second, writable view: rw differs from rx */
};

/* jitc_options.flags. JITC_IMMEDIATE_RELEASE and JITC_LARGE_PAGES are wishes. */
#define JITC_NEAR_REQUIRED 0x1u /* fail where `near` can't be had, rather than map elsewhere */
#define JITC_IMMEDIATE_RELEASE \
    0x2u                      /* give empty memory back at once; not where the arena is sealed or direct */
#define JITC_LARGE_PAGES 0x4u /* back the arena with huge pages where policy and kernel allow */
/*
 * Once a call has timed out, others that would wait return TIMEOUT at once, until the daemon has answered
 * what it was asked. With a ring that costs no system call, but for one each 0.1 s that looks whether the
 * daemon is gone; without, one that looks for the answer.
 */
#define JITC_FAIL_FAST 0x8u

typedef struct jitc_options {
    size_t struct_size; /* sizeof(jitc_options): set by jitc_options_init() */
    const char *socket; /* path of the broker's socket, or "@name"; NULL: see jitc_connect() */
    const char *daemon; /* jitc_spawn() only: the program; NULL: $JITBROKER_DAEMON, then the installed one */
    uint64_t arena_bytes; /* 0: the daemon's default; at most its limit, see jitc_describe() */
    uint32_t granularity; /* bytes: 64, 128 or 256; 0: 64 */
    enum jitc_write_mode write_mode;
    const void *near_to;   /* map the arena so that all of it is within 2 GiB of here; NULL: anywhere */
    uint32_t fill_pattern; /* what unused code memory holds; 0: the daemon's. Must trap wherever it is
                              entered: x86 0xCCCCCCCC, 0xF4F4F4F4; aarch64 0xD4200000 */
    uint32_t flags;        /* JITC_NEAR_REQUIRED | ... */
    uint32_t timeout_ms;   /* longest that a call waits, see "A daemon that is away"; 0: 10,000 */
    uint32_t fd_min; /* the client's descriptors have at least this number, where so many may be open: out of
                        the way of a program that gives its own their numbers; 0: 3 */
} jitc_options;

/* Fills in the defaults. Without it a client is not to be had: INVALID. A flag that is not known is INVALID
 * too. */
JITC_API void jitc_options_init(jitc_options *options);

/*
 * Connects to a running broker: options->socket, else $JITBROKER_SOCKET (ignored
 * in a program that gained privileges by execve), else /run/jitbroker/socket, else
 * $XDG_RUNTIME_DIR/jitbroker/socket. "@name", with 1 to 107 bytes behind the @, is an abstract
 * socket (unix(7)). `options` may be NULL. On success *client is
 * the caller's, to be closed with jitc_close(). The arena is mapped when this
 * returns: no later call needs another executable mapping.
 * A daemon that goes before it has answered is being restarted perhaps: it is connected to anew, until
 * timeout_ms are over. That nobody listens, or a refusal, is told at once. Errors: NO_BROKER, DISCONNECTED,
 * TIMEOUT, SYSTEM, BAD_REPLY, or whatever the daemon says.
 */
JITC_API int jitc_connect(jitc_client **client, const jitc_options *options);

/*
 * The same over a socket that is connected already: SOCK_SEQPACKET, close-on-exec
 * or not, and fresh (nothing was said on it). Takes `fd` over, also on failure.
 */
JITC_API int jitc_adopt(jitc_client **client, int fd, const jitc_options *options);

/*
 * A connected, fresh socket in *fd, close-on-exec, the caller's: what jitc_adopt() takes. For who may not
 * connect when it needs code memory: it is sandboxed by then, or gets the socket from this process. The
 * daemon closes it if it isn't adopted within hello_timeout_ms (jitbrokerd.conf(5)), and judges whoever
 * adopts it by what this process is. One that is restarted knows nothing of it: jitc_adopt() then returns
 * DISCONNECTED. Looks where jitc_connect() does; of `options` (may be NULL) socket and
 * timeout_ms count. Errors: NO_BROKER, TIMEOUT, INVALID, SYSTEM.
 */
JITC_API int jitc_dial(int *fd, const jitc_options *options);

/*
 * Starts a private jitbrokerd over a socketpair: no service needed. It ends when
 * the client is closed, or when this process ends. It is a session of its own and no child
 * of this process: it raises no SIGCHLD and is not seen by wait(2), unless this process is
 * the one that orphans are given to (process 1 of a container, or a subreaper). It runs under this process's
 * uid: see SECURITY.md for what that is worth. JITC_WRITE_ANY means THROUGH here. Its stderr is this
 * process's; it says nothing there but what keeps it from serving. Errors as jitc_connect(); SYSTEM where the
 * program can't be started.
 */
JITC_API int jitc_spawn(jitc_client **client, const jitc_options *options);

/*
 * Ends the session: the daemon takes its memory back, and the arena is unmapped here: no
 * code of it may run any more, in this process or its children. (After jitc_lockdown()
 * sealed the mapping its address range stays taken until the process ends.) What is outstanding is
 * forgotten; the daemon takes all of it back when it is there. NULL is allowed. Always returns
 * NULL.
 */
JITC_API jitc_client *jitc_close(jitc_client *client);

typedef struct jitc_info {
    size_t struct_size;
    const void *base;        /* the arena's first byte in this process, read+execute */
    uint64_t arena_bytes;    /* address range reserved for the arena */
    uint64_t span_max_bytes; /* the largest span an empty arena can hold */
    uint32_t spans_max;      /* live spans this session may hold */
    uint32_t granularity;    /* bytes */
    uint32_t fill_pattern;
    enum jitc_write_mode write_mode; /* what was granted: THROUGH or DIRECT */
    int is_near;                     /* `near_to` was asked for and is satisfied */
    int is_sealed;                   /* same uid or root: no writable mapping can be made again, by anyone */
    int has_large_pages;
    uint64_t session; /* the daemon's number for it, as in its log */
    char broker[64];  /* the daemon's version */
    int is_executor;  /* it came by jitc_attach() */
} jitc_info;

/* What was granted. Set info->struct_size first: INVALID if it is less than sizeof was in 0.1.0. What lies
 * beyond it is not written. */
JITC_API int jitc_describe(jitc_client *client, jitc_info *info);

/*
 * The descriptors that the client keeps open until jitc_close(), for a program that closes all others: the
 * first `capacity` of them in fds[], and in *count how many there are (3 at most, as of 0.1.0). All are
 * close-on-exec. They are only to be left open: nothing may be read, written or sent there. Once one
 * was closed, or replaced, the client is not to be used any more, nor closed: its numbers may be
 * another's. A child need not keep its parent's, if it does not call jitc_close(). Errors: INVALID.
 */
JITC_API int jitc_descriptors(jitc_client *client, int *fds, size_t capacity, size_t *count);

/* ---- Executors: who runs the code, and may not change it ------------------- */

/*
 * Opens an end of this client's session for an executor: a socket in *fd, close-on-exec, which is the
 * caller's to pass on (SCM_RIGHTS, or over an execve) and to close. Who holds it can map the arena
 * read+execute and ask where spans are; it can't allocate, write, or do anything else. It need not be of this
 * user. Each end counts as one session of this user's until every copy of its socket is closed. Errors:
 * REFUSED (the policy grants no executors, or this client is one), QUOTA_SESSIONS (this session has as many
 * as it may, or the user or the daemon as many sessions), UNKNOWN_FIELD (a daemon of 0.1.0).
 */
JITC_API int jitc_open_executor(jitc_client *client, int *fd);

/*
 * Attaches to the session whose end `fd` is: maps its arena, once, somewhere in this process. Takes `fd`
 * over, also on failure. On success *client is the caller's, to be closed with jitc_close(), which ends this
 * end and not the session. Spans that the owner makes later are there without another call; so it may be
 * followed by jitc_lockdown(). Where they are is the owner's to tell: an address less info.base there, plus
 * info.base here. A span is known to jitc_query() here when the owner's first write to it, or
 * jitc_flush(), has returned; in a direct session only by the latter.
 *
 * jitc_describe(), jitc_query(), jitc_statistics(), jitc_sync() and jitc_flush() work as ever. The others
 * fail with REFUSED at once.
 *
 * When the owner is gone nothing of the arena changes any more, and it stays for as long as one end is open;
 * or, if the policy says so (orphans= in jitbrokerd.conf(5)), the daemon takes it back, and running it is
 * SIGBUS. Errors: as jitc_adopt(); INVALID also for a socket that is no executor's.
 */
JITC_API int jitc_attach(jitc_client **client, int fd);

/* ---- Spans -------------------------------------------------------------- */

#define JITC_SPAN_ICACHE_CLEAN 0x1u /* never handed out before: no stale instruction can be cached */
#define JITC_SPAN_SEALED 0x2u       /* cannot change until it is released */

/* A value; copying it copies no memory. Read it through the accessors where you can. */
typedef struct jitc_span {
    void *rx;          /* where it runs; never NULL on success, aligned to the granularity */
    void *rw;          /* where it may be written; NULL when only the daemon may */
    size_t size;       /* bytes, a multiple of the granularity */
    void *block;       /* private */
    uint32_t flags;    /* JITC_SPAN_* */
    uint32_t reserved; /* 0 */
} jitc_span;

static inline void *jitc_span_rx(const jitc_span *span)
{
    return span->rx;
}
static inline void *jitc_span_rw(const jitc_span *span)
{
    return span->rw;
}
static inline size_t jitc_span_size(const jitc_span *span)
{
    return span->size;
}
static inline uint32_t jitc_span_flags(const jitc_span *span)
{
    return span->flags;
}
static inline int jitc_span_is_directly_writable(const jitc_span *span)
{
    return span->rw != NULL;
}

/*
 * For use inside a write callback: says that only the first `size` bytes are
 * needed. When the callback returns, the tail is given back and the span's
 * size becomes `size` rounded up to the granularity. Never grows a span.
 */
static inline void jitc_span_shrink(jitc_span *span, size_t size)
{
    if (size < span->size)
        span->size = size;
}

/*
 * A span of at least `size` bytes (1 to info.span_max_bytes). *span is written on success only; release it
 * by its rx. It is trap fill; where its memory was released a moment ago, at the latest when the first
 * write to it, or jitc_flush(), has returned. Spans of less than 64 KiB are mostly placed here, in
 * blocks that the client leases: then the daemon is not asked, and that it is gone is not noticed.
 * Errors: INVALID (0), TOO_LARGE, ARENA_FULL, QUOTA_SPANS, QUOTA_BYTES, NO_MEMORY, FROZEN (by the daemon).
 */
JITC_API int jitc_alloc(jitc_client *client, jitc_span *span, size_t size);

/*
 * Gives back the span that starts at `rx`. The caller makes sure that no thread runs in it any more.
 * The daemon trap-fills it before it lets anyone have it again, not necessarily before this returns: see
 * jitc_alloc() and jitc_flush(). In a direct session what the client placed is filled when this returns.
 * TIMEOUT: it will be done, and rx is not to be released again. SYSTEM: there was no memory to
 * remember that, and it is still the caller's.
 * Errors: FOREIGN_POINTER, NO_SPAN (never allocated, released before, or not its start).
 */
JITC_API int jitc_release(jitc_client *client, const void *rx);

/*
 * Waits until all that this client was asked for is done: what was released is trap fill. Not needed
 * before code is run, nor before jitc_statistics(). Without a ring only what earlier calls gave up is waited
 * for.
 * Errors: what an operation that was not waited for ran into, the first since the last flush, be it this
 * one, a scope's or that of jitc_write_fn(). The library checks before it asks, so there are none while
 * library and daemon agree.
 */
JITC_API int jitc_flush(jitc_client *client);

/*
 * Cuts the span to `size` bytes rounded up, and gives the tail back as jitc_release() does. A size of 0
 * releases the span and clears *span. A size beyond the span's is INVALID. TIMEOUT: it will be done, and
 * *span says so already.
 * Errors: also SEALED, NO_SPAN, FOREIGN_POINTER, FROZEN.
 */
JITC_API int jitc_shrink(jitc_client *client, jitc_span *span, size_t size);

/* The live span that `pointer` (anywhere in it, rx or rw) lies in. Errors: FOREIGN_POINTER, NO_SPAN. */
JITC_API int jitc_query(jitc_client *client, jitc_span *span, const void *pointer);

/* jitc_map()'s flags. */
#define JITC_MAP_PRIVATE 0x1u /* mprotect(2) may make it writable, which copies; else it can't, ever */

/*
 * Maps [offset, offset + size) of the span once more, read+execute, at `address`, in place of all that is
 * there: for code that has to run at addresses of the caller's choosing. What is written to the span later
 * shows there too, save in pages of a private mapping that were changed. The mapping is the caller's: to be
 * removed by munmap(2), and before the span is released, since it shows what the memory is used for next.
 * Under jitc_lockdown() it is refused, unless with JITC_LOCKDOWN_ALLOW_LIBRARIES. A private mapping can be
 * changed through /proc/self/mem too: where that matters, JITC_LOCKDOWN_LANDLOCK. rx + offset, size and
 * address are multiples of the page size: allocate a page more than you need, and start at the first page of
 * it. Errors: MISALIGNED, INVALID, OUT_OF_RANGE, FOREIGN_POINTER, SYSTEM.
 */
JITC_API int jitc_map(jitc_client *client, const jitc_span *span, size_t offset, size_t size, void *address,
                      uint32_t flags);

/* ---- Writing ------------------------------------------------------------ */

/* What to do to the instruction cache after a write; x86 needs nothing. */
typedef enum jitc_write_policy {
    JITC_WRITE_DEFAULT = 0,    /* what this processor needs before the bytes may run */
    JITC_WRITE_NEVER_FLUSH = 1 /* nothing: the caller does it, with __builtin___clear_cache() */
} jitc_write_policy;

/*
 * Copies `size` bytes to `offset` within the span, whoever has to do it. When it
 * returns JITC_OK the bytes are there for every thread that calls them. Not
 * atomic: on failure of a write of more than 32 KiB a prefix may be written.
 * The code being written must not be running; to change running code use jitc_patch().
 * Clears JITC_SPAN_ICACHE_CLEAN in *span.
 * Errors: OUT_OF_RANGE, SEALED, NO_SPAN, FOREIGN_POINTER, FORBIDDEN, FROZEN.
 */
JITC_API int jitc_write(jitc_client *client, jitc_span *span, size_t offset, const void *src, size_t size,
                        jitc_write_policy policy);

/*
 * The callback gets a copy of the span whose rw is writable and holds the present
 * content: the span itself when it is directly writable, a staging buffer
 * otherwise (use rx for addresses, rw for stores). It may call jitc_span_shrink().
 * Returns 0 to have what it wrote become code, anything else to give up: then
 * nothing reaches a span that is not directly writable. Shrinking to 0 releases the span
 * and clears the caller's. It must not call the library, throw, or jump out.
 */
typedef int (*jitc_write_callback)(jitc_span *span, void *user);

/*
 * Writes by callback; *span then has its new size. With a ring, where the daemon writes, it waits for all
 * that the client was asked for, and can tell what jitc_flush() tells. Errors: as jitc_write(), and CALLBACK.
 * Where the daemon refuses the write, *span may have been shrunk all the same.
 */
JITC_API int jitc_write_fn(jitc_client *client, jitc_span *span, jitc_write_callback callback, void *user,
                           jitc_write_policy policy);

/* Many writes, of which the last is waited for. Nothing of a scope is safe to run until it was flushed. */
typedef struct jitc_scope jitc_scope;

/* *scope is the caller's until jitc_scope_end(). */
JITC_API int jitc_scope_begin(jitc_client *client, jitc_scope **scope, jitc_write_policy policy);

/*
 * As jitc_write() and jitc_write_fn(), but the daemon may see it only at the next
 * flush, and an error that it finds is then told there. `src` is the caller's again at once. A full scope
 * (256 writes, or earlier) waits for what is pending; what that finds is told at the next flush too.
 */
JITC_API int jitc_scope_write(jitc_scope *scope, jitc_span *span, size_t offset, const void *src,
                              size_t size);
JITC_API int jitc_scope_write_fn(jitc_scope *scope, jitc_span *span, jitc_write_callback callback,
                                 void *user);

/*
 * Waits for what is pending, and with a ring for all that the client was asked for, as jitc_flush() does. The
 * first error since the last flush; the other writes are done all the same.
 */
JITC_API int jitc_scope_flush(jitc_scope *scope);

/* Flushes, then frees the scope whatever the flush returned. NULL is allowed. */
JITC_API int jitc_scope_end(jitc_scope *scope);

/*
 * Atomically replaces the `width` bytes (1, 2, 4 or 8; the address aligned to it)
 * at `offset` by the low bytes of `desired` if they are those of `expected`, then
 * makes every running thread of this process see the new code. `found` (may be NULL)
 * receives what was there before, also on MISMATCH.
 * Other processes that execute the arena (executors) call jitc_sync() when they have been told of it.
 * Errors: MISMATCH, MISALIGNED, INVALID (width), OUT_OF_RANGE, SEALED, NO_SPAN, FORBIDDEN, FROZEN.
 */
JITC_API int jitc_patch(jitc_client *client, jitc_span *span, size_t offset, unsigned width,
                        uint64_t expected, uint64_t desired, uint64_t *found);

/*
 * For code that another process wrote or patched, in a process that runs it: when it returns, every thread of
 * this process sees the span as it was when it was called. On x86 only bytes that this process may have run
 * before need that; elsewhere all do. Errors: FOREIGN_POINTER, OUT_OF_RANGE, SYSTEM (no membarrier(2)).
 */
JITC_API int jitc_sync(jitc_client *client, const jitc_span *span);

/*
 * From here on the span cannot change, by anyone, until it is released; sets
 * JITC_SPAN_SEALED and clears rw. In direct mode the writable view still exists, so
 * there it guards against mistakes, not against an attacker. Sealing twice is fine. TIMEOUT: it will be
 * done, and *span says so already.
 */
JITC_API int jitc_seal(jitc_client *client, jitc_span *span);

/* ---- The arena as a whole ------------------------------------------------ */

enum jitc_reset_kind {
    JITC_RESET_SOFT = 0, /* keep the memory, trap-filled, for what comes next */
    JITC_RESET_HARD = 1  /* give all of it back to the system; soft where the arena is sealed or direct */
};

/* Releases every span at once, and waits for that. No code of the arena may be running. TIMEOUT: it will be
 * done, before anything that is asked for later. */
JITC_API int jitc_reset(jitc_client *client, enum jitc_reset_kind kind);

typedef struct jitc_stats {
    size_t struct_size;
    uint64_t block_count;      /* 64 KiB units that hold at least one span or are part of one */
    uint64_t allocation_count; /* live spans */
    uint64_t used_bytes;       /* what live spans take, rounded up */
    uint64_t reserved_bytes;   /* memory the arena has from the system */
    uint64_t overhead_bytes;   /* the daemon's bookkeeping for this session, at most */
    uint64_t reserved_peak_bytes;
    uint64_t huge_bytes;         /* memory of the arena that huge pages back */
    uint64_t leased_bytes;       /* what this process may carve spans from, and has not */
    uint64_t largest_free_bytes; /* the largest span for which the reserved memory has room */
    uint64_t free_runs;          /* runs of free granules in blocks, leased ones too: many small ones are
                                    fragmentation */
} jitc_stats;

/* Set stats->struct_size first: INVALID if it is less than sizeof was in 0.1.0. What lies beyond it is not
 * written. Counts all that was done by calls that have returned. */
JITC_API int jitc_statistics(jitc_client *client, jitc_stats *stats);

/* ---- Locking the process down -------------------------------------------- */

#define JITC_LOCKDOWN_NO_NEW_PRIVS 0x01u /* PR_SET_NO_NEW_PRIVS */
#define JITC_LOCKDOWN_MDWE 0x02u         /* PR_SET_MDWE (Linux 6.3) */
#define JITC_LOCKDOWN_SECCOMP 0x04u      /* every system call on the way to executable memory: EPERM */
#define JITC_LOCKDOWN_SEAL_ARENAS 0x08u  /* mseal (6.10): nobody unmaps, moves or overmaps an arena */
#define JITC_LOCKDOWN_LANDLOCK 0x10u     /* no file under /proc opens for writing (5.13) */
#define JITC_LOCKDOWN_ALL 0x1fu
#define JITC_LOCKDOWN_ALLOW_EXEC 0x100u      /* leave execve(2): programs started later may be static ones */
#define JITC_LOCKDOWN_ALLOW_LIBRARIES 0x200u /* files may still be mapped read+execute: libraries, arenas */
#define JITC_LOCKDOWN_TRAP 0x400u            /* refused mmap, mprotect, pkey_mprotect: SIGSYS, not EPERM */

/*
 * Leaves this process and all its later children no way to executable memory but the
 * arenas that are mapped now. For good: connect, load every library, and start every
 * program you need, first; start threads after it (Landlock reaches those that exist
 * already from its ABI 8 on only, and is reported missing otherwise). No part, whether or not with
 * ALLOW_EXEC, ALLOW_LIBRARIES or TRAP, means all of them. MDWE is not in force either while memory is
 * writable and executable. With TRAP the handler of SIGSYS can do in another way what was refused; without
 * one the process ends. Returns the flags that were asked for and are not in force afterwards, 0 when all
 * are; jitc_error_detail() says why. What is denied, call by call: jitc_lockdown(3).
 */
JITC_API uint32_t jitc_lockdown(uint32_t flags);

/* ---- Can I JIT here? ------------------------------------------------------ */

#define JITC_CAN_WRITE_EXECUTE 0x1u /* mmap with write and execute at once */
#define JITC_CAN_FLIP 0x2u          /* mprotect from writable to executable */
#define JITC_CAN_DUAL_MAP 0x4u      /* memfd_create, mapped twice */
#define JITC_CAN_MAP_READ_ONLY 0x8u /* map a read-only memfd executable: all a worker needs */
#define JITC_CAN_REACH_BROKER 0x10u /* a broker answered and granted an arena */
#define JITC_CAN_SPAWN_BROKER 0x20u /* a private broker started, and granted one */
#define JITC_CAN_RUN 0x40u          /* code that a broker wrote was run, and returned */

/* A bit of can or lockdown, shifted left by this: it could not be found out. */
#define JITC_PROBE_UNKNOWN_SHIFT 16

typedef struct jitc_probe_result {
    size_t struct_size;
    uint32_t can;      /* JITC_CAN_* */
    uint32_t lockdown; /* JITC_LOCKDOWN_* that this kernel has */
    char report[4096]; /* the same and what is missing, in words, several lines */
} jitc_probe_result;

/*
 * Tries what this process may do, in a short-lived child where trying might be
 * fatal. Options as for jitc_connect() and jitc_spawn(), or NULL. Returns JITC_OK
 * when code can be run through some broker, else the status of the last attempt;
 * *probe is filled either way. A seccomp filter that kills whoever calls clone(2) or wait4(2)
 * kills the caller of this: no child can try it.
 */
JITC_API int jitc_probe(jitc_probe_result *probe, const jitc_options *options);

#ifdef __cplusplus
}
#endif

#endif
