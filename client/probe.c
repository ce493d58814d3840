/* SPDX-License-Identifier: MIT */
/*
 * jitc_probe(): may this process run code that it makes, and if not, why not.
 *
 * Everything is tried, nothing is concluded from versions or settings: a filter, an LSM
 * and MDWE look the same from outside. A filter may also kill whoever asks, so each
 * try is a child's, which notes on a shared page what it saw. What is not on the page
 * when it dies, it died of.
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

#define PEER_FD_MAX 1024

/* ---- The shared page ---------------------------------------------------------- */

enum verdict { VERDICT_NONE = 0, VERDICT_YES, VERDICT_NO, VERDICT_UNKNOWN };

/* One way to executable memory, as this process tried it by itself. */
struct attempt {
    enum verdict verdict; /* NONE after the child ended: it was killed, see `signal` */
    int error;            /* errno, where the verdict is NO or UNKNOWN */
    int signal;           /* what killed the child, else 0 */
};

enum own_way { OWN_WRITE_EXECUTE, OWN_FLIP, OWN_DUAL_MAP, OWN_MAP_READ_ONLY, OWN_WAY_COUNT };

struct broker_attempt {
    bool is_tried;
    bool is_over; /* the child got to its end */
    bool is_granted;
    bool has_run;
    int signal;
    int status;
    jitc_info info;
    char path[sizeof((struct sockaddr_un *)NULL)->sun_path + 1];
    char detail[512];
};

struct kernel {
    const char *asking; /* what was being asked when the child died; NULL at its end */
    int signal;
    bool has_nnp;
    bool has_mdwe;
    bool has_seccomp;
    bool has_mseal;
    bool has_noexec_memfd;
    bool has_peerpidfd;
    bool has_sync_core;
    int landlock_abi;
    bool nnp_is_on;
    bool mdwe_is_on;
    bool filter_is_on;
};

struct board {
    struct attempt own[OWN_WAY_COUNT];
    struct broker_attempt reached;
    struct broker_attempt spawned;
    struct kernel kernel;
};

/* ---- Children ------------------------------------------------------------------ */

enum child_kind { CHILD_UNSEEN, CHILD_WITH_MALLOC };

static pid_t child_start(enum child_kind kind)
{
    if (kind == CHILD_WITH_MALLOC)
        return fork();
    return (pid_t)syscall(SYS_clone, 0UL, NULL, NULL, NULL, NULL);
}

