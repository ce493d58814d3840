/* SPDX-License-Identifier: MIT */
/*
 * jitc_probe(): may this process run code that it makes, and if not, why not.
 *
 * Everything is tried, nothing is concluded from versions or settings: a filter, an LSM
 * and MDWE look the same from outside. A filter may also kill whoever asks, so each
 * try is a child's, which notes on a shared page what it is about to do and what it saw.
 * What it was about to do when it died, it died of; what it never got to is unknown.
 *
 * Children that make system calls only are cloned with no exit signal: wait(2) for any
 * child doesn't see them, and they raise no SIGCHLD. Those that talk to a broker need
 * malloc, and so a real fork(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/failure.h"
#include "client/jitclient.h"
#include "client/landlock.h"

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66 /* Linux 6.3 */
#endif
#ifndef SYS_mseal
#define SYS_mseal 462 /* Linux 6.10; the same number everywhere */
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* int function(void) { return 42; } */
#define ANSWER 42
#if defined(__x86_64__) || defined(__i386__)
static const uint8_t answer_code[] = {0xb8, ANSWER, 0, 0, 0, 0xc3};
#elif defined(__aarch64__)
static const uint8_t answer_code[] = {0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6};
#elif defined(__riscv)
static const uint8_t answer_code[] = {0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0x00, 0x00};
#else
#error "jitc_probe: no code known for this architecture"
#endif

/* ---- The shared page ---------------------------------------------------------- */

enum verdict { VERDICT_UNKNOWN = 0, VERDICT_TRYING, VERDICT_YES, VERDICT_NO };

/* One way to executable memory, as this process tried it by itself. */
struct attempt {
    enum verdict verdict; /* UNKNOWN: it was not got to; TRYING: that was fatal */
    int error;            /* errno, unless the child was killed */
    int signal;           /* what killed the child, else 0 */
};

enum own_way { OWN_WRITE_EXECUTE, OWN_FLIP, OWN_DUAL_MAP, OWN_MAP_READ_ONLY, OWN_WAY_COUNT };

struct broker_attempt {
    bool is_over; /* the child got to its end */
    bool is_granted;
    bool has_run;
    int signal;
    int status;
    jitc_info info;
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path + 1];
    char detail[512];
};

/* FILTER to MDWE may be in force on this process; NO_NEW_PRIVS and what follows are features. */
enum question {
    ASK_CORE_LIMIT, /* may a child limit its core? Asked first, by the one that doesn't know */
    ASK_FILTER,
    ASK_NO_NEW_PRIVS,
    ASK_MDWE,
    ASK_SECCOMP,
    ASK_LANDLOCK,
    ASK_MSEAL,
    ASK_NOEXEC_MEMFD,
    ASK_PEERPIDFD,
    ASK_SYNC_CORE,
    QUESTION_COUNT,
};

struct kernel {
    unsigned asking; /* enum question: what the child is at */
    int error;       /* errno, if a child could not be started */
    bool is_told[QUESTION_COUNT];
    int answer[QUESTION_COUNT]; /* < 0: not there; > 0: in force; Landlock: its ABI - 1 */
};

struct board {
    struct attempt own[OWN_WAY_COUNT];
    struct broker_attempt reached;
    struct broker_attempt spawned;
    struct kernel kernel;
};

/* ---- Children ------------------------------------------------------------------ */

enum child_kind { CHILD_UNSEEN, CHILD_WITH_MALLOC };

