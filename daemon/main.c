/* SPDX-License-Identifier: MIT */
/* jitbrokerd: parse, set up, run. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "daemon/admission.h"
#include "daemon/adoption.h"
#include "daemon/arena.h"
#include "daemon/config.h"
#include "daemon/explain.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/options.h"
#include "daemon/process.h"
#include "daemon/sandbox.h"
#include "daemon/server.h"
#include "daemon/supervisor.h"

/* A private broker of many: --fd is no connection, but a socket to listen on. */
static bool serves_many(const struct options *options)
{
    return options->fd >= 0 && sd_is_socket(options->fd, AF_UNIX, SOCK_SEQPACKET, 1) > 0;
}

/* For the processes of one program: nobody else, but all that code can reach. */
static void serve_own_user(struct class *class)
{
    class->uids.ranges[0] = (struct id_range){geteuid(), geteuid()};
    class->uids.count = 1;
    class->arena_max_bytes = UINT64_C(4) << 30;
    class->bytes_max = UINT64_C(1) << 40; /* so that the daemon's bound counts, the machine's memory */
}

/* The policy that the options ask for; NULL: *mistake says why there is none. */
static struct policy *read_policy(const struct options *options, char *mistake, size_t mistake_bytes)
{
    const char *path = options->config != NULL ? options->config : JITBROKER_CONFIG;
    struct policy *policy;

    mistake[0] = '\0';
    /* A private broker, or a user's, obeys whoever started it, not the system's policy. */
    if (options->config == NULL && (options->fd >= 0 || options->user)) {
        policy = config_defaults(options->user ? "user" : "private");
        if (policy != NULL && options->fd >= 0) {
            policy->classes[0]->write_direct = true;
            policy->classes[0]->huge_pages = true;
        }
        if (policy != NULL && serves_many(options))
            serve_own_user(policy->classes[0]);
        if (policy == NULL)
            (void)snprintf(mistake, mistake_bytes, "no memory for a policy");
        return policy;
    }
    return config_read(path, options->config == NULL, mistake, mistake_bytes);
}

/* For who asks what the files mean; the exit status. */
static int tell_policy(const struct options *options)
{
    char mistake[POLICY_MISTAKE_BYTES];
    struct policy *policy = read_policy(options, mistake, sizeof mistake);
    int status = EXIT_SUCCESS;

    if (policy == NULL) {
        (void)fprintf(stderr, "%s\n", mistake);
        return EXIT_CONFIG;
    }
    if (options->explain && options->json)
        status = explain_json(policy, &options->peer) ? EXIT_SUCCESS : EXIT_FAILURE;
    else if (options->explain)
        status = explain(stdout, policy, &options->peer) ? EXIT_SUCCESS : EXIT_FAILURE;
    for (unsigned i = 0; i < policy->files_count && !options->explain; i++)
        (void)printf("%s: ok\n", policy->files[i]);
    if (policy->files_count == 0 && !options->explain)
        (void)printf("%s: not there; nobody is served\n", JITBROKER_CONFIG);
    (void)policy_unref(policy);
    return status;
}

/* What was asked for has to arrive. */
static int end_of_print(int status)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return status;
    (void)fprintf(stderr, "jitbrokerd: printing: %s\n", strerror(errno));
    return EXIT_FAILURE;
}

static void warn_of_policy(const struct policy *policy)
{
    if (policy->classes_count == 0)
        log_line(LOG_WARNING, "the policy has no class, so nobody is served: see jitbrokerd.conf(5)");
    if ((policy->facts & PEER_UNIT) != 0 && !peer_can_have_unit())
        log_line(LOG_WARNING, "this kernel has no pidfds of peers (Linux 6.5): unit= matches nobody");
    for (size_t i = 0; i < policy->classes_count; i++) {
        if (policy->classes[i]->huge_pages)
            (void)arena_can_be_huge(); /* so that the log says at the start if it can't */
    }
}

/* How long the arenas may get that came from an earlier daemon. */
static uint64_t adopted_bytes;

static void bound_addresses(const struct policy *policy)
{
    uint64_t largest = 0;

    for (size_t i = 0; i < policy->classes_count; i++) {
        if (policy->classes[i]->arena_max_bytes > largest)
            largest = policy->classes[i]->arena_max_bytes;
    }
    process_bound_addresses(policy->sessions_max, largest, adopted_bytes);
}

/*
 * The trail that some class of the policy asks for. One that is there goes on in the policy's file, whether a
 * class still asks for that or not.
 */