/* In the child: whatever kills it must be seen as a death, and leave no core. */
static void child_prepare(void)
{
    static const int deadly[] = {SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
        signal(deadly[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

/* The signal that killed it, 0 if it ended by itself or somebody else reaped it. */
static int child_end(pid_t pid)
{
    int status = 0;
    pid_t r;
    do {
        r = waitpid(pid, &status, __WALL);
    } while (r < 0 && errno == EINTR);
    return r == pid && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* ---- What it may do by itself --------------------------------------------------- */

static void settle(struct attempt *attempt, bool worked)
{
    attempt->error = worked ? 0 : errno;
    attempt->verdict = worked ? VERDICT_YES : VERDICT_NO;
}

static void try_write_execute(struct attempt *attempt, size_t page)
{
    void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    settle(attempt, memory != MAP_FAILED);
}

static void try_flip(struct attempt *attempt, size_t page)
{
    unsigned char *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        attempt->error = errno;
        attempt->verdict = VERDICT_UNKNOWN;
        return;
    }
    memory[0] = answer_code[0];
    settle(attempt, mprotect(memory, page, PROT_READ | PROT_EXEC) == 0);
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

static void try_dual_map(struct attempt *attempt, size_t page)
{
    int fd = memfd_of(page);
    settle(attempt, fd >= 0 && mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED &&
                        mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) != MAP_FAILED);
}

/* What a client of the broker does: the fd can't be written through, the mapping is shared. */
static void try_map_read_only(struct attempt *attempt, size_t page)
{
    int fd = memfd_of(page);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int read_only = fd < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (read_only < 0) {
        attempt->error = errno;
        attempt->verdict = VERDICT_UNKNOWN;
        return;
    }
    settle(attempt, mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, read_only, 0) != MAP_FAILED);
}

static const struct {
    uint32_t can;
    void (*attempt)(struct attempt *attempt, size_t page);
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

static void own_way_try(struct attempt *attempt, enum own_way way)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    attempt->verdict = VERDICT_NONE;
    pid_t pid = child_start(CHILD_UNSEEN);
    if (pid == 0) {
        child_prepare();
        own_ways[way].attempt(attempt, page);
        _exit(0);
    }
    if (pid < 0) {
        attempt->error = errno;
        attempt->verdict = VERDICT_UNKNOWN;
        return;
    }
    attempt->signal = child_end(pid);
}

/* ---- What the kernel has ---------------------------------------------------------- */

static bool has_peerpidfd(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    int pidfd = -1;
    socklen_t length = sizeof pidfd;
    return getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) == 0;
}

/* The harmless first: if one of these is fatal, what came before it is known. */
static void kernel_ask(struct kernel *kernel)
{
    kernel->asking = "prctl(PR_GET_NO_NEW_PRIVS)";
    int r = prctl(PR_GET_NO_NEW_PRIVS, 0UL, 0UL, 0UL, 0UL);
    kernel->has_nnp = r >= 0;
    kernel->nnp_is_on = r > 0;
    kernel->asking = "prctl(PR_GET_MDWE)";
    r = prctl(PR_GET_MDWE, 0UL, 0UL, 0UL, 0UL);
    kernel->has_mdwe = r >= 0;
    kernel->mdwe_is_on = r > 0;
    kernel->asking = "prctl(PR_GET_SECCOMP)";
    kernel->filter_is_on = prctl(PR_GET_SECCOMP) > 0;
    kernel->asking = "getsockopt(SO_PEERPIDFD)";
    kernel->has_peerpidfd = has_peerpidfd();
    kernel->asking = "membarrier";
    long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
    kernel->has_sync_core = commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE);
    kernel->asking = "seccomp";
    uint32_t action = SECCOMP_RET_ERRNO;
    kernel->has_seccomp = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
    kernel->asking = "landlock_create_ruleset";
    kernel->landlock_abi = landlock_abi();
    kernel->asking = "mseal";
    kernel->has_mseal = syscall(SYS_mseal, NULL, (size_t)0, 0UL) == 0;
    kernel->asking = "memfd_create";
    kernel->has_noexec_memfd =
        memfd_create("jitc_probe", MFD_CLOEXEC | MFD_NOEXEC_SEAL) >= 0 || errno != EINVAL;
    kernel->asking = NULL;
}

static void kernel_probe(struct kernel *kernel)
{
    kernel->asking = "clone";
    pid_t pid = child_start(CHILD_UNSEEN);
    if (pid == 0) {
        child_prepare();
        kernel_ask(kernel);
        _exit(0);
    }
    if (pid > 0)
        kernel->signal = child_end(pid);
}

static uint32_t kernel_lockdown(const struct kernel *kernel)
{
    return (kernel->has_nnp ? JITC_LOCKDOWN_NO_NEW_PRIVS : 0) | (kernel->has_mdwe ? JITC_LOCKDOWN_MDWE : 0) |
           (kernel->has_seccomp ? JITC_LOCKDOWN_SECCOMP : 0) |
           (kernel->has_mseal ? JITC_LOCKDOWN_SEAL_ARENAS : 0) |
           (kernel->landlock_abi > 0 ? JITC_LOCKDOWN_LANDLOCK : 0);
}

/* ---- Brokers ------------------------------------------------------------------------ */

static void find_open_fds(bool is_open[PEER_FD_MAX])
{
    for (int fd = 0; fd < PEER_FD_MAX; fd++)
        is_open[fd] = fcntl(fd, F_GETFD) >= 0;
}

/* The path at the other end of the connection that was not open before: which of the
 * places to look in it was, is the library's knowledge, and this is how it shows. */
static void find_peer_path(const bool was_open[PEER_FD_MAX], char *path, size_t path_bytes)
{
    for (int fd = 0; fd < PEER_FD_MAX; fd++) {
        struct sockaddr_un peer = {.sun_family = AF_UNSPEC};
        socklen_t length = sizeof peer;
        if (was_open[fd] || getpeername(fd, (struct sockaddr *)&peer, &length) < 0 ||
            peer.sun_family != AF_UNIX || length <= offsetof(struct sockaddr_un, sun_path))
            continue;
        snprintf(path, path_bytes, "%.*s", (int)sizeof peer.sun_path, peer.sun_path);
        if (path[0] != '\0')
            return;
    }
}

static int run_answer(jitc_client *client, bool *has_run)
{
    jitc_span span;
    int status = jitc_alloc(client, &span, sizeof answer_code);
    if (status != JITC_OK)
        return status;
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
    bool was_open[PEER_FD_MAX];
    find_open_fds(was_open);
    jitc_client *client = NULL;
    attempt->status = open_it(&client, options);
    if (attempt->status == JITC_OK) {
        attempt->is_granted = true;
        attempt->info.struct_size = sizeof attempt->info;
        find_peer_path(was_open, attempt->path, sizeof attempt->path);
        attempt->status = jitc_describe(client, &attempt->info);
        if (attempt->status == JITC_OK)
            attempt->status = run_answer(client, &attempt->has_run);
    }
    if (attempt->status != JITC_OK)
        snprintf(attempt->detail, sizeof attempt->detail, "%s", jitc_error_detail());
    jitc_close(client);
    attempt->is_over = true;
}

static void broker_try(struct broker_attempt *attempt, open_broker open_it, const jitc_options *options)
{
    attempt->is_tried = true;
    attempt->status = JITC_E_SYSTEM;
    pid_t pid = child_start(CHILD_WITH_MALLOC);
    if (pid == 0) {
        child_prepare();
        broker_try_here(attempt, open_it, options);
        _exit(0);
    }
    if (pid < 0) {
        snprintf(attempt->detail, sizeof attempt->detail, "fork: %s", strerror(errno));
        return;
    }
    attempt->signal = child_end(pid);
    if (attempt->is_over)
        return;
    attempt->status = JITC_E_SYSTEM;
    snprintf(attempt->detail, sizeof attempt->detail, "%s: killed by signal %d (%s)",
             attempt->is_granted ? "running the code" : "mapping the arena, or before", attempt->signal,
             attempt->signal == SIGSYS ? "a seccomp filter" : strsignal(attempt->signal));
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

static const char *write_mode_name(enum jitc_write_mode mode)
{
    return mode == JITC_WRITE_DIRECT ? "direct: this process may write it as well"
                                     : "write-through: only the broker writes it";
}

static void report_own_ways(struct report *report, const struct board *board)
{
    report_add(report, "\nBy itself, this process\n");
    for (int way = 0; way < OWN_WAY_COUNT; way++) {
        const struct attempt *attempt = &board->own[way];
        const char *what = own_ways[way].what;
        if (attempt->verdict == VERDICT_YES)
            report_add(report, "  may      %s\n", what);
        else if (attempt->verdict == VERDICT_NO)
            report_add(report, "  may not  %s: %s\n", what, strerror(attempt->error));
        else if (attempt->verdict == VERDICT_NONE && attempt->signal == SIGSYS)
            report_add(report, "  may not  %s: a seccomp filter kills it\n", what);
        else if (attempt->verdict == VERDICT_NONE)
            report_add(report, "  may not  %s: killed by signal %d\n", what, attempt->signal);
        else if (way == OWN_MAP_READ_ONLY && board->reached.is_granted + board->spawned.is_granted > 0)
            report_add(report, "  may      %s: the broker's was mapped\n", what);
        else
            report_add(report, "  unknown  %s: could not be tried: %s\n", what, strerror(attempt->error));
    }
    const struct kernel *kernel = &board->kernel;
    if (kernel->nnp_is_on || kernel->mdwe_is_on || kernel->filter_is_on)
        report_add(report, "  In force on it now:%s%s%s\n", kernel->nnp_is_on ? " no_new_privs" : "",
                   kernel->mdwe_is_on ? " MDWE" : "", kernel->filter_is_on ? " seccomp" : "");
    else
        report_add(report, "  In force on it now: none of no_new_privs, MDWE, seccomp\n");
}

static void report_broker(struct report *report, const struct broker_attempt *attempt, const char *name)
{
    if (!attempt->is_tried) {
        report_add(report, "  %s: not tried, not needed\n", name);
        return;
    }
    if (attempt->is_granted)
        report_add(report, "  %s%s%s: granted an arena of %" PRIu64 " KiB (%s), broker %s\n", name,
                   attempt->path[0] ? " at " : "", attempt->path, attempt->info.arena_bytes / 1024,
                   write_mode_name(attempt->info.write_mode), attempt->info.broker);
    if (attempt->has_run)
        report_add(report, "  %s: code was written, was run, and returned %d\n", name, ANSWER);
    if (attempt->status != JITC_OK)
        report_add(report, "  %s: %s. %s\n", name, jitc_strerror(attempt->status), attempt->detail);
}

static void report_kernel(struct report *report, const struct kernel *kernel)
{
    const struct {
        bool has;
        const char *name;
        const char *cost;
    } features[] = {
        {kernel->has_nnp, "no_new_privs", "no filter and no Landlock without privileges"},
        {kernel->has_mdwe, "MDWE", "Linux 6.3; only the seccomp filter stops mprotect tricks"},
        {kernel->has_seccomp, "seccomp",
         "a worker can't be locked down: memfd_create and the like stay open"},
        {kernel->landlock_abi > 0, "Landlock",
         "Linux 5.13; a worker can change its libraries' code by /proc/self/mem"},
        {kernel->has_mseal, "mseal",
         "Linux 6.10; a worker can unmap its arena, or map something else over it"},
        {kernel->has_noexec_memfd, "MFD_NOEXEC_SEAL",
         "Linux 6.3; the arena's file could be executed where exec is allowed"},
        {kernel->has_peerpidfd, "SO_PEERPIDFD",
         "Linux 6.5; the broker knows its clients by a pid, which can be reused"},
        {kernel->has_sync_core, "membarrier SYNC_CORE", "code that is running can't be patched safely"},
    };
    report_add(report, "\nKernel has:");
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        if (features[i].has)
            report_add(report, " %s", features[i].name);
    }
    if (kernel->landlock_abi > 0)
        report_add(report, " (Landlock ABI %d)", kernel->landlock_abi);
    report_add(report, "\n");
    if (kernel->asking && kernel->signal)
        report_add(report, "  A filter kills whoever asks for %s: what is missing below may be there.\n",
                   kernel->asking);
    else if (kernel->asking)
        report_add(report, "  It could not be asked: no process could be started.\n");
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        if (!features[i].has)
            report_add(report, "  lacks %s: %s\n", features[i].name, features[i].cost);
    }
    if (kernel->landlock_abi > 0 && kernel->landlock_abi < 8)
        report_add(report,
                   "  Landlock reaches one thread at a time here: lock down before starting threads.\n");
}

