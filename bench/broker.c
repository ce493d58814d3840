/* SPDX-License-Identifier: MIT */
#include "broker.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trouble.h"

#define START_TRIES 2000 /* of 5 ms */
#define STOP_TRIES 400   /* the same */
#define TRY_US 5000
#define FOLDER "/jitbench-XXXXXX"

/* Room for 1,000,000 live spans, for a crowd, and for direct writing; everything else is the default. */
static const char sections[][2][128] = {
    {"[daemon]", "sessions_max=4096\n"},
    {"[class default]", "write=direct\narena_max=8G\nbytes_max=64G\nsession_max=1200\nspan_max=4194304\n"},
};

/* The one that there is, and whose it is: a forked child must leave it alone. */
static struct broker *volatile running;
static volatile pid_t owner;

/* Nothing but what a signal handler may call. */
static void abandon(void)
{
    struct broker *broker = running;

    if (broker == NULL || getpid() != owner)
        return;
    running = NULL;
    if (broker->pid > 0)
        (void)kill(broker->pid, SIGKILL);
    (void)unlink(broker->socket);
    (void)unlink(broker->config);
    (void)unlink(broker->log);
    (void)unlink(broker->audit);
    (void)rmdir(broker->folder);
}

static void on_signal(int number)
{
    static const char late[] = "jitbench: took too long, given up\n";

    if (number == SIGALRM && getpid() == owner)
        (void)!write(STDERR_FILENO, late, sizeof late - 1);
    abandon();
    _exit(number == SIGALRM ? EXIT_FAILURE : 128 + number);
}

void broker_guard(unsigned limit_s)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGALRM};
    struct sigaction action = {.sa_handler = on_signal};

    owner = getpid();
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        (void)sigaction(numbers[i], &action, NULL);
    if (atexit(abandon) != 0)
        die("atexit");
    (void)alarm(limit_s);
}

static void write_config(const struct broker *broker, const struct options *options)
{
    FILE *file = fopen(broker->config, "wxe");

    if (file == NULL)
        die(broker->config);
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        size_t name = strlen(sections[i][0]);
        char lines[128];

        (void)fprintf(file, "%s\n", sections[i][0]);
        /* Ours, but for keys that were given. */
        memcpy(lines, sections[i][1], sizeof lines);
        for (char *line = strtok(lines, "\n"); line != NULL; line = strtok(NULL, "\n")) {
            size_t key = strcspn(line, "=") + 1;
            bool given = false;

            for (size_t k = 0; k < options->settings_count; k++)
                given = given || (strncmp(options->settings[k], sections[i][0], name) == 0 &&
                                  strncmp(options->settings[k] + name, line, key) == 0);
            if (!given)
                (void)fprintf(file, "%s\n", line);
        }
        for (size_t k = 0; k < options->settings_count; k++) {
            if (strncmp(options->settings[k], sections[i][0], name) == 0)
                (void)fprintf(file, "%s\n", options->settings[k] + name);
        }
    }
    (void)fprintf(file, "[daemon]\naudit_file=%s\n", broker->audit);
    if (fclose(file) != 0)
        die(broker->config);
}

static void run_daemon(const struct broker *broker, const char *program, const struct bench *bench,
                       enum side side)
{
    int log = open(broker->log, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    cpus_pin(&bench->cpus, side);
    if (log < 0 || dup2(log, STDERR_FILENO) < 0)
        _exit(126);
    (void)execl(program, program, "--config", broker->config, "--socket", broker->socket, (char *)NULL);
    (void)fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

static bool answers(const struct broker *broker)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    bool connected;

    if (fd < 0)
        die("socket");
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", broker->socket);
    connected = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    (void)close(fd);
    return connected;
}

static void show_log(const struct broker *broker)
{
    FILE *file = fopen(broker->log, "re");
    char line[512];

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        (void)fprintf(stderr, "jitbrokerd: %s", line);
    if (file != NULL)
        (void)fclose(file);
}

/* In $TMPDIR, if a socket's path fits there. */
static void choose_folder(struct broker *broker)
{
    const char *parent = getenv("TMPDIR");

    if (parent == NULL || parent[0] != '/' || strlen(parent) + sizeof FOLDER > sizeof broker->folder)
        parent = "/tmp";
    (void)snprintf(broker->folder, sizeof broker->folder, "%s" FOLDER, parent);
}

void broker_start(struct broker *broker, const struct bench *bench, enum side side)
{
    const char *program = getenv("JITBROKER_DAEMON");

    if (program == NULL || program[0] == '\0')
        program = JITBROKERD_PATH;
    *broker = (struct broker){.pid = 0};
    choose_folder(broker);
    if (mkdtemp(broker->folder) == NULL)
        die(broker->folder);
    (void)snprintf(broker->socket, sizeof broker->socket, "%s/socket", broker->folder);
    (void)snprintf(broker->config, sizeof broker->config, "%s/config", broker->folder);
    (void)snprintf(broker->log, sizeof broker->log, "%s/log", broker->folder);
    (void)snprintf(broker->audit, sizeof broker->audit, "%s/audit", broker->folder);
    running = broker;
    write_config(broker, &bench->options);
    broker->pid = fork();
    if (broker->pid < 0)
        die("fork");
    if (broker->pid == 0)
        run_daemon(broker, program, bench, side);
    for (int i = 0; !answers(broker); i++) {
        if (i == START_TRIES || waitpid(broker->pid, NULL, WNOHANG) != 0) {
            show_log(broker);
            broker->pid = i == START_TRIES ? broker->pid : 0;
            die_because("%s does not start; $JITBROKER_DAEMON names another", program);
        }
        sleep_us(TRY_US);
    }
}

void broker_stop(struct broker *broker)
{
    int status = 0;
    pid_t ended = 0;

    (void)kill(broker->pid, SIGTERM);
    for (int i = 0; i < STOP_TRIES && (ended = waitpid(broker->pid, &status, WNOHANG)) == 0; i++)
        sleep_us(TRY_US);
    if (ended == 0) {
        (void)kill(broker->pid, SIGKILL);
        (void)waitpid(broker->pid, NULL, 0);
        die_because("the daemon did not stop at SIGTERM");
    }
    broker->pid = 0;
    if (status != 0) {
        show_log(broker);
        die_because("the daemon ended with status %x", (unsigned)status);
    }
    abandon();
}

int broker_try_connect(const struct broker *broker, jitc_client **client, enum jitc_write_mode mode,
                       uint64_t arena_bytes)
{
    jitc_options options;

    jitc_options_init(&options);
    options.socket = broker->socket;
    options.write_mode = mode;
    options.arena_bytes = arena_bytes;
    return jitc_connect(client, &options);
}

jitc_client *broker_connect(const struct broker *broker, enum jitc_write_mode mode, uint64_t arena_bytes)
{
    jitc_client *client = NULL;

    check(broker_try_connect(broker, &client, mode, arena_bytes), "connecting");
    return client;
}