static bool start_audit(struct server *server, const struct policy *policy)
{
    enum audit_to to = server->audit == NULL ? AUDIT_OFF : AUDIT_FILE;

    for (size_t i = 0; i < policy->classes_count; i++) {
        if (policy->classes[i]->audit > to)
            to = policy->classes[i]->audit;
    }
    return server_keep_audit(server, policy, to, true);
}

/* Clients' and operators'. */
#define PASSED_LISTENERS_MAX (SERVER_LISTENERS_MAX + 1)

/* What systemd, or whoever started us, has passed. */
struct passed {
    struct stored *stored; /* an earlier daemon's */
    unsigned stored_count;
    struct stored listeners[PASSED_LISTENERS_MAX];
    unsigned listeners_count;
};

static const char no_trail[] = "the audit trail that it asks for can't be kept; the log says why";

/*
 * The trail of the policy that a daemon starts with. That it can't be kept is a mistake like any other:
 * whoever has a session keeps it, and if there is nobody, the daemon ends. False: it does.
 */
static bool start_first_audit(struct server *server, const struct passed *passed)
{
    if (start_audit(server, server->policy))
        return true;
    if (passed->stored_count == 0)
        return false;
    memcpy(server->policy_mistake, no_trail, sizeof no_trail);
    server->policy->is_broken = true;
    log_event(LOG_POLICY_REFUSED, NULL, no_trail, "in_force=sessions");
    return true;
}

static const struct options *reload_options;

/* The time is for a manager that waits for what it asked for itself (Type=notify-reload). */
static void tell_of_reload(struct server *server)
{
    char text[64];

    (void)snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, uv_hrtime() / 1000);
    store_tell(&server->store, text);
}

static void reload(struct server *server)
{
    struct policy *policy;

    tell_of_reload(server);
    policy = read_policy(reload_options, server->policy_mistake, POLICY_MISTAKE_BYTES);
    if (policy != NULL && !start_audit(server, policy)) {
        policy = policy_unref(policy);
        memcpy(server->policy_mistake, no_trail, sizeof no_trail);
    }
    if (policy == NULL) {
        log_event(LOG_POLICY_REFUSED, NULL, server->policy_mistake, "in_force=as_before");
        /* Who moved the trail's file away is obeyed all the same. */
        (void)start_audit(server, server->policy);
    } else {
        warn_of_policy(policy);
        bound_addresses(policy);
        server_set_policy(server, policy);
        log_event(LOG_POLICY_LOADED, NULL, NULL, "classes=%zu connections=%u", policy->classes_count,
                  (unsigned)server->connections_count);
        (void)policy_unref(policy);
    }
    store_tell(&server->store, "READY=1");
}

static int listen_on(struct server *server, struct listen_path *path, mode_t mode)
{
    int fd = listen_at(path, mode);
    int error = fd < 0 ? fd : server_listen(server, fd);

    if (error != 0) {
        log_line(LOG_ERROR, "%s: %s", path->text, strerror(-error));
        return error;
    }
    log_event(LOG_STARTED, NULL, NULL, "version=" JITBROKER_VERSION " socket=%s", path->text);
    return 0;
}

/* Of a private broker's that serves many. */
#define PRIVATE_SESSIONS_MAX 2048u

/* False: it can't be served, which was logged. */
static bool sort_passed(struct passed *passed)
{
    static char **names; /* freed with the process */
    int count = sd_listen_fds_with_names(1, &names);

    if (count < 0) {
        log_line(LOG_ERROR, "$LISTEN_FDS: %s", strerror(-count));
        return false;
    }
    passed->stored = count == 0 ? NULL : calloc((size_t)count, sizeof *passed->stored);
    if (passed->stored == NULL && count > 0) {
        log_line(LOG_ERROR, "can't start: %s", strerror(ENOMEM));
        return false;
    }
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;

        if (adoption_is_for(names[i]))
            passed->stored[passed->stored_count++] = (struct stored){names[i], fd};
        else if (passed->listeners_count++ < PASSED_LISTENERS_MAX)
            passed->listeners[passed->listeners_count - 1] = (struct stored){names[i], fd};
    }
    return true;
}

/* Operators' come by their name, and all others are clients'. 0 or -errno. */
static int listen_to_passed(struct server *server, const struct stored *passed)
{
    int is_ours = sd_is_socket(passed->fd, AF_UNIX, SOCK_SEQPACKET, 1);

    if (is_ours <= 0)
        return is_ours == 0 ? -ESOCKTNOSUPPORT : is_ours; /* systemd.socket(5): ListenSequentialPacket= */
    return strcmp(passed->name, "jitbroker-admin") == 0 ? admin_listen(&server->admin, server, passed->fd)
                                                        : server_listen(server, passed->fd);
}