/* As fork(2). Whatever kills the child is seen as a death, and leaves no core if it may say so. */
static pid_t child_start(const struct board *board, enum child_kind kind)
{
    static const int deadly[] = {SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    pid_t pid = kind == CHILD_WITH_MALLOC ? fork() : (pid_t)syscall(SYS_clone, 0UL, NULL, NULL, NULL, NULL);
    if (pid != 0)
        return pid;
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
        signal(deadly[i], SIG_DFL);
    if (board->kernel.is_told[ASK_CORE_LIMIT])
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    return 0;
}

/* The signal that killed it, 0 if it ended by itself, -1 if somebody else reaped it. */
static int child_end(pid_t pid)
{
    int status = 0;
    pid_t r;
    do {
        r = waitpid(pid, &status, __WALL);
    } while (r < 0 && errno == EINTR);
    return r != pid ? -1 : WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static const char *what_was_wrong(int error, int signal)
{
    if (error != 0 || signal == 0)
        return strerror(error);
    return signal == SIGSYS ? "a seccomp filter kills it" : strsignal(signal);
}

/* ---- What it may do by itself --------------------------------------------------- */

/* Each tells by *verdict when it gets to what it is about, and returns false with errno. */

static bool try_write_execute(enum verdict *verdict, size_t page)
{
    *verdict = VERDICT_TRYING;
    return mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED;
}

static bool try_flip(enum verdict *verdict, size_t page)
{
    unsigned char *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    memory[0] = answer_code[0];
    *verdict = VERDICT_TRYING;
    return mprotect(memory, page, PROT_READ | PROT_EXEC) == 0;
}

static int memfd_of(size_t bytes)
{
    int fd = memfd_create("jitc_probe", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("jitc_probe", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) < 0)
        return -1; /* the child ends right after: it closes for us */
    return fd;
}

static bool try_dual_map(enum verdict *verdict, size_t page)
{
    *verdict = VERDICT_TRYING;
    int fd = memfd_of(page);
    return fd >= 0 && mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED &&
           mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) != MAP_FAILED;
}

/*
 * What a client of the broker does: the fd can't be written through, the mapping is
 * shared. Where no memfd can be had, a program's file stands in for it.
 */
static bool try_map_read_only(enum verdict *verdict, size_t page)
{
    int fd = memfd_of(page);
    char path[32] = "/proc/self/exe";
    if (fd >= 0)
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int read_only = open(path, O_RDONLY | O_CLOEXEC);
    if (read_only < 0)
        return false;
    *verdict = VERDICT_TRYING;
    return mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, read_only, 0) != MAP_FAILED;
}

static const struct {
    uint32_t can;
    bool (*attempt)(enum verdict *verdict, size_t page);
    const char *what;
} own_ways[OWN_WAY_COUNT] = {
    [OWN_WRITE_EXECUTE] = {JITC_CAN_WRITE_EXECUTE, try_write_execute,
                           "map memory writable and executable at once"},
    [OWN_FLIP] = {JITC_CAN_FLIP, try_flip, "make memory executable after writing it (mprotect)"},
    [OWN_DUAL_MAP] = {JITC_CAN_DUAL_MAP, try_dual_map,
                      "make a memfd and map it twice, to write and to execute"},
    [OWN_MAP_READ_ONLY] = {JITC_CAN_MAP_READ_ONLY, try_map_read_only,
                           "map a read-only memfd executable (what a broker's client needs)"},
};

static void own_way_try(struct board *board, enum own_way way)
{
    struct attempt *attempt = &board->own[way];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    pid_t pid = child_start(board, CHILD_UNSEEN);
    if (pid == 0) {
        bool worked = own_ways[way].attempt(&attempt->verdict, page);
        attempt->error = worked ? 0 : errno;
        if (attempt->verdict == VERDICT_TRYING)
            attempt->verdict = worked ? VERDICT_YES : VERDICT_NO;
        _exit(0);
    }
    if (pid < 0)
        attempt->error = errno;
    else
        attempt->signal = child_end(pid);
}

