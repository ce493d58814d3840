/* SPDX-License-Identifier: MIT */
/*
 * A daemon for the supervisor to supervise, which does what a test tells it over the socket that is served:
 * a record is a command, and is answered by a record.
 *   pid              its number
 *   list             NAME=CONTENT of all that it was started with, and what else is open
 *   ask NAME         the environment's NAME
 *   store NAME N     hands over N files
 *   hand NAME N      the same, and does not wait until they are kept
 *   remove NAME      has them removed
 *   say TEXT         TEXT to the supervisor, with a file; ; is a line's end
 *   hups             how many SIGHUP there were
 *   end N            ends with that status; no answer
 *   hang             stops by itself; no answer
 * What is in its configuration beside what a broker has: "mute" it does not say that it is ready, "end N" it
 * ends at once, "refuse" --check-config is not passed, "deaf" it does not end by SIGTERM.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

enum { FILES_MAX = 250, TEXT_BYTES = 60000 };

static volatile sig_atomic_t hups;
static char **names; /* of what it was started with */
static int names_count;
static char reply[TEXT_BYTES];

static void on_signal(int number)
{
    if (number == SIGHUP)
        hups++;
    else
        _exit(0);
}

static void put(const char *text)
{
    size_t used = strlen(reply);

    (void)snprintf(reply + used, sizeof reply - used, "%s", text);
}

static void describe(int fd)
{
    char content[64] = "socket";
    ssize_t got = pread(fd, content, sizeof content - 1, 0);

    if (got >= 0)
        content[got] = '\0';
    put(names[fd - SD_LISTEN_FDS_START]);
    put("=");
    put(content);
    put(" ");
}

static void list(int connection)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    char text[64];

    for (int i = 0; i < names_count; i++)
        describe(SD_LISTEN_FDS_START + i);
    while ((entry = readdir(folder)) != NULL) {
        int fd = atoi(entry->d_name);

        if (fd >= SD_LISTEN_FDS_START + names_count && fd != connection && fd != dirfd(folder)) {
            (void)snprintf(text, sizeof text, "stray=%d ", fd);
            put(text);
        }
    }
    (void)closedir(folder);
}

static void notify(const char *text, const char *name, int count, bool waits)
{
    char content[64];
    int fds[FILES_MAX] = {-1};

    for (int i = 0; i < count; i++) {
        fds[i] = memfd_create("fake", MFD_CLOEXEC);
        (void)snprintf(content, sizeof content, "%s.%d", name, i);
        (void)!write(fds[i], content, strlen(content));
    }
    (void)sd_pid_notify_with_fds(0, 0, text, fds, (unsigned)count);
    if (waits)
        (void)sd_notify_barrier(0, UINT64_MAX);
    for (int i = 0; i < count; i++)
        (void)close(fds[i]);
    put("ok");
}

static void obey(char *command, int connection)
{
    char text[TEXT_BYTES];
    char name[100] = "";
    int number = 0;

    reply[0] = '\0';
    if (strcmp(command, "pid") == 0) {
        (void)snprintf(reply, sizeof reply, "%d", (int)getpid());
    } else if (strcmp(command, "list") == 0) {
        list(connection);
    } else if (sscanf(command, "ask %99s", name) == 1) {
        put(getenv(name) != NULL ? getenv(name) : "");
    } else if (sscanf(command, "store %99s %d", name, &number) == 2) {
        (void)snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
        notify(text, name, number, true);
    } else if (sscanf(command, "hand %99s %d", name, &number) == 2) {
        (void)snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
        notify(text, name, number, false);
    } else if (sscanf(command, "remove %99s", name) == 1) {
        (void)snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", name);
        notify(text, name, 0, true);
    } else if (strncmp(command, "say ", 4) == 0) {
        for (char *c = command; *c != '\0'; c++)
            *c = *c == ';' ? '\n' : *c;
        notify(command + 4, "said", 1, true);
    } else if (strcmp(command, "hups") == 0) {
        (void)snprintf(reply, sizeof reply, "%d", (int)hups);
    } else if (sscanf(command, "end %d", &number) == 1) {
        _exit(number);
    } else if (strcmp(command, "hang") == 0) {
        (void)raise(SIGSTOP);
    }
    (void)send(connection, reply, strlen(reply), MSG_NOSIGNAL);
}

static void serve(void)
{
    static char command[TEXT_BYTES];

    for (;;) {
        int connection = accept4(SD_LISTEN_FDS_START, NULL, NULL, SOCK_CLOEXEC);
        ssize_t got;

        if (connection < 0)
            continue; /* a signal, or not blocking and nobody there: it has nothing else to do */
        while ((got = recv(connection, command, sizeof command - 1, 0)) > 0) {
            command[got] = '\0';
            obey(command, connection);
        }
        (void)close(connection);
    }
}

static void read_config(const char *path, char *text, size_t bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, text, bytes - 1);

    text[got > 0 ? got : 0] = '\0';
    if (fd >= 0)
        (void)close(fd);
}

static bool has_option(char **arguments, const char *option)
{
    while (*arguments != NULL && strcmp(*arguments, option) != 0)
        arguments++;
    return *arguments != NULL;
}

int main(int argc, char **argv)
{
    char config[4096] = "";
    const char *end;

    (void)signal(SIGHUP, on_signal);
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--config") == 0)
            read_config(argv[i + 1], config, sizeof config);
    }
    if (has_option(argv, "--check-config"))
        return strstr(config, "refuse") != NULL ? 78 : 0;
    /* The program is the supervisor's too. */
    if (has_option(argv, "--supervise")) {
        (void)execv(getenv("JITBROKER_DAEMON_COPY"), argv);
        return 127;
    }
    end = strstr(config, "end ");
    if (end != NULL)
        return atoi(end + 4);
    (void)signal(SIGTERM, strstr(config, "deaf") != NULL ? SIG_IGN : on_signal);
    names_count = sd_listen_fds_with_names(0, &names);
    (void)fcntl(SD_LISTEN_FDS_START, F_SETFL, 0); /* blocking */
    if (strstr(config, "mute") == NULL)
        (void)sd_notify(0, "READY=1");
    serve();
}