static int listen_activated(struct server *server, const struct passed *passed)
{
    unsigned count = passed->listeners_count;

    if (count == 0) {
        log_line(LOG_ERROR,
                 "no socket to serve: systemd passed none, and there is no --socket, --user or --fd");
        return -ENOENT;
    }
    if (count > PASSED_LISTENERS_MAX) {
        log_line(LOG_ERROR, "%u sockets from systemd: at most %u are served", count, PASSED_LISTENERS_MAX);
        return -E2BIG;
    }
    for (unsigned i = 0; i < count; i++) {
        int error = listen_to_passed(server, &passed->listeners[i]);

        if (error != 0) {
            log_line(LOG_ERROR, "descriptor %d from systemd: %s", passed->listeners[i].fd, strerror(-error));
            return error;
        }
    }
    log_event(LOG_STARTED, NULL, NULL, "version=" JITBROKER_VERSION " sockets=%u", count);
    return 0;
}

static int serve_connection(struct server *server, int fd)
{
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;

    if (sd_is_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0) <= 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &length) != 0) {
        log_line(LOG_ERROR, "--fd=%d: not a connected or listening SOCK_SEQPACKET socket", fd);
        return -ENOTCONN;
    }
    return server_serve_only(server, fd) ? 0 : -EACCES;
}

/* Whoever connects, while somebody holds the other end of standard input. */
static int serve_holders(struct server *server, int fd)
{
    int error = server_listen(server, fd);

    if (error == 0)
        error = server_serve_holders(server, STDIN_FILENO);
    if (error != 0)
        log_line(LOG_ERROR, "--fd=%d: with a listening socket standard input has to be a pipe: %s", fd,
                 strerror(-error));
    return error;
}

static int serve_fd(const struct options *options, struct server *server)
{
    if (chdir("/") != 0) /* whoever started us may want to unmount where it was */
        return -errno;
    return serves_many(options) ? serve_holders(server, options->fd) : serve_connection(server, options->fd);
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

/* For a daemon that no manager passes one to. */
static int listen_for_operators(const struct options *options, struct server *server,
                                struct listen_path *path)
{
    int error = listen_path_set(path, options->admin);
    int fd = error != 0 ? error : listen_at(path, 0660);

    error = fd < 0 ? fd : admin_listen(&server->admin, server, fd);
    if (error != 0)
        log_line(LOG_ERROR, "%s: %s", options->admin, strerror(-error));
    return error;
}

static int open_sockets(const struct options *options, struct server *server, const struct passed *passed,
                        struct listen_path *path)
{
    if (options->fd >= 0)
        return serve_fd(options, server);
    if (options->socket != NULL || (options->user && passed->listeners_count == 0))
        return listen_by_options(options, server, path);
    return listen_activated(server, passed);
}

/* As many as there can be descriptors for, so that nobody is told of a limit who did not set one. */
static uint32_t sessions_of_many(void)
{
    struct rlimit limit;
    rlim_t fit = PRIVATE_SESSIONS_MAX;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > PROCESS_FDS_OTHER)
        fit = (limit.rlim_max - PROCESS_FDS_OTHER) / CONNECTION_FDS;
    return fit < PRIVATE_SESSIONS_MAX ? (uint32_t)fit : PRIVATE_SESSIONS_MAX;
}

/*
 * A private broker is part of the program that started it: it has one client with its executors, or those of
 * one program, and no manager of its own. Which class that client is of is not known yet, nor whether there
 * is one.
 */
static void become_private(const struct options *options, struct policy *policy)
{
    uint32_t executors = 0;

    for (size_t i = 0; i < policy->classes_count; i++) {
        if (policy->classes[i]->executor_max > executors)
            executors = policy->classes[i]->executor_max;
    }
    /* Of which one user has half. */
    policy->sessions_max = serves_many(options) ? sessions_of_many() : 2 * (1 + executors);
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
}

static void ignore_signals(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* whoever reads the log may go away */
    (void)signal(SIGXFSZ, SIG_IGN); /* under RLIMIT_FSIZE an arena that can't grow is an error, not the end */
    (void)signal(SIGHUP, SIG_IGN);  /* until the server takes it; no reason to end */
    (void)signal(SIGUSR2, SIG_IGN); /* the same */
}

/* A kernel without seccomp is no reason to serve nobody, no more than one without MDWE. */
static void confine(bool has_path)
{
    int error = sandbox_install(has_path);

    if (error != 0)
        log_line(LOG_WARNING, "no filter of system calls: %s", strerror(-error));
}

