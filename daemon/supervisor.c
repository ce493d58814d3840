/* SPDX-License-Identifier: MIT */
#include "daemon/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/notice.h"
#include "daemon/process.h"
#include "daemon/shelf.h"

/* Who dies before he was ready is started again after that long, and longer each time. */
#define DELAY_MIN_MS 100u
#define DELAY_MAX_MS 1000u
/* Who does not end by SIGTERM, or does not say whether the configuration is right, is killed after that long.
 */
#define PATIENCE_MS 10000u
/* For how long a daemon may be silent, unless $WATCHDOG_USEC says otherwise. */
#define SILENCE_US UINT64_C(30000000)
/* What the kernel lets one message have. */
#define MESSAGE_FDS_MAX 253u
/* Standard streams, our own two, one message's, and what is open for a moment. */
#define RESERVED_FDS (MESSAGE_FDS_MAX + 16u)
/* For a turn, so that signals have theirs too. */
#define MESSAGES_AT_ONCE 64u
/* More than names fit into a program's environment. */
#define SHELF_MAX 65536u
#define LISTENER_NAME SHELF_OWN_PREFIX

enum goal { GOAL_SERVE, GOAL_UPGRADE, GOAL_END };

struct supervisor {
    const struct options *options;
    char **arguments;
    char program[PATH_MAX]; /* whatever is there: after an upgrade another than what runs */
    struct listen_path path;
    struct sockaddr_un notify_address;
    struct shelf shelf;
    int signals;
    int notify;
    uint64_t silence_us;

    enum goal goal;
    pid_t daemon;  /* 0: none */
    pid_t checker; /* 0: none */
    bool is_ready;
    bool is_reload_due;
    unsigned failures; /* daemons in a row that ended before they were ready */

    /* When something is due, 0 for never. */
    uint64_t start_at_ms;
    uint64_t kill_at_ms;
    uint64_t checker_kill_at_ms;

    bool has_ended;
    int status;
};

static uint64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- Setting up ------------------------------------------------------------------------- */

/* What /proc/self/exe says is another thing once the file was replaced. */
static int find_program(struct supervisor *supervisor)
{
    char *program = supervisor->program;
    const char *name = supervisor->arguments[0];
    size_t used = 0;

    if (strchr(name, '/') == NULL) {
        ssize_t length = readlink("/proc/self/exe", program, sizeof supervisor->program - 1);

        program[length > 0 ? length : 0] = '\0';
        return length > 0 ? 0 : -errno;
    }
    if (name[0] != '/') {
        if (getcwd(program, sizeof supervisor->program - 1) == NULL)
            return -errno;
        used = strlen(program);
        program[used++] = '/';
    }
    if (used + strlen(name) >= sizeof supervisor->program)
        return -ENAMETOOLONG;
    memcpy(program + used, name, strlen(name) + 1);
    return 0;
}

/* How many descriptors can be kept; 0: too few are allowed. */
static unsigned raise_fds(void)
{
    struct rlimit limit = {0, 0};

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur <= RESERVED_FDS)
        return 0;
    return limit.rlim_cur - RESERVED_FDS < SHELF_MAX ? (unsigned)(limit.rlim_cur - RESERVED_FDS) : SHELF_MAX;
}

/* Where nothing that is kept comes to be. Takes `fd` over; it may be a failed call's. */
static int move_up(const struct supervisor *supervisor, int fd)
{
    int moved = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, SHELF_FIRST + (int)supervisor->shelf.max);
    int error = -errno;

    if (fd >= 0)
        (void)close(fd);
    return moved < 0 ? error : moved;
}

static int open_signals(struct supervisor *supervisor)
{
    static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR2};
    sigset_t set;

    (void)sigemptyset(&set);
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)signal(numbers[i], SIG_DFL); /* whoever ignored SIGCHLD would leave us no status */
        (void)sigaddset(&set, numbers[i]);
    }
    (void)signal(SIGPIPE, SIG_IGN); /* whoever reads the log may go away */
    if (sigprocmask(SIG_SETMASK, &set, NULL) != 0)
        return -errno;
    supervisor->signals = move_up(supervisor, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    return supervisor->signals < 0 ? supervisor->signals : 0;
}