static const char *next_step(const struct board *board, uint32_t can)
{
    const struct broker_attempt *reached = &board->reached;
    if ((can & JITC_CAN_RUN) && (can & JITC_CAN_REACH_BROKER))
        return "nothing is needed. Call jitc_lockdown() when the arena is mapped, so that nothing else "
               "becomes "
               "executable.";
    if (can & JITC_CAN_RUN)
        return "a private broker works, but it runs as this user. For one that this user can't touch, start "
               "the "
               "service (systemctl start jitbrokerd.socket).";
    const struct attempt *mapping = &board->own[OWN_MAP_READ_ONLY];
    bool is_mapping_refused = mapping->verdict == VERDICT_NO || mapping->signal != 0;
    bool is_arena_refused = mapping->verdict == VERDICT_UNKNOWN && reached->status == JITC_E_SYSTEM;
    if (is_mapping_refused || is_arena_refused)
        return "something refuses even a read-only executable mapping: look for a seccomp filter on mmap "
               "(jitc_lockdown() called already?), or an LSM denial in the audit log (ausearch -m avc, "
               "dmesg).";
    switch (reached->status) {
    case JITC_E_NO_BROKER:
        return "start the broker (systemctl start jitbrokerd.socket), or name its socket: $JITBROKER_SOCKET. "
               "In a "
               "container the socket must be mounted into it. Without a service, install jitbrokerd or set "
               "$JITBROKER_DAEMON.";
    case JITC_E_REFUSED:
        return "the broker's policy doesn't serve this user: add it to uid= in jitbrokerd.conf, then "
               "restart the broker.";
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
        return "see the broker's log (journalctl -u jitbrokerd), and the sentences above.";
    }
}

