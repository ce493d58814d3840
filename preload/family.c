/* SPDX-License-Identifier: MIT */
#include "preload/family.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "preload/arena.h"
#include "preload/descriptors.h"
#include "preload/keeper.h"
#include "preload/settings.h"
#include "preload/signals.h"
#include "preload/system.h"
#include "preload/window.h"

#define FAMILIES_MAX 16u
/* Whoever waits looks so often whether those it waits for are there. */
#define LOOK_NS 100000000L
/* And gives up after so many looks. */
#define LOOKS_MAX 100
/* For those who write it looks more often, and gives up sooner: they may have died. */
#define WRITER_LOOK_NS 20000L
#define WRITER_LOOKS_MAX 10000
/* Descriptors of an executor. */
#define FDS_MAX 4u

struct family {
    uintptr_t start;
    uintptr_t end;     /* 0: there is none here */
    uint64_t process;  /* that made the mapping */
    bool has_failed;   /* to get a keeper */
    bool is_writing;   /* this process is one of the desk's writers */
    uint8_t *memory;   /* the program's, a second time, readable and writable */
    int socket;        /* to the keeper */
    jitc_client *code; /* its arena */
    int fds[FDS_MAX];  /* that client's: a child may not ask for them */
    size_t fds_count;
    uint8_t *base;
    struct window *windows;
    struct keeper_desk *desk; /* NULL: not begun */
};

static struct family families[FAMILIES_MAX];
static bool is_used;

bool family_any(void)
{
    return is_used;
}

bool family_has_begun(void)
{
    for (unsigned i = 0; i < FAMILIES_MAX; i++) {
        if (families[i].desk != NULL)
            return true;
    }
    return false;
}

static uint32_t number_of(const struct family *family, uintptr_t address)
{
    return (uint32_t)(address / WINDOW_BYTES - family->start / WINDOW_BYTES);
}

static uint64_t windows_count(const struct family *family)
{
    return number_of(family, family->end - 1) + UINT64_C(1);
}

static uint64_t desk_bytes(const struct family *family)
{
    return sizeof *family->desk + windows_count(family) * sizeof family->desk->places[0];
}

