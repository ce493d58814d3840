/* SPDX-License-Identifier: MIT */
/*
 * top: what happens now, looked at again and again. A daemon that is restarted meanwhile is no end of it: the
 * next one is asked.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "proto/json.h"
#include "tools/figures.h"
#include "tools/terminal.h"
#include "tools/top_sample.h"

/* Sessions in a frame that goes to no terminal. */
#define SESSIONS_SHOWN 20u
/* What a frame has beside them: its head, and a line for each operation. */
#define OTHER_LINES 9u
/* How often a daemon is looked for that has gone. */
#define LOOK_MS 100

static volatile sig_atomic_t is_interrupted;
static volatile sig_atomic_t asked_fd = -1;

/* An answer that is waited for is no longer. */
static void on_interrupt(int number)
{
    int error = errno;

    (void)number;
    is_interrupted = 1;
    (void)shutdown(asked_fd, SHUT_RDWR);
    errno = error;
}

/* ---- A frame ---------------------------------------------------------------------------- */

static void print_json(const struct top_frame *frame)
{
    json_open(NULL, '{');
    json_real("interval_seconds", frame->seconds);
    json_number("sessions_count", frame->status->sessions);
    json_number("spans", frame->status->spans);
    json_number("used_bytes", frame->status->used_bytes);
    json_number("reserved_bytes", frame->status->reserved_bytes);
    json_real("operations_per_second", frame->operations_per_s);
    json_real("refused_per_second", frame->refused_per_s);
    json_open("operations", '[');
    for (size_t i = 0; i < frame->operations_count; i++) {
        json_open(NULL, '{');
        json_text("operation", frame->operations[i].name);
        json_real("done_per_second", frame->operations[i].done_per_s);
        json_real("refused_per_second", frame->operations[i].refused_per_s);
        json_real("p50_ns", frame->operations[i].p50_ns);
        json_real("p99_ns", frame->operations[i].p99_ns);
        json_close('}');
    }
    json_close(']');
    json_open("sessions", '[');
    for (size_t i = 0; i < frame->sessions_count && i < SESSIONS_SHOWN; i++) {
        json_open(NULL, '{');
        json_real("operations_per_second", frame->sessions[i].operations_per_s);
        session_print_json("session", frame->sessions[i].row);
        json_close('}');
    }
    json_close(']');
    json_close('}');
    json_end();
}

static void print_head(const struct top_frame *frame)
{
    const Admin__Status *status = frame->status;
    char age[FIGURE_BYTES];
    char used[FIGURE_BYTES];
    char reserved[FIGURE_BYTES];
    char limit[FIGURE_BYTES];
    char rate[FIGURE_BYTES];
    char refused[FIGURE_BYTES];

    (void)printf("jitbrokerd %s for %s: %" PRIu64 " sessions, %" PRIu64 " executors, %" PRIu64 " users\n",
                 status->version, figure_age(age, status->uptime_ms), status->sessions, status->executors,
                 status->users);
    (void)printf("code memory: %s used by %" PRIu64 " spans, %s reserved of %s\n",
                 figure_bytes(used, status->used_bytes), status->spans,
                 figure_bytes(reserved, status->reserved_bytes), figure_bytes(limit, status->bytes_max));
    (void)printf("operations: %s/s, %s/s of them refused\n\n", figure_count(rate, frame->operations_per_s),
                 figure_count(refused, frame->refused_per_s));
}

static const char *time_or_dash(char *to, double ns)
{
    return ns > 0 ? figure_time(to, ns) : "-";
}

/* Those that happen. Returns how many. */
static unsigned print_operations(const struct top_frame *frame)
{
    unsigned lines = 0;

    (void)printf("%-12s %10s %10s %8s %8s\n", "OPERATION", "DONE/S", "REFUSED/S", "P50", "P99");
    for (size_t i = 0; i < frame->operations_count; i++) {
        const struct top_operation *operation = &frame->operations[i];
        char done[FIGURE_BYTES];
        char refused[FIGURE_BYTES];
        char p50[FIGURE_BYTES];
        char p99[FIGURE_BYTES];

        if (operation->done_per_s == 0 && operation->refused_per_s == 0)
            continue;
        (void)printf("%-12s %10s %10s %8s %8s\n", operation->name, figure_count(done, operation->done_per_s),
                     figure_count(refused, operation->refused_per_s), time_or_dash(p50, operation->p50_ns),
                     time_or_dash(p99, operation->p99_ns));
        lines++;
    }
    return lines;
}

static void print_sessions(const struct top_frame *frame, size_t shown)
{
    (void)printf("\n%-8s %-7s %-8s %10s %9s %8s %8s  %s\n", "SESSION", "UID", "PID", "OPS/S", "SPANS", "USED",
                 "RESERVED", "UNIT");
    for (size_t i = 0; i < frame->sessions_count && i < shown; i++) {
        const Admin__End *end = frame->sessions[i].row->end;
        char rate[FIGURE_BYTES];
        char used[FIGURE_BYTES];
        char reserved[FIGURE_BYTES];
        char unit[FIGURE_NAME_BYTES];

        (void)printf("%-8" PRIu64 " %-7" PRIu32 " %-8" PRId64 " %10s %9" PRIu64 " %8s %8s  %s\n",
                     end->session, end->uid, end->pid,
                     figure_count(rate, frame->sessions[i].operations_per_s), end->usage->spans,
                     figure_bytes(used, end->usage->used_bytes),
                     figure_bytes(reserved, end->usage->reserved_bytes), figure_name(unit, end->unit));
    }
}