/* ---- What the kernel has ---------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t lockdown;
    const char *cost;
} questions[QUESTION_COUNT] = {
    [ASK_FILTER] = {"seccomp", 0, NULL},
    [ASK_NO_NEW_PRIVS] = {"no_new_privs", JITC_LOCKDOWN_NO_NEW_PRIVS,
                          "no filter and no Landlock without privileges"},
    [ASK_MDWE] = {"MDWE", JITC_LOCKDOWN_MDWE, "Linux 6.3; only the seccomp filter stops mprotect tricks"},
    [ASK_SECCOMP] = {"seccomp", JITC_LOCKDOWN_SECCOMP,
                     "a worker can't be locked down: memfd_create and the like stay open"},
    [ASK_LANDLOCK] = {"Landlock", JITC_LOCKDOWN_LANDLOCK,
                      "Linux 5.13; a worker can change its libraries' code by /proc/self/mem"},
    [ASK_MSEAL] = {"mseal", JITC_LOCKDOWN_SEAL_ARENAS,
                   "Linux 6.10; a worker can unmap its arena, or map something else over it"},
    [ASK_NOEXEC_MEMFD] = {"MFD_NOEXEC_SEAL", 0,
                          "Linux 6.3; the arena's file could be executed where exec is allowed"},
    [ASK_PEERPIDFD] = {"SO_PEERPIDFD", 0,
                       "Linux 6.5; the broker knows its clients by a pid, which can be reused"},
    [ASK_SYNC_CORE] = {"membarrier SYNC_CORE", 0, "code that is running can't be patched safely"},
};

static int kernel_ask(enum question question)
{
    uint32_t action = SECCOMP_RET_ERRNO;
    int pair[2];
    int pidfd;
    long commands;
    switch (question) {
    case ASK_CORE_LIMIT:
        return setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    case ASK_FILTER:
        return prctl(PR_GET_SECCOMP);
    case ASK_NO_NEW_PRIVS:
        return prctl(PR_GET_NO_NEW_PRIVS, 0UL, 0UL, 0UL, 0UL);
    case ASK_MDWE:
        return prctl(PR_GET_MDWE, 0UL, 0UL, 0UL, 0UL);
    case ASK_SECCOMP:
        return (int)syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action);
    case ASK_LANDLOCK:
        return landlock_abi() - 1;
    case ASK_MSEAL:
        return (int)syscall(SYS_mseal, NULL, (size_t)0, 0UL);
    case ASK_NOEXEC_MEMFD:
        return memfd_create("jitc_probe", MFD_CLOEXEC | MFD_NOEXEC_SEAL) >= 0 || errno != EINVAL ? 0 : -1;
    case ASK_PEERPIDFD:
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
            return -1;
        return getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &(socklen_t){sizeof pidfd});
    case ASK_SYNC_CORE:
        commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
        return commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE) ? 0 : -1;
    default:
        return -1;
    }
}

/* Where a question kills the child, another one goes on behind it. */
static void kernel_probe(struct board *board)
{
    struct kernel *kernel = &board->kernel;
    for (; kernel->asking < QUESTION_COUNT; kernel->asking++) {
        pid_t pid = child_start(board, CHILD_UNSEEN);
        if (pid == 0) {
            for (; kernel->asking < QUESTION_COUNT; kernel->asking++) {
                kernel->answer[kernel->asking] = kernel_ask((enum question)kernel->asking);
                kernel->is_told[kernel->asking] = true;
            }
            _exit(0);
        }
        if (pid < 0) {
            kernel->error = errno;
            return;
        }
        child_end(pid);
    }
}

static uint32_t kernel_lockdown(const struct kernel *kernel)
{
    uint32_t lockdown = 0;
    for (int q = 0; q < QUESTION_COUNT; q++) {
        uint32_t part = kernel->answer[q] >= 0 ? questions[q].lockdown : 0;
        lockdown |= part << (kernel->is_told[q] ? 0 : JITC_PROBE_UNKNOWN_SHIFT);
    }
    return lockdown;
}

/* ---- Brokers ------------------------------------------------------------------------ */

static int run_answer(jitc_client *client, bool *has_run)
{
    jitc_span span;
    int status = jitc_alloc(client, &span, sizeof answer_code);
    if (status == JITC_OK)
        status = jitc_write(client, &span, 0, answer_code, sizeof answer_code, JITC_WRITE_DEFAULT);
    if (status != JITC_OK)
        return status;
    int (*function)(void);
    void *address = jitc_span_rx(&span);
    memcpy(&function, &address, sizeof function);
    int answer = function();
    if (answer != ANSWER)
        return failure_set(JITC_E_BAD_REPLY, "the code at %p returned %d, not %d", address, answer, ANSWER);
    *has_run = true;
    return jitc_release(client, span.rx);
}

typedef int (*open_broker)(jitc_client **client, const jitc_options *options);