void family_note(uintptr_t address, uint64_t bytes)
{
    for (unsigned i = 0; i < FAMILIES_MAX; i++) {
        struct family family = {
            .start = address, .end = address + bytes, .process = arena_process(), .socket = -1};
        long windows;

        if (families[i].end != 0)
            continue;
        windows = system_mmap(0, windows_count(&family) * sizeof *family.windows, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (system_failed(windows))
            return;
        family.windows = (struct window *)windows;
        families[i] = family;
        is_used = true;
        return;
    }
}

struct window *family_window(uintptr_t address, uintptr_t *edge)
{
    struct window *window = NULL;

    for (unsigned i = 0; is_used && i < FAMILIES_MAX; i++) {
        const struct family *family = &families[i];
        bool has = address >= family->start && address < family->end;
        uintptr_t next = has ? family->end : family->start;

        if (has)
            window = &family->windows[number_of(family, address)];
        if (family->end != 0 && next > address && next < *edge)
            *edge = next;
    }
    return window;
}

static void leave_arena(struct family *family)
{
    for (size_t i = 0; i < family->fds_count; i++)
        descriptors_remove(family->fds[i]);
    family->fds_count = 0;
    family->code = jitc_close(family->code);
}

static void end_family(struct family *family)
{
    if (family->desk != NULL) {
        family_end_writing(family);
        descriptors_remove(family->socket);
        (void)system_call(SYS_close, family->socket, 0, 0, 0, 0, 0);
        leave_arena(family);
        (void)system_munmap((uintptr_t)family->memory, family->end - family->start);
        (void)system_munmap((uintptr_t)family->desk, desk_bytes(family));
    }
    (void)system_munmap((uintptr_t)family->windows, windows_count(family) * sizeof *family->windows);
    *family = (struct family){.end = 0};
}

/* Its pages were forgotten before. */
void family_forget(uintptr_t address, uint64_t bytes)
{
    for (unsigned i = 0; i < FAMILIES_MAX; i++) {
        if (families[i].end != 0 && address <= families[i].start && families[i].end <= address + bytes)
            end_family(&families[i]);
    }
}

/* ---- The keeper's beginning -------------------------------------------------------------------- */

static int receive_end(int socket, int *end)
{
    struct pollfd ready = {.fd = socket, .events = POLLIN};
    struct keeper_greeting greeting = {.error = -EPIPE};
    char control[CMSG_SPACE(sizeof *end)] __attribute__((aligned(sizeof(struct cmsghdr))));
    struct iovec part = {&greeting, sizeof greeting};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const struct cmsghdr *header;

    if (poll(&ready, 1, LOOKS_MAX * (int)(LOOK_NS / 1000000)) != 1 ||
        recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof greeting)
        return -EPIPE;
    header = CMSG_FIRSTHDR(&message);
    if (greeting.error == 0 && header == NULL)
        return -EPIPE;
    if (greeting.error == 0)
        memcpy(end, CMSG_DATA(header), sizeof *end);
    return greeting.error;
}

static int attach(struct family *family, int end)
{
    jitc_info info = {.struct_size = sizeof info};

    if (jitc_attach(&family->code, end) != JITC_OK)
        return -EPERM;
    (void)jitc_describe(family->code, &info);
    (void)jitc_descriptors(family->code, family->fds, FDS_MAX, &family->fds_count);
    if (family->fds_count > FDS_MAX)
        family->fds_count = FDS_MAX;
    for (size_t i = 0; i < family->fds_count; i++)
        descriptors_add(family->fds[i]);
    family->base = (uint8_t *)(uintptr_t)info.base;
    return 0;
}

static int start_keeper(struct family *family, struct keeper_desk *desk)
{
    int sockets[2];
    int end = -1;
    long pid;
    int error;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        return -errno;
    pid = system_call(SYS_clone, 0, 0, 0, 0, 0, 0); /* a fork, with no signal at its end */
    if (pid == 0) {
        arena_after_fork(true);
        keeper_run(sockets[1], desk);
    }
    (void)system_call(SYS_close, sockets[1], 0, 0, 0, 0, 0);
    error = system_failed(pid) ? (int)pid : receive_end(sockets[0], &end);
    if (error == 0)
        error = attach(family, end);
    if (error != 0) {
        (void)system_call(SYS_close, sockets[0], 0, 0, 0, 0, 0);
        return error;
    }
    descriptors_move_up(&sockets[0]);
    descriptors_add(sockets[0]);
    family->socket = sockets[0];
    return 0;
}

static uint32_t own_number(void)
{
    return (uint32_t)system_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

/* Where there are too many, it is one that is not stopped. */
static void join(const struct family *family)
{
    for (unsigned i = 0; i < KEEPER_MEMBERS_MAX; i++) {
        uint32_t none = 0;

        if (atomic_compare_exchange_strong(&family->desk->members[i], &none, own_number()))
            return;
    }
}

static int begin(struct family *family)
{
    uint64_t bytes = family->end - family->start;
    struct keeper_desk *desk;
    long place;
    long memory;
    int error;

    place = system_mmap(0, desk_bytes(family), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (system_failed(place))
        return (int)place;
    desk = (struct keeper_desk *)place;
    desk->windows = windows_count(family);
    /* Of no bytes, it makes another mapping of the same memory. */
    memory = system_call(SYS_mremap, (long)family->start, 0, (long)bytes, MREMAP_MAYMOVE, 0, 0);
    error = system_failed(memory) ? (int)memory : 0;
    if (error == 0)
        error = (int)system_mprotect((uintptr_t)memory, bytes, PROT_READ | PROT_WRITE);
    if (error == 0)
        error = start_keeper(family, desk);
    if (error != 0) {
        if (!system_failed(memory))
            (void)system_munmap((uintptr_t)memory, bytes);
        (void)system_munmap((uintptr_t)desk, desk_bytes(family));
        return error;
    }
    family->memory = (uint8_t *)memory;
    family->desk = desk;
    join(family);
    signals_check();
    return 0;
}

struct family *family_of(uintptr_t address)
{
    for (unsigned i = 0; i < FAMILIES_MAX; i++) {
        struct family *family = &families[i];
        int error;

        if (address < family->start || address >= family->end || family->has_failed)
            continue;
        if (family->desk != NULL)
            return family;
        error = family->process == arena_process() ? begin(family) : -ECHILD;
        if (error == 0)
            return family;
        family->has_failed = true;
        settings_log("code in memory that processes share: no keeper for it (%s): each has its own code",
                     strerror(-error));
    }
    return NULL;
}

/* ---- What it is asked --------------------------------------------------------------------------------- */

/* For a while at most. */
static void wait_while(_Atomic uint32_t *word, uint32_t value)
{
    struct timespec look = {.tv_nsec = LOOK_NS};

    (void)system_call(SYS_futex, (long)word, FUTEX_WAIT, value, (long)&look, 0, 0);
}

static bool is_gone(uint32_t process)
{
    return system_call(SYS_kill, process, 0, 0, 0, 0, 0) == -ESRCH;
}

static int take_turn(struct keeper_desk *desk)
{
    uint32_t self = own_number();

    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        uint32_t holder = 0;

        if (atomic_compare_exchange_strong(&desk->turn, &holder, self))
            return 0;
        if (is_gone(holder) && atomic_compare_exchange_strong(&desk->turn, &holder, self))
            return 0;
        wait_while(&desk->turn, holder);
    }
    return -EAGAIN;
}

static void end_turn(struct keeper_desk *desk)
{
    atomic_store(&desk->turn, 0);
    (void)system_call(SYS_futex, (long)&desk->turn, FUTEX_WAKE, 1, 0, 0, 0);
}

/* Until all that was asked, by whoever, is done. */
static int wait_for_keeper(const struct family *family)
{
    struct keeper_desk *desk = family->desk;

    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        struct pollfd end = {.fd = family->socket};
        uint32_t done = atomic_load(&desk->done);

        if (done == atomic_load(&desk->asked))
            return 0;
        if (system_call(SYS_poll, (long)&end, 1, 0, 0, 0, 0) == 1)
            break; /* it is gone */
        wait_while(&desk->done, done);
    }
    return -EPIPE;
}

static int ask(const struct family *family, enum keeper_operation operation, uint32_t window, uint64_t offset,
               const void *bytes, uint64_t size)
{
    struct keeper_desk *desk = family->desk;
    uint8_t byte = 0;
    int error = take_turn(desk);

    if (error != 0)
        return error;
    error = wait_for_keeper(family); /* of who died meanwhile */
    if (error == 0) {
        desk->operation = operation;
        desk->window = window;
        desk->offset = offset;
        desk->bytes = size;
        if (size > 0)
            memcpy(desk->staging, bytes, size);
        atomic_fetch_add(&desk->asked, 1);
        if (system_call(SYS_sendto, family->socket, (long)&byte, sizeof byte, MSG_NOSIGNAL, 0, 0) != 1)
            error = -EPIPE;
    }
    if (error == 0)
        error = wait_for_keeper(family);
    if (error == 0)
        error = desk->error;
    end_turn(desk);
    if (error == -EPIPE)
        settings_log("code in memory that processes share: its keeper is gone, and it can't change any more");
    return error == -EPIPE ? -EPERM : error;
}

bool family_has(const struct family *family, uintptr_t window)
{
    return atomic_load(&family->desk->places[number_of(family, window)]) != 0;
}

int family_take(struct family *family, uintptr_t window, struct chunk *chunk)
{
    uint32_t number = number_of(family, window);
    int error = 0;

    if (atomic_load(&family->desk->places[number]) == 0)
        error = ask(family, KEEPER_TAKE, number, 0, NULL, 0);
    if (error != 0)
        return error;
    chunk->code = family->base + atomic_load(&family->desk->places[number]) - 1;
    chunk->span = (jitc_span){.rx = chunk->code, .size = WINDOW_BYTES};
    chunk->family = family;
    chunk->window = number;
    return 0;
}

int family_write(struct family *family, const struct chunk *chunk, uint64_t offset, const void *bytes,
                 uint64_t size)
{
    int error = 0;

    for (uint64_t done = 0; done < size && error == 0;) {
        uint64_t part = size - done < KEEPER_STAGING_BYTES ? size - done : KEEPER_STAGING_BYTES;

        error = ask(family, KEEPER_WRITE, chunk->window, offset + done, (const uint8_t *)bytes + done, part);
        done += part;
    }
    return error;
}

int family_map(struct family *family, const struct chunk *chunk, uint64_t offset, uint64_t size,
               uintptr_t address)
{
    int status = jitc_map(family->code, &chunk->span, offset, size, (void *)address, 0);

    if (status == JITC_OK)
        return 0;
    settings_log("code can't be mapped: %s", jitc_error_detail());
    return -ENOMEM;
}

/* ---- Who writes, and who waits ------------------------------------------------------------------------ */

static void stop_others(const struct family *family)
{
    siginfo_t info = {.si_signo = FAMILY_SIGNAL, .si_code = SI_QUEUE};
    uint32_t self = own_number();

    info.si_ptr = family->desk; /* at the same address in all of them */
    for (unsigned i = 0; i < KEEPER_MEMBERS_MAX; i++) {
        uint32_t member = atomic_load(&family->desk->members[i]);

        if (member != 0 && member != self &&
            system_call(SYS_rt_sigqueueinfo, member, FAMILY_SIGNAL, (long)&info, 0, 0, 0) == -ESRCH)
            (void)atomic_compare_exchange_strong(&family->desk->members[i], &member, 0);
    }
}

void family_begin_writing(struct family *family)
{
    if (family->is_writing)
        return;
    family->is_writing = true;
    atomic_fetch_add(&family->desk->writers, 1);
    stop_others(family);
}

void family_end_writing(struct family *family)
{
    if (!family->is_writing)
        return;
    family->is_writing = false;
    atomic_fetch_sub(&family->desk->writers, 1);
}

void family_wait_for_writers(const struct family *family)
{
    struct timespec look = {.tv_nsec = WRITER_LOOK_NS};

    if (family->is_writing)
        return;
    for (int looks = 0; looks < WRITER_LOOKS_MAX; looks++) {
        if (atomic_load(&family->desk->writers) == 0)
            return;
        (void)system_call(SYS_nanosleep, (long)&look, 0, 0, 0, 0, 0);
    }
    atomic_store(&family->desk->writers, 0); /* whoever it was has died, or writes on and on */
}

bool family_is_stopped(const siginfo_t *info)
{
    for (unsigned i = 0; info->si_code == SI_QUEUE && i < FAMILIES_MAX; i++) {
        if (families[i].desk == NULL || info->si_ptr != (void *)families[i].desk)
            continue;
        family_wait_for_writers(&families[i]);
        return true;
    }
    return false;
}

void family_join(void)
{
    for (unsigned i = 0; i < FAMILIES_MAX; i++) {
        families[i].is_writing = false;
        if (families[i].desk != NULL)
            join(&families[i]);
    }
}

long family_restore(struct family *family, uintptr_t address, uint64_t bytes)
{
    long result = system_call(SYS_mremap, (long)family->memory + (long)(address - family->start), 0,
                              (long)bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)address, 0);

    return system_failed(result) ? result : 0;
}
