/* SPDX-License-Identifier: MIT */
/*
 * How jitc_lockdown() is applied: to all threads or told, in parts, again; what it says of what it
 * could not do; and what goes on working afterwards.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jitclient.h"
#include "tests/harness/attack.h"
#include "tests/harness/suite.h"
#include "tests/integration/escapes.h"
#include "tests/integration/subject.h"

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

/* ---- Threads -------------------------------------------------------------------- */

struct waiting_thread {
    pthread_t thread;
    pthread_barrier_t barrier; /* passed once before the lockdown, once after */
    void (*prepare)(void);
    int map_error;
    int no_new_privs;
    int proc_error;
};

static void *waiting_thread_run(void *argument)
{
    struct waiting_thread *self = argument;
    if (self->prepare)
        self->prepare();
    pthread_barrier_wait(&self->barrier);
    pthread_barrier_wait(&self->barrier);
    self->map_error = map_anonymous_executable();
    self->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0UL, 0UL, 0UL, 0UL);
    self->proc_error = write_code_through_self_mem();
    return NULL;
}

static void waiting_thread_start(struct waiting_thread *thread)
{
    ck_assert_int_eq(pthread_barrier_init(&thread->barrier, NULL, 2), 0);
    ck_assert_int_eq(pthread_create(&thread->thread, NULL, waiting_thread_run, thread), 0);
    pthread_barrier_wait(&thread->barrier);
}

static void waiting_thread_finish(struct waiting_thread *thread)
{
    pthread_barrier_wait(&thread->barrier);
    ck_assert_int_eq(pthread_join(thread->thread, NULL), 0);
}

START_TEST(threads_from_before_are_locked_too)
{
    if (!become_user(_i))
        return;
    struct waiting_thread other = {.prepare = NULL};
    waiting_thread_start(&other);
    uint32_t missing = jitc_lockdown(0);
    bool syncs = kernel_landlock_abi() >= LANDLOCK_ABI_TSYNC;
    ck_assert_uint_eq(missing, kernel_lacks() | (syncs ? 0 : JITC_LOCKDOWN_LANDLOCK));
    if (!syncs)
        ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "other threads exist"));
    ck_assert_int_eq(write_code_through_self_mem(), EACCES); /* this thread is restricted either way */
    ck_assert_uint_eq(jitc_lockdown(0), missing);            /* and a second call doesn't forget */
    waiting_thread_finish(&other);
    ck_assert_int_eq(other.map_error, EPERM);
    ck_assert_int_eq(other.no_new_privs, 1);
    ck_assert_int_eq(other.proc_error, syncs ? EACCES : 0);
}
END_TEST

START_TEST(no_new_privs_alone_reaches_every_thread)
{
    if (!become_user(_i))
        return;
    struct waiting_thread other = {.prepare = NULL};
    waiting_thread_start(&other);
    ck_assert_uint_eq(jitc_lockdown(JITC_LOCKDOWN_NO_NEW_PRIVS), 0);
    waiting_thread_finish(&other);
    ck_assert_int_eq(other.no_new_privs, 1);
    ck_assert_int_eq(other.map_error, 0);
}
END_TEST

static void install_filter_of_ones_own(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(kcmp), 0);
    ck_assert_int_eq(seccomp_load(filter), 0);
    seccomp_release(filter);
}

START_TEST(thread_with_filter_of_its_own_is_reported)
{
    if (!become_user(_i))
        return;
    struct waiting_thread other = {.prepare = install_filter_of_ones_own};
    waiting_thread_start(&other);
    uint32_t missing = jitc_lockdown(JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_SECCOMP);
    ck_assert_uint_eq(missing, JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_SECCOMP);
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "filter of its own"));
    waiting_thread_finish(&other);
    ck_assert_int_eq(other.map_error, 0);
}
END_TEST

static void read_as_exec(void)
{
    ck_assert_int_ge(personality(READ_IMPLIES_EXEC), 0);
}