static void broker_try_here(struct broker_attempt *attempt, open_broker open_it, const jitc_options *options)
{
    /* The connection will get the same number, which tells where the library found the broker. */
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    close(fd);
    jitc_client *client = NULL;
    attempt->status = open_it(&client, options);
    if (attempt->status == JITC_OK) {
        attempt->is_granted = true;
        attempt->info.struct_size = sizeof attempt->info;
        attempt->status = jitc_describe(client, &attempt->info);
        if (attempt->status == JITC_OK)
            attempt->status = run_answer(client, &attempt->has_run);
    }
    if (attempt->status != JITC_OK)
        snprintf(attempt->detail, sizeof attempt->detail, "%s", jitc_error_detail());
    attempt->is_over = true; /* the path is an extra, it may be fatal */
    struct sockaddr_un peer = {.sun_family = AF_UNIX};
    if (attempt->is_granted && getpeername(fd, (struct sockaddr *)&peer, &(socklen_t){sizeof peer}) == 0)
        snprintf(attempt->path, sizeof attempt->path, "%.*s", (int)sizeof peer.sun_path, peer.sun_path);
    jitc_close(client);
}

static void broker_try(const struct board *board, struct broker_attempt *attempt, open_broker open_it,
                       const jitc_options *options)
{
    attempt->status = JITC_E_SYSTEM;
    pid_t pid = child_start(board, CHILD_WITH_MALLOC);
    if (pid == 0) {
        broker_try_here(attempt, open_it, options);
        _exit(0);
    }
    if (pid < 0) {
        snprintf(attempt->detail, sizeof attempt->detail, "fork: %s", strerror(errno));
        return;
    }
    attempt->signal = child_end(pid);
    size_t length = strlen(attempt->detail);
    bool is_locked_down =
        board->kernel.answer[ASK_FILTER] > 0 && board->own[OWN_MAP_READ_ONLY].error == EPERM;
    if (attempt->is_over && attempt->status == JITC_E_SYSTEM && is_locked_down)
        snprintf(attempt->detail + length, sizeof attempt->detail - length,
                 "; after the lockdown no arena or broker can be had: connect first");
    if (attempt->is_over)
        return;
    attempt->status = JITC_E_SYSTEM;
    const char *stage = attempt->is_granted       ? "writing or running the code"
                        : open_it == jitc_connect ? "connecting, or mapping the arena"
                                                  : "starting a broker, or mapping the arena";
    snprintf(attempt->detail, sizeof attempt->detail, "%s: %s", stage, what_was_wrong(0, attempt->signal));
}

/* ---- The report ------------------------------------------------------------------------ */

struct report {
    char *text;
    size_t size;
    size_t length;
};

static __attribute__((format(printf, 2, 3))) void report_add(struct report *report, const char *format, ...)
{
    size_t room = report->size - report->length;
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(report->text + report->length, room, format, arguments);
    va_end(arguments);
    if (n > 0)
        report->length += (size_t)n < room ? (size_t)n : room - 1;
}

static void report_own_ways(struct report *report, const struct board *board, uint32_t can)
{
    report_add(report, "\nBy itself, this process\n");
    for (int way = 0; way < OWN_WAY_COUNT; way++) {
        const struct attempt *attempt = &board->own[way];
        const char *what = own_ways[way].what;
        const char *wrong = what_was_wrong(attempt->error, attempt->signal);
        if (can & own_ways[way].can)
            report_add(report, "  may      %s\n", what);
        else if (attempt->verdict != VERDICT_UNKNOWN)
            report_add(report, "  may not  %s: %s\n", what, wrong);
        else
            report_add(report, "  unknown  %s: could not be tried: %s\n", what, wrong);
    }
    report_add(report, "  In force on it now:");
    size_t length = report->length;
    for (int q = ASK_FILTER; q <= ASK_MDWE; q++) {
        if (!board->kernel.is_told[q])
            report_add(report, " %s (unknown)", questions[q].name);
        else if (board->kernel.answer[q] > 0)
            report_add(report, " %s", questions[q].name);
    }
    report_add(report, "%s\n", report->length == length ? " none of no_new_privs, MDWE, seccomp" : "");
}