static void report_write(struct report *report, const struct board *board, uint32_t can)
{
    report_add(report, "libjitclient %s: ", jitc_version());
    if ((can & JITC_CAN_RUN) && (can & JITC_CAN_REACH_BROKER))
        report_add(report, "this process CAN run generated code, through the broker.\n");
    else if (can & JITC_CAN_RUN)
        report_add(report, "this process CAN run generated code, through a private broker.\n");
    else
        report_add(report, "this process can NOT run generated code through a broker.\n");
    report_add(report, "\nBrokers\n");
    report_broker(report, &board->reached, "service");
    report_broker(report, &board->spawned, "private broker");
    report_own_ways(report, board);
    report_kernel(report, &board->kernel);
    report_add(report, "\nNext: %s\n", next_step(board, can));
}

static uint32_t board_can(const struct board *board)
{
    uint32_t can = 0;
    for (int way = 0; way < OWN_WAY_COUNT; way++) {
        if (board->own[way].verdict == VERDICT_YES)
            can |= own_ways[way].can;
    }
    if (board->reached.is_granted)
        can |= JITC_CAN_REACH_BROKER | JITC_CAN_MAP_READ_ONLY;
    if (board->spawned.is_granted)
        can |= JITC_CAN_SPAWN_BROKER | JITC_CAN_MAP_READ_ONLY;
    if (board->reached.has_run || board->spawned.has_run)
        can |= JITC_CAN_RUN;
    return can;
}