/* The socket, unless it is there from before an upgrade. */
static int open_listener(struct supervisor *supervisor)
{
    struct listen_path *path = &supervisor->path;
    const struct options *options = supervisor->options;
    int error = options->user ? listen_path_user(path) : listen_path_set(path, options->socket);
    int fd;

    if (error != 0)
        return error;
    if (shelf_has(&supervisor->shelf, LISTENER_NAME))
        return listen_path_claim(path);
    fd = listen_at(path, options->user ? 0600 : 0666);
    if (fd < 0)
        return fd;
    if (shelf_put(&supervisor->shelf, LISTENER_NAME, &fd, 1))
        return 0;
    (void)close(fd);
    return -EMFILE;
}

/* Beside the socket. Whoever has that one has this one: what is there is of one that is dead. */
static int open_notify(struct supervisor *supervisor)
{
    struct sockaddr_un *address = &supervisor->notify_address;
    struct stat status;
    mode_t mask;
    int fd;
    int error;

    address->sun_family = AF_UNIX;
    if (snprintf(address->sun_path, sizeof address->sun_path, "%s.notify", supervisor->path.text) >=
        (int)sizeof address->sun_path)
        return -ENAMETOOLONG;
    if (lstat(address->sun_path, &status) == 0 && S_ISSOCK(status.st_mode))
        (void)unlink(address->sun_path);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    mask = umask(0177);
    error = bind(fd, (const struct sockaddr *)address, sizeof *address) != 0 ||
                    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) != 0
                ? -errno
                : 0;
    (void)umask(mask);
    if (error != 0) {
        (void)close(fd);
        return error;
    }
    supervisor->notify = move_up(supervisor, fd);
    return supervisor->notify < 0 ? supervisor->notify : 0;
}

static int set_up(struct supervisor *supervisor)
{
    unsigned max = raise_fds();
    int error = max == 0 ? -EMFILE : find_program(supervisor);

    if (error == 0)
        error = shelf_init(&supervisor->shelf, max);
    if (error != 0)
        return error;
    /* Whatever else whoever started us had open is not the daemon's either. */
    (void)close_range(SHELF_FIRST + supervisor->shelf.count, ~0U, 0);
    error = open_signals(supervisor);
    if (error == 0)
        error = open_listener(supervisor);
    if (error == 0)
        error = open_notify(supervisor);
    if (sd_watchdog_enabled(0, &supervisor->silence_us) <= 0)
        supervisor->silence_us = SILENCE_US;
    return error;
}

/* ---- Starting programs ------------------------------------------------------------------ */

static void set_number(const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    (void)setenv(name, text, 1);
}

/* In a child, which ends with it. */
static _Noreturn void run_program(const struct supervisor *supervisor, const char *const *arguments)
{
    sigset_t none;

    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execv(supervisor->program, (char *const *)(uintptr_t)arguments);
    log_line(LOG_ERROR, "%s: %s", supervisor->program, strerror(errno));
    _exit(127);
}

static _Noreturn void run_daemon(struct supervisor *supervisor)
{
    const struct options *options = supervisor->options;
    const char *arguments[7] = {supervisor->program};
    unsigned count = 1;
    int error;

    if (options->user)
        arguments[count++] = "--user";
    if (options->config != NULL) {
        arguments[count++] = "--config";
        arguments[count++] = options->config;
    }
    if (options->admin != NULL) {
        arguments[count++] = "--admin"; /* each daemon makes it anew */
        arguments[count++] = options->admin;
    }
    (void)setenv("NOTIFY_SOCKET", supervisor->notify_address.sun_path, 1);
    set_number("FDSTORE", supervisor->shelf.max);
    set_number("WATCHDOG_USEC", supervisor->silence_us);
    set_number("WATCHDOG_PID", (uint64_t)getpid());
    set_number("JITBROKER_SUPERVISOR", (uint64_t)getppid());
    error = shelf_hand_over(&supervisor->shelf);
    if (error == 0)
        run_program(supervisor, arguments);
    log_line(LOG_ERROR, "can't start the daemon: %s", strerror(-error));
    _exit(127);
}

