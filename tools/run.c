/* SPDX-License-Identifier: MIT */
/*
 * jitbroker-run: sees that there is a broker, locks itself down, and becomes the program, into which
 * libjitpreload.so is loaded. Nothing of the launcher is left then but its environment and up to two
 * descriptors with high numbers. All that can be known to fail is tried before, and told in one line.
 */
#include "tools/run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jitclient.h>

#include "tools/run_broker.h"
#include "tools/run_options.h"
#include "tools/run_profile.h"
#include "tools/run_program.h"

#define MAPPINGS_FEW 16384L
/* As much as the preloaded library keeps. */
#define LOG_PATH_MAX_BYTES 255u

static void say(const char *format, va_list arguments)
{
    (void)fputs("jitbroker-run: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
}

int run_fail(int status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    return status;
}

void run_warn(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

/* ---- What it needs ------------------------------------------------------------------------------- */

/* So that no descriptor of ours gets the number of a stream that is closed, and it is closed for the program.
 */
static int occupy_standard_streams(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return run_fail(EXIT_LAUNCHER, "/dev/null: %s", strerror(errno));
    } while (fd <= STDERR_FILENO);
    (void)close(fd);
    return 0;
}

/* The file that an environment variable names, or else the first that is there of two, which are told from
 * where this program is: in the build tree, and as installed. False: none is. */
static bool find_part(const char *variable, const char *built, const char *installed, char path[PATH_MAX])
{
    const char *const places[] = {built, installed};
    const char *named = secure_getenv(variable);
    char folder[PATH_MAX];
    ssize_t bytes;

    if (named != NULL && named[0] != '\0')
        return realpath(named, path) != NULL;
    bytes = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (bytes < 0)
        return false;
    folder[bytes] = '\0';
    *strrchr(folder, '/') = '\0';
    for (unsigned i = 0; i < 2; i++) {
        char candidate[2 * PATH_MAX];

        (void)snprintf(candidate, sizeof candidate, "%s/%s", folder, places[i]);
        if (realpath(candidate, path) != NULL)
            return true;
    }
    return false;
}

static int find_library(char path[PATH_MAX])
{
    if (!find_part("JITBROKER_PRELOAD", "../preload/libjitpreload.so", PRELOAD_FROM_HERE, path))
        return run_fail(EXIT_LAUNCHER,
                        "libjitpreload.so is not there (it is for x86-64 only): install it, or name it in "
                        "$JITBROKER_PRELOAD");
    if (strpbrk(path, ": ") != NULL)
        return run_fail(EXIT_LAUNCHER, "%s: the loader takes no path with a blank or colon from $LD_PRELOAD",
                        path);
    return 0;
}

static int start_private_broker(char socket[PATH_MAX])
{
    struct run_broker broker;
    char path[PATH_MAX];
    int status;

    if (!find_part("JITBROKER_DAEMON", "../daemon/jitbrokerd", DAEMON_FROM_HERE, path))
        return run_fail(EXIT_LAUNCHER,
                        "jitbrokerd is not there: install it, or name it in $JITBROKER_DAEMON");
    status = run_broker_start(&broker, path);
    if (status == 0)
        (void)snprintf(socket, PATH_MAX, "%s", broker.socket);
    return status;
}

/* As it is seen from another working directory. */
static int make_absolute(char to[PATH_MAX], const char *path)
{
    char folder[PATH_MAX] = "";
    int used;

    if (path[0] != '/' && getcwd(folder, sizeof folder) == NULL)
        return run_fail(EXIT_LAUNCHER, "the working directory: %s", strerror(errno));
    used = snprintf(to, PATH_MAX, "%s%s%s", folder, path[0] != '/' ? "/" : "", path);
    return used < PATH_MAX ? 0 : run_fail(EXIT_LAUNCHER, "%s: %s", path, strerror(ENAMETOOLONG));
}

/* Where the broker is; "" where the library looks by itself. */
static int find_broker(char socket[PATH_MAX], const struct run_options *options)
{
    if (options->private_broker)
        return start_private_broker(socket);
    if (options->socket == NULL || options->socket[0] == '@') {
        (void)snprintf(socket, PATH_MAX, "%s", options->socket != NULL ? options->socket : "");
        return 0;
    }
    return make_absolute(socket, options->socket);
}

/* Whether a broker answers, and grants this user an arena. */
static int try_broker(const char *socket, bool is_private)
{
    jitc_options options;
    jitc_client *client = NULL;
    const char *advice = "";
    int status;

    jitc_options_init(&options);
    options.socket = socket[0] != '\0' ? socket : NULL;
    options.write_mode = JITC_WRITE_THROUGH;
    status = jitc_connect(&client, &options);
    (void)jitc_close(client);
    if (status == JITC_OK)
        return 0;
    if (is_private)
        advice = "; the private broker says why above, if it could";
    else if (status == JITC_E_NO_BROKER)
        advice = " Start the service (systemctl start jitbrokerd.socket), or use --private-broker";
    else if (status == JITC_E_REFUSED)
        advice = "; --private-broker serves without the system's policy";
    return run_fail(EXIT_LAUNCHER, "%s: %s%s", jitc_strerror(status), jitc_error_detail(), advice);
}

/*
 * A connection for the program, made now: a sandbox of its own may keep it from making one later. In *name
 * for the library: the number, and by what it knows that this is the process and the socket.
 */
static int dial_for_program(const char *socket, char name[64])
{
    jitc_options options;
    struct stat status;
    int fd;
    int error;

    jitc_options_init(&options);
    options.socket = socket[0] != '\0' ? socket : NULL;
    if (jitc_dial(&fd, &options) != JITC_OK)
        return run_fail(EXIT_LAUNCHER, "%s", jitc_error_detail());
    error = run_broker_pass_on(&fd);
    if (error == 0 && fstat(fd, &status) != 0)
        error = -errno;
    if (error != 0)
        return run_fail(EXIT_LAUNCHER, "a descriptor to pass on: %s", strerror(-error));
    (void)snprintf(name, 64, "%d:%d:%lu", fd, (int)getpid(), (unsigned long)status.st_ino);
    return 0;
}

static void warn_of_few_mappings(void)
{
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    long count;

    if (file == NULL)
        return;
    if (fscanf(file, "%ld", &count) == 1 && count < MAPPINGS_FEW)
        run_warn("vm.max_map_count is %ld, and each change of code may take a mapping more: if memory can't "
                 "be had, "
                 "raise it to 65530 or more",
                 count);
    (void)fclose(file);
}

/* ---- What it leaves to the program --------------------------------------------------------------- */

/* Tried now, since the program could only do without. */
static int open_log(char log[PATH_MAX], const char *path)
{
    int status;
    int fd;

    log[0] = '\0';
    if (path == NULL)
        return 0;
    status = make_absolute(log, path);
    if (status != 0)
        return status;
    if (strlen(log) > LOG_PATH_MAX_BYTES)
        return run_fail(EXIT_LAUNCHER, "--log %s: %s", log, strerror(ENAMETOOLONG));
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return run_fail(EXIT_LAUNCHER, "--log %s: %s", log, strerror(errno));
    (void)close(fd);
    return 0;
}

static int put(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int put(const char *name, const char *format, ...)
{
    char *value = NULL;
    va_list arguments;
    int used;

    va_start(arguments, format);
    used = vasprintf(&value, format, arguments);
    va_end(arguments);
    used = used < 0 ? used : setenv(name, value, 1);
    free(value);
    return used == 0 ? 0 : run_fail(EXIT_LAUNCHER, "$%s: %s", name, strerror(errno));
}

static int put_library(const char *path)
{
    const char *others = getenv("LD_PRELOAD");
    bool has_others = others != NULL && others[0] != '\0';

    return put("LD_PRELOAD", "%s%s%s", path, has_others ? ":" : "", has_others ? others : "");
}

static int put_words(const struct run_options *options, const char *log, const char *fd)
{
    return put("JITBROKER_RUN", "fd=%s,%s%s%s%s", fd, options->stats ? "stats," : "",
               options->no_rwx ? "no-rwx," : "", log[0] != '\0' ? "log=" : "", log);
}

/* ---- All of it ----------------------------------------------------------------------------------- */

static int become_program(char **program)
{
    int error;

    (void)execvp(program[0], program);
    error = errno;
    return run_fail(error == ENOENT ? EXIT_NOT_THERE : EXIT_UNFIT, "%s: %s", program[0], strerror(error));
}

static int set_up(const struct run_options *options)
{
    static char library[PATH_MAX];
    static char log[PATH_MAX];
    static char socket[PATH_MAX];
    char fd[64];
    int status = run_program_check(options->program[0], options->profile != RUN_PROFILE_NONE);

    if (status == 0)
        status = find_library(library);
    if (status == 0)
        status = open_log(log, options->log);
    if (status == 0)
        status = find_broker(socket, options);
    if (status == 0)
        status = try_broker(socket, options->private_broker);
    if (status == 0)
        status = put_library(library);
    if (status == 0)
        status = dial_for_program(socket, fd);
    if (status == 0)
        status = put_words(options, log, fd);
    if (status == 0 && socket[0] != '\0')
        status = put("JITBROKER_SOCKET", "%s", socket);
    return status;
}

int main(int argc, char **argv)
{
    static struct run_options options;
    int status = occupy_standard_streams();

    if (status != 0 || !run_options_parse(&options, argc, argv, &status))
        return status;
    status = set_up(&options);
    if (status != 0)
        return status;
    warn_of_few_mappings();
    status = run_profile_apply(options.profile);
    return status == 0 ? become_program(options.program) : status;
}
