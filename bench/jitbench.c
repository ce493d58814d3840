/* SPDX-License-Identifier: MIT */
/*
 * What a function costs through the broker, against the floor and the habit, in one run:
 * figures of one machine drift, so only their ratios say something.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "jitclient.h"

#define FUNCTION_BYTES 256u
#define WARM_UP 1000u

struct sample {
    double mean_us;
    double p50_us;
    double p99_us;
};

static unsigned rounds = 100000;
static bool as_json;
static bool on_one_cpu;

static void die(const char *what)
{
    (void)fprintf(stderr, "jitbench: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static void check(int status, const char *what)
{
    if (status == JITC_OK)
        return;
    (void)fprintf(stderr, "jitbench: %s: %s: %s\n", what, jitc_strerror(status), jitc_error_detail());
    exit(EXIT_FAILURE);
}

static double now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

enum side { SERVER, CLIENT };

/* The daemon and the servers of the floors on one processor, the client on the other, if there are two. */
static void pin(enum side side)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(side == CLIENT && !on_one_cpu && sysconf(_SC_NPROCESSORS_ONLN) >= 2 ? 1 : 0, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static struct sample measure(void (*step)(void *), void *user)
{
    double *times = calloc(rounds, sizeof *times);
    struct sample sample = {0};
    double sum = 0;

    if (times == NULL)
        die("memory");
    for (unsigned i = 0; i < WARM_UP; i++)
        step(user);
    for (unsigned i = 0; i < rounds; i++) {
        double began = now_us();

        step(user);
        times[i] = now_us() - began;
        sum += times[i];
    }
    qsort(times, rounds, sizeof *times, compare);
    sample.mean_us = sum / rounds;
    sample.p50_us = times[rounds / 2];
    sample.p99_us = times[rounds - rounds / 100 - 1];
    free(times);
    return sample;
}

/* ---- The floor: a record there and back, nothing done with it --------------------------- */

static void echo_forever(int fd)
{
    char record[FUNCTION_BYTES];
    ssize_t got;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    pin(SERVER);
    while ((got = recv(fd, record, sizeof record, 0)) > 0) {
        if (send(fd, record, (size_t)got, MSG_NOSIGNAL) < 0)
            break;
    }
    _exit(0);
}

static void echo_step(void *user)
{
    int fd = *(int *)user;
    char record[FUNCTION_BYTES] = {0};

    if (send(fd, record, sizeof record, MSG_NOSIGNAL) < 0 || recv(fd, record, sizeof record, 0) < 0)
        die("echo");
}

static struct sample measure_echo(void)
{
    struct sample sample;
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0)
        die("socketpair");
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        (void)close(pair[0]);
        echo_forever(pair[1]);
    }
    (void)close(pair[1]);
    sample = measure(echo_step, &pair[0]);
    (void)close(pair[0]);
    (void)waitpid(pid, NULL, 0);
    return sample;
}

/* ---- The habit: flip a page to writable and back ------------------------------------------ */

static void mprotect_step(void *user)
{
    static const uint8_t code[FUNCTION_BYTES];

    if (mprotect(user, 4096, PROT_READ | PROT_WRITE) != 0)
        die("mprotect");
    memcpy(user, code, sizeof code);
    if (mprotect(user, 4096, PROT_READ | PROT_EXEC) != 0)
        die("mprotect");
}

static struct sample measure_mprotect(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sample sample;

    if (page == MAP_FAILED)
        die("mmap");
    sample = measure(mprotect_step, page);
    (void)munmap(page, 4096);
    return sample;
}

/* ---- Ours ------------------------------------------------------------------------------------- */

static void function_step(void *user)
{
    static const uint8_t code[FUNCTION_BYTES];
    jitc_span span;

    check(jitc_alloc(user, &span, sizeof code), "alloc");
    check(jitc_write(user, &span, 0, code, sizeof code, JITC_WRITE_DEFAULT), "write");
    check(jitc_release(user, span.rx), "release");
}

static void statistics_step(void *user)
{
    jitc_stats stats = {.struct_size = sizeof stats};

    check(jitc_statistics(user, &stats), "statistics");
}

static void report(const char *name, struct sample sample, const char *against, double against_us)
{
    double ratio = sample.p50_us / against_us;

    if (as_json)
        (void)printf("{\"name\":\"%s\",\"mean_us\":%.3f,\"p50_us\":%.3f,\"p99_us\":%.3f,"
                     "\"against\":\"%s\",\"ratio\":%.3f}\n",
                     name, sample.mean_us, sample.p50_us, sample.p99_us, against, ratio);
    else
        (void)printf("%-40s %8.2f %8.2f %8.2f   %5.2f x %s\n", name, sample.mean_us, sample.p50_us,
                     sample.p99_us, ratio, against);
}

/* ---- A daemon of our own --------------------------------------------------------------------- */

struct daemon {
    pid_t pid;
    char folder[64];
    char socket[96];
    char config[96]; /* empty: the defaults, whatever the system has */
};