static void start_daemon(struct supervisor *supervisor)
{
    pid_t pid = fork();

    supervisor->start_at_ms = 0;
    if (pid == 0)
        run_daemon(supervisor);
    if (pid < 0) {
        log_line(LOG_ERROR, "can't start the daemon: %s", strerror(errno));
        supervisor->start_at_ms = now_ms() + DELAY_MAX_MS;
        return;
    }
    supervisor->daemon = pid;
    log_line(LOG_NOTICE, "jitbrokerd " JITBROKER_VERSION " supervises %s: daemon %d, %u descriptors",
             supervisor->path.text, (int)pid, supervisor->shelf.count);
}

static void end_daemon(struct supervisor *supervisor)
{
    (void)kill(supervisor->daemon, SIGTERM);
    supervisor->kill_at_ms = now_ms() + PATIENCE_MS;
}

/* Has the program that is to be run say whether it would run: with our own command line. */
static void start_checker(struct supervisor *supervisor)
{
    unsigned count = 0;
    const char **arguments;

    if (supervisor->checker != 0 || supervisor->goal != GOAL_SERVE)
        return;
    while (supervisor->arguments[count] != NULL)
        count++;
    arguments = calloc(count + 2u, sizeof *arguments);
    if (arguments == NULL) {
        log_line(LOG_ERROR, "no upgrade: no memory");
        return;
    }
    memcpy(arguments, supervisor->arguments, count * sizeof *arguments);
    arguments[count] = "--check-config";
    supervisor->checker = fork();
    if (supervisor->checker == 0) {
        (void)dup2(STDERR_FILENO, STDOUT_FILENO);
        run_program(supervisor, arguments);
    }
    free(arguments);
    if (supervisor->checker < 0) {
        log_line(LOG_ERROR, "no upgrade: %s", strerror(errno));
        supervisor->checker = 0;
        return;
    }
    supervisor->checker_kill_at_ms = now_ms() + PATIENCE_MS;
}

/* Becomes the new program, which starts its daemon. Returns if it can't. */
static void upgrade(struct supervisor *supervisor)
{
    int error = shelf_hand_over(&supervisor->shelf);

    supervisor->arguments[0] = supervisor->program;
    if (error == 0) {
        (void)execv(supervisor->program, supervisor->arguments);
        error = -errno;
    }
    shelf_hold(&supervisor->shelf);
    log_line(LOG_ERROR, "no upgrade: %s: %s", supervisor->program, strerror(-error));
    supervisor->goal = GOAL_SERVE;
}

/* ---- What the daemon says --------------------------------------------------------------- */

static void obey(struct supervisor *supervisor, const struct notice *notice, const int *fds, unsigned *count)
{
    bool is_own = strncmp(notice->name, SHELF_OWN_PREFIX, sizeof SHELF_OWN_PREFIX - 1) == 0;

    if (notice->is_ready && !supervisor->is_ready) {
        supervisor->is_ready = true;
        if (supervisor->is_reload_due)
            (void)kill(supervisor->daemon, SIGHUP);
        supervisor->is_reload_due = false;
    }
    /* Once it is to end it has no more to say for itself. */
    if ((notice->is_ready || notice->is_alive) && supervisor->is_ready && supervisor->goal == GOAL_SERVE)
        supervisor->kill_at_ms = now_ms() + supervisor->silence_us / 1000;
    if ((notice->stores || notice->removes) && is_own)
        log_line(LOG_WARNING, "the daemon may not store or remove '%s'", notice->name);
    else if (notice->removes)
        shelf_remove(&supervisor->shelf, notice->name);
    else if (notice->stores && !shelf_put(&supervisor->shelf, notice->name, fds, *count))
        log_line(LOG_WARNING, "no room for the descriptors of '%s'", notice->name);
    else if (notice->stores)
        *count = 0;
}