static size_t rows_left(unsigned operations)
{
    unsigned rows = terminal_rows();

    if (rows == 0)
        return SESSIONS_SHOWN;
    return rows > operations + OTHER_LINES ? rows - operations - OTHER_LINES : 0;
}

static void print_frame(const struct invocation *invocation, const struct top_frame *frame, bool is_live)
{
    unsigned operations;

    if (invocation->json) {
        print_json(frame);
    } else {
        if (is_live)
            (void)fputs("\033[H\033[J", stdout);
        print_head(frame);
        operations = print_operations(frame);
        print_sessions(frame, is_live ? rows_left(operations) : SESSIONS_SHOWN);
    }
    (void)fflush(stdout);
}

/* ---- The terminal --------------------------------------------------------------------------- */

static struct termios as_it_was;

static void enter_terminal(void)
{
    struct termios quiet;

    (void)tcgetattr(STDIN_FILENO, &as_it_was);
    quiet = as_it_was;
    quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
    (void)fputs("\033[?1049h\033[?25l\033[?7l", stdout); /* long lines are cut, so that a frame fits */
}

static void leave_terminal(void)
{
    (void)fputs("\033[?7h\033[?25h\033[?1049l", stdout);
    (void)fflush(stdout);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &as_it_was);
}

/* False if a person has seen enough. */
static bool wait_for_next(int ms, bool is_live)
{
    struct pollfd keys = {.fd = is_live ? STDIN_FILENO : -1, .events = POLLIN};
    char key = 0;

    if (poll(&keys, 1, ms) > 0 && read(STDIN_FILENO, &key, 1) != 1)
        key = 'q'; /* the terminal is gone */
    return is_interrupted == 0 && key != 'q' && key != 'Q';
}

/* ---- The verb ------------------------------------------------------------------------------- */

static int take(struct top_sample *sample, struct ask *ask)
{
    int status;

    asked_fd = ask->fd;
    status = top_sample_take(sample, ask);
    asked_fd = -1;
    return status;
}

static time_t now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* The sample of a daemon that comes instead of the one that has gone; EXIT_NO_ANSWER: none does. */
static int take_from_next(const struct invocation *invocation, struct top_sample *sample, struct ask *ask,
                          bool is_live)
{
    time_t end_s = now_s() + ASK_PATIENCE_S;
    int status = EXIT_NO_ANSWER;

    if (is_live)
        (void)fputs("\033[H\033[KNo answer; a daemon is waited for.", stdout);
    (void)fflush(stdout);
    while (status == EXIT_NO_ANSWER && now_s() < end_s && wait_for_next(LOOK_MS, is_live)) {
        top_sample_free(sample);
        ask_close(ask);
        status = ask_open(ask, invocation);
        if (status == EXIT_YES)
            status = take(sample, ask);
    }
    return status;
}

static int show(const struct invocation *invocation, struct ask *ask, bool is_live)
{
    struct top_sample before;
    struct top_sample now;
    struct top_frame frame;
    int status = take(&before, ask);
    bool goes_on = true;

    ask->is_quiet = true; /* what it says would be lost between the frames */
    while (status == EXIT_YES && goes_on && wait_for_next((int)invocation->interval_ms, is_live)) {
        bool is_same = true;

        status = take(&now, ask);
        if (status == EXIT_NO_ANSWER && is_interrupted == 0) {
            status = take_from_next(invocation, &now, ask, is_live);
            is_same = false; /* its counts begin anew */
        }
        if (status == EXIT_YES && is_same && top_frame_init(&frame, &before, &now)) {
            print_frame(invocation, &frame, is_live);
            top_frame_deinit(&frame);
            goes_on = !invocation->once && ferror(stdout) == 0;
        }
        top_sample_free(&before);
        before = now;
    }
    top_sample_free(&before);
    return is_interrupted != 0 ? EXIT_YES : status;
}

int verb_top(const struct invocation *invocation)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    bool is_live =
        !invocation->once && !invocation->json && isatty(STDIN_FILENO) != 0 && terminal_is_capable();
    struct ask ask = {.is_quiet = false};
    int status = ask_open(&ask, invocation);

    if (status == EXIT_YES) {
        (void)sigaction(SIGINT, &action, NULL);
        (void)sigaction(SIGTERM, &action, NULL);
        if (is_live)
            enter_terminal();
        status = show(invocation, &ask, is_live);
        if (is_live)
            leave_terminal();
    }
    if (status != EXIT_YES && ask.is_quiet)
        (void)fprintf(stderr, "jitbrokerctl: the daemon has gone, and no other answers\n");
    ask_close(&ask);
    return status;
}