static void report_broker(struct report *report, const struct broker_attempt *attempt, const char *name)
{
    if (attempt->status == JITC_OK && !attempt->is_granted) {
        report_add(report, "  %s: not tried, not needed\n", name);
        return;
    }
    const char *mode = attempt->info.write_mode == JITC_WRITE_DIRECT
                           ? "direct: this process may write it as well"
                           : "write-through: only the broker writes it";
    if (attempt->is_granted)
        report_add(report, "  %s%s%s: granted an arena of %" PRIu64 " KiB (%s), broker %s\n", name,
                   attempt->path[0] ? " at " : "", attempt->path, attempt->info.arena_bytes / 1024, mode,
                   attempt->info.broker);
    if (attempt->has_run)
        report_add(report, "  %s: code was written, was run, and returned %d\n", name, ANSWER);
    if (attempt->status != JITC_OK)
        report_add(report, "  %s: %s. %s\n", name, jitc_strerror(attempt->status), attempt->detail);
}

static void report_kernel(struct report *report, const struct kernel *kernel)
{
    report_add(report, "\nKernel has:");
    for (int q = ASK_NO_NEW_PRIVS; q < QUESTION_COUNT; q++) {
        if (kernel->is_told[q] && kernel->answer[q] >= 0)
            report_add(report, " %s", questions[q].name);
    }
    int landlock = kernel->is_told[ASK_LANDLOCK] ? kernel->answer[ASK_LANDLOCK] + 1 : 0;
    if (landlock > 0)
        report_add(report, " (Landlock ABI %d)", landlock);
    report_add(report, "\n");
    const char *why = kernel->error ? "no child could be started to ask" : "a filter kills whoever asks";
    for (int q = ASK_NO_NEW_PRIVS; q < QUESTION_COUNT; q++) {
        if (!kernel->is_told[q])
            report_add(report, "  unknown %s: %s for %s\n", questions[q].name, why, questions[q].name);
        else if (kernel->answer[q] < 0)
            report_add(report, "  lacks %s: %s\n", questions[q].name, questions[q].cost);
    }
    if (landlock > 0 && landlock < 8)
        report_add(report,
                   "  Landlock reaches one thread at a time here: lock down before starting threads.\n");
}

static const char *next_step(const struct board *board, uint32_t can)
{
    const struct broker_attempt *reached = &board->reached;
    enum verdict mapping = board->own[OWN_MAP_READ_ONLY].verdict;
    if ((can & JITC_CAN_RUN) && (can & JITC_CAN_REACH_BROKER))
        return "nothing is needed. Call jitc_lockdown() when the arena is mapped, so that nothing else "
               "becomes executable.";
    if (reached->signal == SIGSYS && mapping != VERDICT_TRYING)
        return "a seccomp filter kills the process where it talks to the broker: allow socket, connect, "
               "setsockopt, getsockopt, fcntl, membarrier, sendto, recvmsg, and mmap of a read-only file "
               "shared and "
               "executable. The audit log has the number of the call (ausearch -m seccomp, dmesg).";
    if (can & JITC_CAN_RUN)
        return "a private broker works, but it runs as this user. For one that this user can't touch, start "
               "the service (systemctl start jitbrokerd.socket).";
    if (board->kernel.error != 0)
        return "no child could be started to try it in, so nothing is known: allow clone(2) or raise the "
               "limit on processes, or call jitc_connect() itself and see.";
    if (mapping == VERDICT_NO || mapping == VERDICT_TRYING)
        return "something refuses even a read-only executable mapping: call jitc_lockdown() after connecting "
               "only, look for a seccomp filter on mmap, or an LSM denial in the audit log (ausearch -m avc, "
               "dmesg).";
    switch (reached->status) {
    case JITC_E_NO_BROKER:
        return "start the broker (systemctl start jitbrokerd.socket), or name its socket: $JITBROKER_SOCKET. "
               "In a container the socket must be mounted into it. Without a service, install jitbrokerd or "
               "set $JITBROKER_DAEMON.";
    case JITC_E_REFUSED:
        return "the broker's policy doesn't serve this user: add it to a class in jitbrokerd.conf, then "
               "jitbrokerctl reload; jitbrokerctl policy explain says what each class lacks.";
    case JITC_E_QUOTA_SESSIONS:
    case JITC_E_QUOTA_BYTES:
    case JITC_E_QUOTA_SPANS:
        return "a quota is used up: close sessions of this user, or raise it in the policy.";
    case JITC_E_VERSION:
        return "library and broker are of different versions: upgrade the older one.";
    case JITC_E_TIMEOUT:
    case JITC_E_DISCONNECTED:
        return "the broker accepts but doesn't answer: see its log (journalctl -u jitbrokerd).";
    default:
        return "see the sentences above, and the broker's log (journalctl -u jitbrokerd).";
    }
}