START_TEST(thread_whose_reads_imply_exec_is_reported)
{
    if (!become_user(_i))
        return;
    struct waiting_thread other = {.prepare = read_as_exec};
    waiting_thread_start(&other);
    uint32_t flags = JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_SECCOMP;
    ck_assert_uint_eq(jitc_lockdown(flags), JITC_LOCKDOWN_SECCOMP);
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "READ_IMPLIES_EXEC"));
    waiting_thread_finish(&other);
    ck_assert_uint_eq(jitc_lockdown(flags), 0); /* the thread is gone */
}
END_TEST

static void *allocate_and_lock(void *argument)
{
    pthread_mutex_t *mutex = argument;
    for (int i = 0; i < 1000; i++) {
        char *memory = malloc(1 + (size_t)i * 997);
        if (!memory)
            return NULL;
        memory[0] = 1;
        pthread_mutex_lock(mutex);
        pthread_mutex_unlock(mutex);
        free(memory);
    }
    return map_anonymous_executable() == EPERM && write_code_through_self_mem() == EACCES ? argument : NULL;
}

START_TEST(threads_can_be_started_afterwards_and_are_locked)
{
    if (!become_user(_i))
        return;
    if (kernel_lacks() & JITC_LOCKDOWN_LANDLOCK) {
        printf("skipped: no Landlock\n");
        return;
    }
    lock_down(0);
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, allocate_and_lock, &mutex), 0);
    for (int i = 0; i < THREADS; i++) {
        void *passed = NULL;
        ck_assert_int_eq(pthread_join(threads[i], &passed), 0);
        ck_assert_ptr_nonnull(passed);
    }
}
END_TEST

/* ---- Flags and repetition ---------------------------------------------------------- */

static long status_number(const char *field)
{
    FILE *status = fopen("/proc/self/status", "re");
    ck_assert_ptr_nonnull(status);
    char line[256];
    long value = -1;
    while (fgets(line, sizeof line, status)) {
        if (strncmp(line, field, strlen(field)) == 0)
            value = atol(line + strlen(field));
    }
    fclose(status);
    return value;
}

START_TEST(second_call_returns_the_same_and_adds_no_filter)
{
    if (!become_user(_i))
        return;
    lock_down(0);
    long filters = status_number("Seccomp_filters:");
    for (int i = 0; i < 40; i++) /* Landlock has room for 16 layers */
        lock_down(0);
    ck_assert_int_eq(status_number("Seccomp_filters:"), filters);
    ck_assert_int_eq(map_anonymous_executable(), EPERM);
}
END_TEST

/* What is in force, as the kernel and a try of each tells it. */
static uint32_t in_force(void)
{
    uint32_t flags = 0;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0UL, 0UL, 0UL, 0UL) == 1)
        flags |= JITC_LOCKDOWN_NO_NEW_PRIVS;
    if (prctl(PR_GET_MDWE, 0UL, 0UL, 0UL, 0UL) == 1)
        flags |= JITC_LOCKDOWN_MDWE;
    if (map_anonymous_executable() == EPERM) /* MDWE allows it */
        flags |= JITC_LOCKDOWN_SECCOMP;
    if (write_code_through_self_mem() == EACCES)
        flags |= JITC_LOCKDOWN_LANDLOCK;
    return flags;
}

static const uint32_t subsets[] = {
    JITC_LOCKDOWN_NO_NEW_PRIVS,
    JITC_LOCKDOWN_MDWE,
    JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_SECCOMP,
    JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_LANDLOCK,
    JITC_LOCKDOWN_NO_NEW_PRIVS | JITC_LOCKDOWN_MDWE | JITC_LOCKDOWN_SECCOMP,
};

#define SUBSET_COUNT ((int)(sizeof subsets / sizeof subsets[0]))

START_TEST(only_what_is_asked_for_is_applied)
{
    if (!become_user(_i % USER_COUNT))
        return;
    uint32_t flags = subsets[_i / USER_COUNT];
    ck_assert_uint_eq(in_force(), 0);
    lock_down(flags);
    ck_assert_uint_eq(in_force(), flags & ~kernel_lacks());
    lock_down(0);
    ck_assert_uint_eq(in_force(), JITC_LOCKDOWN_ALL & ~JITC_LOCKDOWN_SEAL_ARENAS & ~kernel_lacks());
}
END_TEST

