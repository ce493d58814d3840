/* SPDX-License-Identifier: MIT */
#include "tools/ask.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/record.h"

static int complain(const struct ask *ask, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int complain(const struct ask *ask, int status, const char *format, ...)
{
    va_list args;

    if (ask->is_quiet)
        return status;
    (void)fputs("jitbrokerctl: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return status;
}

/* A connected socket, or -errno. */
static int connect_to(const char *path)
{
    static const struct timeval patience = {.tv_sec = ASK_PATIENCE_S};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int error;
    int fd;

    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* connect(2) too */
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    error = errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (fd >= 0)
        (void)close(fd);
    return error;
}

int ask_open(struct ask *ask, const struct invocation *invocation)
{
    const char *advice = "";

    *ask = (struct ask){.fd = connect_to(invocation->admin), .is_quiet = ask->is_quiet};
    if (ask->fd >= 0)
        return EXIT_YES;
    if (ask->fd == -EACCES)
        advice = "; it is for root, and members of the group " ADMIN_GROUP;
    else if (ask->fd == -ENOENT || ask->fd == -ECONNREFUSED)
        advice = "; no daemon answers operators there: systemctl start jitbrokerd-admin.socket, or "
                 "jitbrokerd --admin";
    return complain(ask, EXIT_NO_ANSWER, "%s: %s%s", invocation->admin, strerror(-ask->fd), advice);
}

void ask_close(struct ask *ask)
{
    if (ask->fd >= 0)
        (void)close(ask->fd);
    ask->fd = -1;
}

static int send_request(struct ask *ask, const Admin__Request *request)
{
    uint8_t bytes[ADMIN_REQUEST_MAX_BYTES];
    size_t count = admin__request__pack(request, bytes); /* all of its fields are numbers */

    return record_send(ask->fd, true, bytes, count, NULL, 0);
}

/* NULL: there is none, or it is no reply; *flaw is record_recv()'s. */
static Admin__Reply *receive(const struct ask *ask, int *flaw)
{
    static uint8_t bytes[ADMIN_REPLY_MAX_BYTES];
    struct record record;

    /* Who is told goodbye with its question unread hears of a reset first. */
    do {
        *flaw = record_recv(ask->fd, true, bytes, sizeof bytes, 0, &record);
    } while (*flaw == -EINTR || *flaw == -ECONNRESET);
    return *flaw == RECORD_WHOLE ? admin__reply__unpack(NULL, record.bytes, bytes) : NULL;
}

static int complain_of_silence(const struct ask *ask, int flaw)
{
    if (flaw == -EAGAIN)
        return complain(ask, EXIT_NO_ANSWER, "the daemon has said nothing for %d s", ASK_PATIENCE_S);
    return complain(ask, EXIT_NO_ANSWER, "the daemon has closed the connection");
}

static int add(const struct ask *ask, struct answer *answer, Admin__Reply *part)
{
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): pointers are what it holds */
    Admin__Reply **parts = realloc(answer->parts, (answer->count + 1) * sizeof *parts);

    if (parts == NULL) {
        admin__reply__free_unpacked(part, NULL);
        return complain(ask, EXIT_NO, "no memory");
    }
    answer->parts = parts;
    answer->parts[answer->count++] = part;
    return EXIT_YES;
}

static int tell_error(const struct ask *ask, const Admin__Error *error)
{
    bool is_closed = error->code == ADMIN__CODE__NOT_PERMITTED || error->code == ADMIN__CODE__BUSY;

    return complain(ask, is_closed ? EXIT_NO_ANSWER : EXIT_NO, "%s", error->text);
}

int ask_for(struct ask *ask, Admin__Verb verb, uint64_t session, uint64_t offset, uint32_t level,
            struct answer *answer)
{
    Admin__Request request = ADMIN__REQUEST__INIT;
    int status = EXIT_YES;
    bool more = true;

    *answer = (struct answer){.count = 0};
    request.id = ++ask->id;
    request.verb = verb;
    request.session = session;
    request.offset = offset;
    request.level = level;
    (void)send_request(ask, &request); /* where that fails the daemon may have said why */
    while (more && status == EXIT_YES) {
        int flaw;
        Admin__Reply *part = receive(ask, &flaw);

        if (part == NULL)
            return complain_of_silence(ask, flaw);
        more = part->more;
        status = add(ask, answer, part);
        if (status == EXIT_YES && part->error != NULL)
            status = tell_error(ask, part->error);
        else if (status == EXIT_YES && part->id != request.id)
            status = complain(ask, EXIT_NO, "that is no answer to this question");
    }
    return status;
}

void answer_free(struct answer *answer)
{
    for (size_t i = 0; i < answer->count; i++)
        admin__reply__free_unpacked(answer->parts[i], NULL);
    free(answer->parts);
    *answer = (struct answer){.count = 0};
}

static int ask_alone(const struct invocation *invocation, Admin__Verb verb, uint32_t level, bool is_quiet,
                     struct answer *answer)
{
    struct ask ask = {.is_quiet = is_quiet};
    int status = ask_open(&ask, invocation);

    *answer = (struct answer){.count = 0};
    if (status == EXIT_YES)
        status = ask_for(&ask, verb, invocation->session, invocation->offset, level, answer);
    ask_close(&ask);
    return status;
}

int ask_once(const struct invocation *invocation, Admin__Verb verb, uint32_t level, struct answer *answer)
{
    return ask_alone(invocation, verb, level, false, answer);
}

int ask_quietly(const struct invocation *invocation, Admin__Verb verb, struct answer *answer)
{
    return ask_alone(invocation, verb, 0, true, answer);
}