/*
 * Whoever has a session keeps it: where there are some to go on with, a broken policy is no reason not to.
 * What they were granted is in their ledgers.
 */
static struct policy *choose_policy(const struct options *options, const struct passed *passed, char *mistake,
                                    size_t mistake_bytes)
{
    struct policy *policy = read_policy(options, mistake, mistake_bytes);

    if (policy != NULL)
        return policy;
    /* Whose sessions go on have theirs in force; nobody new is served until the files are mended and read
     * anew. */
    log_event(LOG_POLICY_REFUSED, NULL, mistake, "in_force=%s",
              passed->stored_count > 0 ? "sessions" : "none");
    policy = passed->stored_count > 0 ? config_defaults(NULL) : NULL;
    if (policy != NULL)
        policy->is_broken = true;
    return policy;
}

static void adopt(struct server *server, struct passed *passed)
{
    if (passed->stored_count > 0) {
        /* There may be more of them than the policy now lets in. */
        uint64_t fds = process_raise_fds((uint64_t)passed->stored_count * CONNECTION_FDS);

        (void)adoption_run(server, passed->stored, passed->stored_count, (unsigned)(fds / CONNECTION_FDS),
                           &adopted_bytes);
    }
    passed->stored_count = 0;
    free(passed->stored);
    passed->stored = NULL;
}

/* Until it ends; the exit status. */
static int serve(const struct options *options, struct server *server, struct passed *passed)
{
    struct listen_path path = {.bound = false};
    struct listen_path admin_path = {.bound = false};
    int error;

    if (!start_first_audit(server, passed))
        return EXIT_CONFIG;
    adopt(server, passed);
    bound_addresses(server->policy);
    error = open_sockets(options, server, passed, &path);
    if (error == 0 && options->admin != NULL)
        error = listen_for_operators(options, server, &admin_path);
    if (error == 0) {
        confine(path.bound || admin_path.bound);
        server_run(server);
    }
    listen_path_unlink(&path);
    listen_path_unlink(&admin_path);
    return error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The process that keeps our sessions, where that is jitbrokerd --supervise; else 0. */
static pid_t supervisor_of_us(void)
{
    const char *text = getenv("JITBROKER_SUPERVISOR");

    return text != NULL && strtol(text, NULL, 10) == getppid() ? getppid() : 0;
}

int main(int argc, char **argv)
{
    static struct server server;
    static struct options options;
    static struct passed passed;
    struct policy *policy;
    char mistake[POLICY_MISTAKE_BYTES];
    int status;
    int error;

    error = process_open_standard_streams();
    if (error != 0) {
        log_line(LOG_ERROR, "can't start: /dev/null: %s", strerror(-error));
        return EXIT_FAILURE;
    }
    if (!options_parse(&options, argc, argv, &status))
        return end_of_print(status);
    if (options.explain)
        return end_of_print(tell_policy(&options));
    if (options.check_config)
        return tell_policy(&options); /* the status is the answer: nobody may be there to read more */
    if (options.supervise)
        return supervisor_run(&options, argv);
    /* A private broker's stderr is that of the program which it serves. */
    if (options.fd >= 0)
        log_set_level(LOG_WARNING);
    log_init();
    if (!sort_passed(&passed))
        return EXIT_FAILURE;
    policy = choose_policy(&options, &passed, mistake, sizeof mistake);
    if (policy == NULL) /* not even for those who were there: then there is no memory, and may be later */
        return passed.stored_count > 0 ? EXIT_FAILURE : EXIT_CONFIG;

    ignore_signals();
    process_harden();
    if (options.fd >= 0)
        become_private(&options, policy);
    if (geteuid() == 0 && options.fd < 0)
        log_line(LOG_WARNING, "running as root, which nothing here needs: better give it a user of its own");
    if (options.fd < 0) {
        warn_of_policy(policy);
        reload_options = &options;
    }
    /* Some versions of libuv would make a ring with the loop, which the filter then refuses to serve. */
    (void)setenv("UV_USE_IO_URING", "0", 1);
    error = server_init(&server, policy);
    (void)policy_unref(policy);
    if (error != 0) {
        log_line(LOG_ERROR, "can't start: %s", strerror(-error));
        return EXIT_FAILURE;
    }
    memcpy(server.policy_mistake, mistake, sizeof mistake);
    server.supervisor = supervisor_of_us();
    server.on_reload = options.fd < 0 ? reload : NULL;
    status = serve(&options, &server, &passed);
    server_deinit(&server);
    return status;
}