static void daemon_start(struct daemon *daemon)
{
    const char *program = getenv("JITBROKER_DAEMON");

    (void)strcpy(daemon->folder, "/tmp/jitbench-XXXXXX");
    if (mkdtemp(daemon->folder) == NULL)
        die("mkdtemp");
    (void)snprintf(daemon->socket, sizeof daemon->socket, "%s/socket", daemon->folder);
    (void)snprintf(daemon->config, sizeof daemon->config, "%s/config", daemon->folder);
    (void)close(open(daemon->config, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    if (program == NULL)
        program = JITBROKERD_PATH;
    daemon->pid = fork();
    if (daemon->pid < 0)
        die("fork");
    if (daemon->pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        pin(SERVER);
        (void)dup2(null, STDERR_FILENO);
        (void)execl(program, program, "--config", daemon->config, "--socket", daemon->socket, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; access(daemon->socket, F_OK) != 0; i++) {
        if (i == 1000 || waitpid(daemon->pid, NULL, WNOHANG) != 0) {
            (void)fprintf(stderr, "jitbench: %s does not start; $JITBROKER_DAEMON names another\n", program);
            exit(EXIT_FAILURE);
        }
        (void)usleep(1000);
    }
}

static void daemon_stop(struct daemon *daemon)
{
    (void)kill(daemon->pid, SIGTERM);
    (void)waitpid(daemon->pid, NULL, 0);
    (void)unlink(daemon->config);
    (void)rmdir(daemon->folder);
}

/* Its resident memory, the arenas' included. */
static double daemon_resident_kib(const struct daemon *daemon)
{
    char path[64];
    FILE *file;
    long total = 0;
    long resident = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)daemon->pid);
    file = fopen(path, "re");
    if (file == NULL || fscanf(file, "%ld %ld", &total, &resident) != 2)
        die(path);
    (void)fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1024;
}

static jitc_client *connect_client(const char *socket)
{
    jitc_options options;
    jitc_client *client = NULL;

    jitc_options_init(&options);
    options.socket = socket;
    options.write_mode = JITC_WRITE_THROUGH;
    check(jitc_connect(&client, &options), "connecting");
    return client;
}

static void report_idle_sessions(const struct daemon *daemon)
{
    enum { SESSIONS = 200 };
    jitc_client *clients[SESSIONS];
    double before = daemon_resident_kib(daemon);
    double each;

    for (int i = 0; i < SESSIONS; i++)
        clients[i] = connect_client(daemon->socket);
    each = (daemon_resident_kib(daemon) - before) / SESSIONS;
    for (int i = 0; i < SESSIONS; i++)
        (void)jitc_close(clients[i]);
    if (as_json)
        (void)printf("{\"name\":\"idle session\",\"kib\":%.2f}\n", each);
    else
        (void)printf("%-40s %8.2f KiB of the daemon's resident memory\n", "an idle session", each);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"rounds", required_argument, NULL, 'r'},
        {"one-cpu", no_argument, NULL, '1'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct daemon daemon;
    struct sample echo;
    struct sample sample;
    jitc_client *client;
    int option;

    while ((option = getopt_long(argc, argv, "r:1jh", longs, NULL)) != -1) {
        if (option == 'r' && atoi(optarg) >= 100)
            rounds = (unsigned)atoi(optarg);
        else if (option == '1')
            on_one_cpu = true;
        else if (option == 'j')
            as_json = true;
        else {
            (void)fputs("Usage: jitbench [--rounds=N (100 and up)] [--one-cpu] [--json]\n"
                        "Starts $JITBROKER_DAEMON, or the installed one, on processor 0, and measures from\n"
                        "processor 1 (--one-cpu: from 0 too).\n",
                        option == 'h' ? stdout : stderr);
            return option == 'h' ? EXIT_SUCCESS : 2;
        }
    }

    daemon_start(&daemon);
    pin(CLIENT);
    client = connect_client(daemon.socket);
    if (!as_json)
        (void)printf("%-40s %8s %8s %8s   ratio of p50\n", "microseconds", "mean", "p50", "p99");
    echo = measure_echo();
    report("SEQPACKET round trip, 256 B", echo, "itself", echo.p50_us);
    sample = measure_mprotect();
    report("mprotect RW, write 256 B, mprotect RX", sample, "a SEQPACKET round trip", echo.p50_us);
    sample = measure(statistics_step, client);
    report("statistics", sample, "a SEQPACKET round trip", echo.p50_us);
    sample = measure(function_step, client);
    report("alloc + write + release, 256 B", sample, "three SEQPACKET round trips", 3 * echo.p50_us);
    sample = measure_echo();
    report("SEQPACKET round trip again", sample, "the first", echo.p50_us);
    report_idle_sessions(&daemon);
    (void)jitc_close(client);
    daemon_stop(&daemon);
    return EXIT_SUCCESS;
}