static void report_write(struct report *report, const struct board *board, uint32_t can)
{
    report_add(report, "libjitclient %s: ", jitc_version());
    if (can & JITC_CAN_RUN)
        report_add(report, "this process CAN run generated code, through %s broker.\n",
                   can & JITC_CAN_REACH_BROKER ? "the" : "a private");
    else if (board->kernel.error != 0)
        report_add(report, "whether this process can run generated code is UNKNOWN.\n");
    else
        report_add(report, "this process can NOT run generated code through a broker.\n");
    report_add(report, "\nBrokers\n");
    report_broker(report, &board->reached, "service");
    report_broker(report, &board->spawned, "private broker");
    report_own_ways(report, board, can);
    report_kernel(report, &board->kernel);
    report_add(report, "\nNext: %s\n", next_step(board, can));
}

static uint32_t board_can(const struct board *board)
{
    uint32_t can = 0;
    uint32_t unknown = board->kernel.error ? JITC_CAN_REACH_BROKER | JITC_CAN_SPAWN_BROKER | JITC_CAN_RUN : 0;
    for (int way = 0; way < OWN_WAY_COUNT; way++) {
        can |= board->own[way].verdict == VERDICT_YES ? own_ways[way].can : 0;
        unknown |= board->own[way].verdict == VERDICT_UNKNOWN ? own_ways[way].can : 0;
    }
    if (board->reached.is_granted)
        can |= JITC_CAN_REACH_BROKER | JITC_CAN_MAP_READ_ONLY;
    if (board->spawned.is_granted)
        can |= JITC_CAN_SPAWN_BROKER | JITC_CAN_MAP_READ_ONLY;
    if (board->reached.has_run || board->spawned.has_run)
        can |= JITC_CAN_RUN;
    return can | (unknown & ~can) << JITC_PROBE_UNKNOWN_SHIFT;
}

/* What fits of the result; the report ends in a NUL, however little of it fits. */
static void hand_over(jitc_probe_result *probe, const jitc_probe_result *result)
{
    size_t bytes = result->struct_size < sizeof *result ? result->struct_size : sizeof *result;
    memcpy(probe, result, bytes);
    if (bytes > offsetof(jitc_probe_result, report))
        probe->report[bytes - offsetof(jitc_probe_result, report) - 1] = '\0';
}

/*
 * Not survived is a filter that kills whoever calls clone(2), or wait4(2): no child can try
 * these, so the caller of jitc_probe() is what it kills.
 */
int jitc_probe(jitc_probe_result *probe, const jitc_options *options)
{
    jitc_probe_result result = {.struct_size = probe->struct_size};
    struct report report = {.text = result.report, .size = sizeof result.report};

    struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) {
        int error = errno;
        report_add(&report, "Nothing could be tried: no memory to share with a child: %s\n", strerror(error));
        hand_over(probe, &result);
        return failure_set(JITC_E_SYSTEM, "mmap of shared memory: %s", strerror(error));
    }
    kernel_probe(board);
    for (int way = 0; way < OWN_WAY_COUNT; way++)
        own_way_try(board, (enum own_way)way);
    const struct broker_attempt *last = &board->reached;
    broker_try(board, &board->reached, jitc_connect, options);
    if (!board->reached.is_granted) {
        broker_try(board, &board->spawned, jitc_spawn, options);
        last = &board->spawned;
    }
    result.can = board_can(board);
    result.lockdown = kernel_lockdown(&board->kernel);
    report_write(&report, board, result.can);
    hand_over(probe, &result);
    int status = result.can & JITC_CAN_RUN ? JITC_OK : failure_set(last->status, "%s", last->detail);
    munmap(board, sizeof *board);
    return status;
}
