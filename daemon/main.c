/* SPDX-License-Identifier: MIT */
/* jitbrokerd: parse, set up, run. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

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

static int listen_on(struct server *server, const char *path, mode_t mode)
{
    int fd = listen_at(path, mode);
    int error = fd < 0 ? fd : server_listen(server, fd);

    if (error != 0) {
        log_line(LOG_ERROR, "%s: %s", path, strerror(-error));
        return error;
    }
    log_line(LOG_NOTICE, "jitbrokerd " JITBROKER_VERSION " serves %s", path);
    return 0;
}

static int listen_activated(struct server *server)
{
    int count = sd_listen_fds(1);

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
    int is_ours = sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0);

    if (is_ours <= 0) {
        log_line(LOG_ERROR, "--fd=%d: not a connected SOCK_SEQPACKET socket", fd);
        return is_ours < 0 ? is_ours : -ENOTSOCK;
    }
    /* The terminal's ^C is for whoever started us; we end when it does. */
    (void)signal(SIGINT, SIG_IGN);
    server_serve_only(server, fd);
    return 0;
}

/* `path` is set to the socket's, if it is one that we made. */
static int open_sockets(const struct options *options, struct server *server, char *path, size_t path_bytes)
{
    int error;

    path[0] = '\0';
    if (options->fd >= 0)
        return serve_fd(server, options->fd);
    if (options->socket == NULL && !options->user)
        return listen_activated(server);
    if (options->user) {
        error = listen_user_path(path, path_bytes);
        if (error != 0)
            log_line(LOG_ERROR, "$XDG_RUNTIME_DIR/jitbroker: %s", strerror(-error));
    } else {
        error = (size_t)snprintf(path, path_bytes, "%s", options->socket) < path_bytes ? 0 : -ENAMETOOLONG;
    }
    /* Everyone may connect to the system's socket: who is served is the policy's business. */
    if (error == 0)
        error = listen_on(server, path, options->user ? 0600 : 0666);
    if (error != 0)
        path[0] = '\0';
    return error;
}

int main(int argc, char **argv)
{
    static struct server server;
    struct options options;
    struct config config;
    char path[PATH_MAX];
    int status;
    int error;

    if (!options_parse(&options, argc, argv, &status))
        return status;
    /* A private broker's stderr is that of the program which it serves. */
    if (options.fd >= 0)
        log_set_level(LOG_WARNING);
    if (!read_config(&options, &config))
        return EXIT_CONFIG;
    if (options.check_config)
        return EXIT_SUCCESS;

    (void)signal(SIGPIPE, SIG_IGN); /* whoever reads the log may go away */
    (void)signal(SIGXFSZ, SIG_IGN); /* under RLIMIT_FSIZE an arena that can't grow is an error, not the end */
    process_harden();
    config.sessions_max = process_allow_sessions(config.sessions_max);
    if (geteuid() == 0 && options.fd < 0)
        log_line(LOG_WARNING, "running as root, which nothing here needs: better give it a user of its own");
    error = server_init(&server, &config);
    if (error != 0) {
        log_line(LOG_ERROR, "can't start: %s", strerror(-error));
        return EXIT_FAILURE;
    }
    error = open_sockets(&options, &server, path, sizeof path);

    if (error == 0)
        error = server_run(&server);
    if (path[0] != '\0')
        (void)unlink(path);
    server_deinit(&server);
    return error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