/* Takes the descriptors and the sender out of a message. */
static unsigned take_control(struct msghdr *message, int *fds, pid_t *sender)
{
    unsigned count = 0;

    *sender = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        size_t bytes = part->cmsg_len - CMSG_LEN(0);

        if (part->cmsg_level != SOL_SOCKET)
            continue;
        if (part->cmsg_type == SCM_RIGHTS) {
            memcpy(fds, CMSG_DATA(part), bytes);
            count = (unsigned)(bytes / sizeof *fds);
        } else if (part->cmsg_type == SCM_CREDENTIALS) {
            struct ucred credentials;

            memcpy(&credentials, CMSG_DATA(part), sizeof credentials);
            *sender = credentials.pid;
        }
    }
    return count;
}

/* One message; false: there is none. */
static bool receive(struct supervisor *supervisor)
{
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(MESSAGE_FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    char text[NOTICE_MAX_BYTES + 1];
    struct iovec part = {.iov_base = text, .iov_len = NOTICE_MAX_BYTES};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    int fds[MESSAGE_FDS_MAX];
    struct notice notice;
    unsigned count;
    pid_t sender;
    ssize_t got = recvmsg(supervisor->notify, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (got < 0)
        return errno == EINTR;
    count = take_control(&message, fds, &sender);
    if (sender == 0 || sender != supervisor->daemon)
        log_client(LOG_WARNING, "process %d is not the daemon, but speaks for it", (int)sender);
    else if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || !notice_parse(&notice, text, (size_t)got))
        log_client(LOG_WARNING, "the daemon said what makes no sense");
    else
        obey(supervisor, &notice, fds, &count);
    while (count > 0)
        (void)close(fds[--count]);
    return true;
}

/* ---- What happens ----------------------------------------------------------------------- */

static void end(struct supervisor *supervisor, int status)
{
    supervisor->has_ended = true;
    supervisor->status = status;
}

static void log_end(const struct supervisor *supervisor, int status)
{
    enum log_priority priority = supervisor->goal == GOAL_SERVE && status != 0 ? LOG_WARNING : LOG_NOTICE;

    if (WIFSIGNALED(status))
        log_line(priority, "daemon %d was killed by signal %d", (int)supervisor->daemon, WTERMSIG(status));
    else
        log_line(priority, "daemon %d ended with status %d", (int)supervisor->daemon, WEXITSTATUS(status));
}

/* The next one comes at once, unless it begins to look as if none would do. */
static void schedule(struct supervisor *supervisor, bool was_ready)
{
    unsigned delay_ms = 0;

    supervisor->failures = was_ready ? 0 : supervisor->failures + 1;
    if (supervisor->failures > 1)
        delay_ms = supervisor->failures > 5 ? DELAY_MAX_MS : DELAY_MIN_MS << (supervisor->failures - 2);
    supervisor->start_at_ms = now_ms() + delay_ms;
}

static void on_daemon_ended(struct supervisor *supervisor, int status)
{
    bool was_ready = supervisor->is_ready;
    bool keeps_sessions = supervisor->shelf.count > 1;

    log_end(supervisor, status);
    supervisor->daemon = 0;
    supervisor->is_ready = false;
    supervisor->is_reload_due = false; /* the next one reads it anyway */
    supervisor->kill_at_ms = 0;
    if (supervisor->goal == GOAL_UPGRADE) {
        upgrade(supervisor);
        was_ready = true; /* it is not the daemon's fault */
    }
    if (supervisor->goal == GOAL_END)
        end(supervisor, EXIT_SUCCESS);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG && !keeps_sessions)
        end(supervisor, EXIT_CONFIG);
    else
        schedule(supervisor, was_ready);
}

static void on_checker_ended(struct supervisor *supervisor, int status)
{
    supervisor->checker = 0;
    supervisor->checker_kill_at_ms = 0;
    if (supervisor->goal != GOAL_SERVE)
        return;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        log_line(LOG_ERROR, "no upgrade: %s --check-config fails", supervisor->program);
        return;
    }
    log_line(LOG_NOTICE, "upgrade: %s takes over", supervisor->program);
    supervisor->goal = GOAL_UPGRADE;
    if (supervisor->daemon != 0)
        end_daemon(supervisor);
    else
        upgrade(supervisor);
}