START_TEST(seccomp_and_landlock_without_privileges_need_no_new_privs)
{
    if (!become_user(1)) {
        printf("skipped: needs root, to stop being it\n");
        return;
    }
    uint32_t flags = JITC_LOCKDOWN_SECCOMP | JITC_LOCKDOWN_LANDLOCK;
    ck_assert_uint_eq(jitc_lockdown(flags), flags);
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "JITC_LOCKDOWN_NO_NEW_PRIVS"));
    ck_assert_uint_eq(in_force(), 0);
    lock_down(flags | JITC_LOCKDOWN_NO_NEW_PRIVS);
}
END_TEST

START_TEST(allow_exec_leaves_execve_until_it_is_denied)
{
    if (!become_user(_i))
        return;
    lock_down(JITC_LOCKDOWN_ALLOW_EXEC); /* by itself: all the rest */
    ck_assert_int_eq(execute_program(), 0);
    ck_assert_int_eq(map_anonymous_executable(), EPERM);
    ck_assert_int_eq(map_memfd_twice(), EPERM);
    lock_down(0);
    ck_assert_int_eq(execute_program(), EPERM);
    uint32_t missing = jitc_lockdown(JITC_LOCKDOWN_ALL | JITC_LOCKDOWN_ALLOW_EXEC);
    ck_assert_uint_eq(missing, JITC_LOCKDOWN_ALLOW_EXEC | kernel_lacks());
}
END_TEST

START_TEST(unknown_flag_is_returned)
{
    if (!become_user(_i))
        return;
    ck_assert_uint_eq(jitc_lockdown(JITC_LOCKDOWN_NO_NEW_PRIVS | 0x80000000U), 0x80000000U);
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), "0x80000000"));
}
END_TEST

START_TEST(writable_code_from_before_is_reported)
{
    if (!become_user(_i))
        return;
    if (kernel_lacks() & JITC_LOCKDOWN_MDWE) {
        printf("skipped: no MDWE\n");
        return;
    }
    void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    ck_assert_uint_eq(jitc_lockdown(0), JITC_LOCKDOWN_MDWE | kernel_lacks());
    char address[32];
    snprintf(address, sizeof address, "%lx", (unsigned long)(uintptr_t)memory);
    ck_assert_ptr_nonnull(strstr(jitc_error_detail(), address));
    ck_assert_int_eq(munmap(memory, page), 0);
    lock_down(0);
}
END_TEST

START_TEST(read_implies_exec_is_cleared)
{
    if (!become_user(_i))
        return;
    read_as_exec();
    lock_down(0);
    ck_assert_int_eq(personality(0xffffffff) & READ_IMPLIES_EXEC, 0);
    ck_assert_ptr_ne(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                     MAP_FAILED);
}
END_TEST

/* ---- What goes on working ------------------------------------------------------------ */

static int exit_quietly(void)
{
    return 0;
}

START_TEST(memory_and_processes_go_on_working)
{
    if (!become_user(_i))
        return;
    lock_down(0);
    char *memory = malloc(64UL << 20);
    ck_assert_ptr_nonnull(memory);
    memory[0] = 1;
    memory = realloc(memory, 128UL << 20);
    ck_assert_ptr_nonnull(memory);
    free(memory);
    void *pages = written_page();
    ck_assert_int_eq(mprotect(pages, page, PROT_READ), 0);
    ck_assert_int_eq(mprotect(pages, page, PROT_NONE), 0);
    ck_assert_int_eq(in_child(exit_quietly), 0);
    ck_assert_int_ge(personality(0xffffffff), 0);
    ck_assert_int_eq(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0), 0);
    ck_assert_int_eq(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0), 0);
    int id = shmget(IPC_PRIVATE, page, 0600);
    ck_assert_ptr_ne(shmat(id, NULL, 0), (void *)-1);
    shmctl(id, IPC_RMID, NULL);
}
END_TEST