/* What fits of the result; the report ends in a NUL, however little of it fits. */
static void hand_over(jitc_probe_result *probe, const jitc_probe_result *result)
{
    size_t bytes = result->struct_size < sizeof *result ? result->struct_size : sizeof *result;
    memcpy(probe, result, bytes);
    if (bytes > offsetof(jitc_probe_result, report))
        probe->report[bytes - offsetof(jitc_probe_result, report) - 1] = '\0';
}

static void board_free(struct board **board)
{
    if (*board != MAP_FAILED)
        munmap(*board, sizeof **board);
}

int jitc_probe(jitc_probe_result *probe, const jitc_options *options)
{
    jitc_probe_result result = {.struct_size = probe->struct_size};
    struct report report = {.text = result.report, .size = sizeof result.report};

    __attribute__((cleanup(board_free))) struct board *board =
        mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) {
        int error = errno;
        report_add(&report, "Nothing could be tried: no memory to share with a child: %s\n", strerror(error));
        hand_over(probe, &result);
        return failure_set(JITC_E_SYSTEM, "mmap of shared memory: %s", strerror(error));
    }
    kernel_probe(&board->kernel);
    for (int way = 0; way < OWN_WAY_COUNT; way++)
        own_way_try(&board->own[way], (enum own_way)way);
    const struct broker_attempt *last = &board->reached;
    broker_try(&board->reached, jitc_connect, options);
    if (!board->reached.is_granted) {
        broker_try(&board->spawned, jitc_spawn, options);
        last = &board->spawned;
    }
    result.can = board_can(board);
    result.lockdown = kernel_lockdown(&board->kernel);
    report_write(&report, board, result.can);
    hand_over(probe, &result);
    if (result.can & JITC_CAN_RUN)
        return JITC_OK;
    return failure_set(last->status, "%s", last->detail);
}