static void on_child(struct supervisor *supervisor)
{
    siginfo_t info = {.si_pid = 0};
    int status;

    /* What a daemon said before it died counts, as long as nobody else can have its number. */
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
        pid_t pid = info.si_pid;

        if (pid == supervisor->daemon) {
            while (receive(supervisor))
                continue;
        }
        (void)waitpid(pid, &status, 0);
        if (pid == supervisor->daemon)
            on_daemon_ended(supervisor, status);
        else if (pid == supervisor->checker)
            on_checker_ended(supervisor, status);
        info.si_pid = 0;
    }
}

static void on_stop(struct supervisor *supervisor, int number)
{
    if (supervisor->goal != GOAL_END)
        log_line(LOG_NOTICE, "stopping: signal %d", number);
    supervisor->goal = GOAL_END;
    if (supervisor->daemon != 0)
        end_daemon(supervisor);
    else
        end(supervisor, EXIT_SUCCESS);
}

static void on_signals(struct supervisor *supervisor)
{
    struct signalfd_siginfo info;

    while (read(supervisor->signals, &info, sizeof info) == sizeof info) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            on_child(supervisor);
            break;
        case SIGHUP:
            if (supervisor->is_ready)
                (void)kill(supervisor->daemon, SIGHUP);
            else
                supervisor->is_reload_due = true;
            break;
        case SIGUSR2:
            start_checker(supervisor);
            break;
        default:
            on_stop(supervisor, (int)info.ssi_signo);
        }
    }
}

static void on_time(struct supervisor *supervisor)
{
    uint64_t now = now_ms();

    if (supervisor->kill_at_ms != 0 && now >= supervisor->kill_at_ms) {
        log_line(LOG_WARNING, "daemon %d hangs", (int)supervisor->daemon);
        (void)kill(supervisor->daemon, SIGKILL);
        supervisor->kill_at_ms = 0;
    }
    if (supervisor->checker_kill_at_ms != 0 && now >= supervisor->checker_kill_at_ms) {
        (void)kill(supervisor->checker, SIGKILL);
        supervisor->checker_kill_at_ms = 0;
    }
    if (supervisor->start_at_ms != 0 && now >= supervisor->start_at_ms)
        start_daemon(supervisor);
}

static int milliseconds_left(const struct supervisor *supervisor)
{
    const uint64_t due[] = {supervisor->start_at_ms, supervisor->kill_at_ms, supervisor->checker_kill_at_ms};
    uint64_t now = now_ms();
    uint64_t least = INT_MAX;

    for (unsigned i = 0; i < sizeof due / sizeof due[0]; i++) {
        if (due[i] != 0 && (due[i] <= now || due[i] - now < least))
            least = due[i] <= now ? 0 : due[i] - now;
    }
    return least == INT_MAX ? -1 : (int)least;
}

static void run(struct supervisor *supervisor)
{
    struct pollfd fds[] = {{.fd = supervisor->signals, .events = POLLIN},
                           {.fd = supervisor->notify, .events = POLLIN}};

    while (!supervisor->has_ended) {
        if (poll(fds, 2, milliseconds_left(supervisor)) < 0)
            continue;
        /* All that is there: the daemon can send no more than a few at once, and does not wait. */
        for (unsigned i = 0; fds[1].revents != 0 && i < MESSAGES_AT_ONCE && receive(supervisor); i++)
            continue;
        if (fds[0].revents != 0)
            on_signals(supervisor);
        if (!supervisor->has_ended)
            on_time(supervisor);
    }
}

int supervisor_run(const struct options *options, char **arguments)
{
    static struct supervisor supervisor = {.signals = -1, .notify = -1, .status = EXIT_FAILURE};
    int error;

    supervisor.options = options;
    supervisor.arguments = arguments;
    process_harden();
    error = set_up(&supervisor);
    if (error == 0) {
        start_daemon(&supervisor);
        run(&supervisor);
    } else {
        log_line(LOG_ERROR, "can't supervise %s: %s", options->user ? "for the user" : options->socket,
                 strerror(-error));
    }
    if (supervisor.checker != 0)
        (void)kill(supervisor.checker, SIGKILL);
    if (supervisor.notify >= 0)
        (void)unlink(supervisor.notify_address.sun_path);
    listen_path_unlink(&supervisor.path);
    shelf_deinit(&supervisor.shelf);
    return supervisor.status;
}