START_TEST(files_go_on_working)
{
    if (!become_user(_i))
        return;
    lock_down(0);
    char directory[] = "/tmp/jitbroker-lockdown-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(directory));
    make_directory_under(directory, "a");
    make_directory_under(directory, "b");
    ck_assert_int_eq(open_under(directory, "a/file", O_RDWR | O_CREAT | O_TRUNC), 0);
    char from[256];
    char to[256];
    snprintf(from, sizeof from, "%s/a/file", directory);
    snprintf(to, sizeof to, "%s/b/file", directory);
    if (kernel_landlock_abi() >= 2)
        ck_assert_int_eq(rename(from, to), 0); /* into another directory: REFER */
    else
        printf("skipped: rename across directories, which Landlock ABI 1 refuses\n");
    ck_assert_int_eq(open_under("/dev", "null", O_RDWR), 0);
    ck_assert_int_eq(open_under("/proc", "self/maps", O_RDONLY), 0);
    /* Pipes and sockets have no place in the tree; they open through /proc/self/fd. */
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[1]);
    ck_assert_int_ge(open(path, O_WRONLY | O_CLOEXEC), 0);
    unlink(from);
    unlink(to);
    snprintf(from, sizeof from, "%s/a", directory);
    rmdir(from);
    snprintf(to, sizeof to, "%s/b", directory);
    rmdir(to);
    rmdir(directory);
}
END_TEST

START_TEST(sockets_go_on_working)
{
    if (!become_user(_i))
        return;
    lock_down(0);
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    int event = eventfd(1, EFD_CLOEXEC);
    ck_assert_int_ge(event, 0);
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = {
        .header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &event, sizeof event);
    char byte = 1;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ck_assert_int_eq(sendmsg(pair[0], &message, 0), 1);
    ck_assert_int_eq(recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC), 1);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event interest = {.events = EPOLLIN};
    ck_assert_int_eq(epoll_ctl(poller, EPOLL_CTL_ADD, event, &interest), 0);
    ck_assert_int_eq(epoll_wait(poller, &interest, 1, 0), 1);
    int inet = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(inet, 0);
    ck_assert_int_eq(listen(inet, 1), 0);
}
END_TEST

int main(void)
{
    if (has_thread_out_of_reach())
        return EXIT_SKIPPED;
    Suite *suite = suite_create("lockdown: use");
    TCase *tcase = tcase_create("threads");
    tcase_add_loop_test(tcase, threads_from_before_are_locked_too, 0, USER_COUNT);
    tcase_add_loop_test(tcase, no_new_privs_alone_reaches_every_thread, 0, USER_COUNT);
    tcase_add_loop_test(tcase, thread_with_filter_of_its_own_is_reported, 0, USER_COUNT);
    tcase_add_loop_test(tcase, thread_whose_reads_imply_exec_is_reported, 0, USER_COUNT);
    tcase_add_loop_test(tcase, threads_can_be_started_afterwards_and_are_locked, 0, USER_COUNT);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("flags");
    tcase_add_loop_test(tcase, second_call_returns_the_same_and_adds_no_filter, 0, USER_COUNT);
    tcase_add_loop_test(tcase, only_what_is_asked_for_is_applied, 0, SUBSET_COUNT * USER_COUNT);
    tcase_add_test(tcase, seccomp_and_landlock_without_privileges_need_no_new_privs);
    tcase_add_loop_test(tcase, allow_exec_leaves_execve_until_it_is_denied, 0, USER_COUNT);
    tcase_add_loop_test(tcase, unknown_flag_is_returned, 0, USER_COUNT);
    tcase_add_loop_test(tcase, writable_code_from_before_is_reported, 0, USER_COUNT);
    tcase_add_loop_test(tcase, read_implies_exec_is_cleared, 0, USER_COUNT);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("ordinary");
    tcase_add_loop_test(tcase, memory_and_processes_go_on_working, 0, USER_COUNT);
    tcase_add_loop_test(tcase, files_go_on_working, 0, USER_COUNT);
    tcase_add_loop_test(tcase, sockets_go_on_working, 0, USER_COUNT);
    suite_add_tcase(suite, tcase);

    return suite_run(suite);
}
