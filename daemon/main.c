/* SPDX-License-Identifier: MIT */
/* jitbrokerd: parse, set up, run. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/arena.h"
#include "daemon/config.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/process.h"
#include "daemon/server.h"

static bool read_config(const struct options *options, struct config *config)
{
    const char *path = options->config != NULL ? options->config : JITBROKER_CONFIG;
    char mistake[512];

    config_init(config);
    if (options->config == NULL && options->fd >= 0) {
        /* A private broker obeys whoever started it, not the system's policy. */
        config->write_direct = true;
        config->huge_pages = true;
        return true;
    }
    if (options->config == NULL && access(path, F_OK) != 0 && errno == ENOENT) {
        if (options->check_config)
            (void)printf("%s: not there; the defaults are in force\n", path);
        return true;
    }
    if (!config_read(config, path, mistake, sizeof mistake)) {
        log_line(LOG_ERROR, "%s", mistake);
        return false;
    }
    if (options->check_config)
        (void)printf("%s: ok\n", path);
    return true;
}

static int listen_on(struct server *server, struct listen_path *path, mode_t mode)
{
    int fd = listen_at(path, mode);
    int error = fd < 0 ? fd : server_listen(server, fd);

    if (error != 0) {
        log_line(LOG_ERROR, "%s: %s", path->text, strerror(-error));
        return error;
    }
    log_line(LOG_NOTICE, "jitbrokerd " JITBROKER_VERSION " serves %s", path->text);
    return 0;
}

static int listen_activated(struct server *server)
{
    int count = sd_listen_fds(1);

    if (count < 0) {
        log_line(LOG_ERROR, "$LISTEN_FDS: %s", strerror(-count));
        return count;
    }
    if (count == 0) {
        log_line(LOG_ERROR,
                 "no socket to serve: systemd passed none, and there is no --socket, --user or --fd");
        return -ENOENT;
    }
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        int error = sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 1);

        if (error > 0)
            error = server_listen(server, fd);
        else if (error == 0)
            error = -ESOCKTNOSUPPORT; /* systemd.socket(5): ListenSequentialPacket= */
        if (error != 0) {
            log_line(LOG_ERROR, "descriptor %d from systemd: %s", fd, strerror(-error));
            return error;
        }
    }
    log_line(LOG_NOTICE, "jitbrokerd " JITBROKER_VERSION " serves %d socket%s from systemd", count,
             count == 1 ? "" : "s");
    return 0;
}

static int serve_fd(struct server *server, int fd)
{
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;

    if (sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0) <= 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &length) != 0) {
        log_line(LOG_ERROR, "--fd=%d: not a connected SOCK_SEQPACKET socket", fd);
        return -ENOTCONN;
    }
    if (chdir("/") != 0) /* whoever started us may want to unmount where it was */
        return -errno;
    return server_serve_only(server, fd) ? 0 : -EACCES;
}

static int listen_by_options(const struct options *options, struct server *server, struct listen_path *path)
{
    int error = options->user ? listen_path_user(path) : listen_path_set(path, options->socket);

    if (error != 0) {
        log_line(LOG_ERROR, "%s: %s", options->user ? "$XDG_RUNTIME_DIR/jitbroker" : options->socket,
                 strerror(-error));
        return error;
    }
    /* Everyone may connect to the system's socket: who is served is the policy's business. */
    return listen_on(server, path, options->user ? 0600 : 0666);
}

static int open_sockets(const struct options *options, struct server *server, struct listen_path *path)
{
    if (options->fd >= 0)
        return serve_fd(server, options->fd);
    if (options->socket != NULL || options->user)
        return listen_by_options(options, server, path);
    return listen_activated(server);
}

/* A private broker is part of the program that started it: it has one client, and no manager of its own. */
static void become_private(struct config *config)
{
    config->sessions_max = 1;
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
}

static void ignore_signals(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* whoever reads the log may go away */
    (void)signal(SIGXFSZ, SIG_IGN); /* under RLIMIT_FSIZE an arena that can't grow is an error, not the end */
    (void)signal(SIGHUP, SIG_IGN);  /* asks daemons to reload, which this one can't: it is no reason to end */
}

int main(int argc, char **argv)
{
    static struct server server;
    struct options options;
    struct config config;
    struct listen_path path = {.bound = false};
    int status;
    int error;

    error = process_open_standard_streams();
    if (error != 0) {
        log_line(LOG_ERROR, "can't start: /dev/null: %s", strerror(-error));
        return EXIT_FAILURE;
    }
    if (!options_parse(&options, argc, argv, &status))
        return status;
    /* A private broker's stderr is that of the program which it serves. */
    if (options.fd >= 0)
        log_set_level(LOG_WARNING);
    if (!read_config(&options, &config))
        return EXIT_CONFIG;
    if (options.check_config)
        return EXIT_SUCCESS;

    ignore_signals();
    process_harden();
    if (options.fd >= 0)
        become_private(&config);
    config.sessions_max = process_allow_sessions(config.sessions_max);
    if (config.sessions_max == 0)
        return EXIT_FAILURE;
    if (geteuid() == 0 && options.fd < 0)
        log_line(LOG_WARNING, "running as root, which nothing here needs: better give it a user of its own");
    if (config.huge_pages && options.fd < 0)
        (void)arena_can_be_huge(); /* so that the log says at the start if it can't */
    error = server_init(&server, &config);
    if (error != 0) {
        log_line(LOG_ERROR, "can't start: %s", strerror(-error));
        return EXIT_FAILURE;
    }
    error = open_sockets(&options, &server, &path);
    if (error == 0)
        server_run(&server);
    listen_path_unlink(&path);
    server_deinit(&server);
    return error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
