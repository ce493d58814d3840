/* SPDX-License-Identifier: MIT */
/*
 * What the daemon's filter of system calls lets pass and what it refuses, at the bounds of each
 * comparison. Each try is a process of its own, and is first made without the filter, where it has to
 * be something else than EPERM: or the refusal would prove nothing.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/memfd.h"
#include "daemon/sandbox.h"
#include "tests/harness/suite.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010u
#endif
#define KILLED_BY(signal) (-(signal))

static char folder[] = "/tmp/jitbroker-sandbox-XXXXXX";

static int outcome(long result)
{
    return result == -1 ? errno : 0;
}

static int outcome_of_mapping(const void *memory)
{
    return outcome(memory == MAP_FAILED ? -1 : 0);
}

static int map_anonymous(int protection)
{
    return outcome_of_mapping(mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static int open_file(const char *name, int flags)
{
    char path[64];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return outcome(open(path, flags | O_CLOEXEC, 0600));
}

/* ---- Tries: 0, or errno ------------------------------------------------------------------ */

static int map_read_write(void)
{
    return map_anonymous(PROT_READ | PROT_WRITE);
}
static int map_executable(void)
{
    return map_anonymous(PROT_READ | PROT_EXEC);
}
static int map_file_executable(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    return outcome_of_mapping(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
}
static int protect_read_only(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return outcome(mprotect(memory, 4096, PROT_READ));
}
static int protect_executable(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return outcome(mprotect(memory, 4096, PROT_EXEC));
}
static int make_memfd(void)
{
    int fd = memfd_new("test");

    return fd < 0 ? -fd : 0;
}
static int make_executable_memfd(void)
{
    return outcome(memfd_create("test", MFD_CLOEXEC | MFD_EXEC));
}
static int make_huge_memfd(void)
{
    return outcome(memfd_create("test", MFD_CLOEXEC | MFD_HUGETLB));
}
static int make_mode_0400(void)
{
    return outcome(fchmod(memfd_new("test"), 0400));
}
static int make_mode_0600(void)
{
    return outcome(fchmod(memfd_new("test"), 0600));
}
static int make_mode_0640(void)
{
    return outcome(fchmod(memfd_new("test"), 0640));
}
static int seal(void)
{
    return outcome(fcntl(memfd_new("test"), F_ADD_SEALS, F_SEAL_SHRINK));
}
static int set_flags(void)
{
    return outcome(fcntl(memfd_new("test"), F_SETFL, O_NONBLOCK));
}
static int attach_shared_memory(void)
{
    return outcome(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
}
static int open_to_read(void)
{
    return open_file("there", O_RDONLY);
}
static int open_to_append(void)
{
    return open_file("trail", O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW);
}
static int open_to_make(void)
{
    return open_file("new", O_WRONLY | O_CREAT);
}
static int open_to_empty(void)
{
    return open_file("there", O_WRONLY | O_TRUNC);
}
static int open_to_append_to_nothing(void)
{
    return open_file("there", O_WRONLY | O_APPEND | O_CREAT | O_TRUNC);
}
static int open_without_name(void)
{
    return open_file("", O_RDWR | O_TMPFILE);
}
static int reopen_memfd(void)
{
    char path[32];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", memfd_new("test"));
    return outcome(open(path, O_RDWR | O_CLOEXEC));
}
static int remove_file(void)
{
    char path[64];

    (void)snprintf(path, sizeof path, "%s/victim", folder);
    return outcome(unlink(path));
}
static int make_datagram_socket(void)
{
    return outcome(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}
static int make_stream_socket(void)
{
    return outcome(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
static int make_internet_socket(void)
{
    return outcome(socket(AF_INET, SOCK_DGRAM, 0));
}
static int make_socket_pair(void)
{
    int ends[2];

    return outcome(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends));
}
static int ask_unread(void)
{
    int ends[2];
    int unread;

    (void)socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
    return outcome(ioctl(ends[0], TIOCOUTQ, &unread));
}
static int ask_readable(void)
{
    int ends[2];
    int unread;

    (void)socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
    return outcome(ioctl(ends[0], FIONREAD, &unread));
}
static void *do_nothing(void *argument)
{
    return argument;
}
static int start_thread(void)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, do_nothing, NULL);

    return error == 0 ? pthread_join(thread, NULL) : error;
}
static int start_process(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return outcome(pid);
}
static int enter_namespace(void)
{
    return outcome(unshare(CLONE_FILES));
}
static int start_program(void)
{
    char *const arguments[] = {(char[]){"true"}, NULL};

    return outcome(execve("/bin/true", arguments, NULL));
}
static int start_program_by_descriptor(void)
{
    char *const arguments[] = {(char[]){"true"}, NULL};

    return outcome(syscall(SYS_execveat, AT_FDCWD, "/bin/true", arguments, NULL, 0));
}
static int ask_limit(void)
{
    struct rlimit limit;

    return outcome(getrlimit(RLIMIT_AS, &limit));
}
static int ask_limit_of_parent(void)
{
    struct rlimit limit;

    return outcome(prlimit(getppid(), RLIMIT_AS, NULL, &limit));
}
static int signal_itself(void)
{
    return outcome(kill(getpid(), 0));
}
static int abort_itself(void)
{
    abort();
}
static int ask_dumpable(void)
{
    return outcome(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
}
static int be_traced(void)
{
    return outcome(ptrace(PTRACE_TRACEME, 0, 0, 0));
}
static int wait_for_nobody(void)
{
    return waitpid(-1, NULL, 0) == -1 && errno == ECHILD ? 0 : errno;
}
static int call_nothing(void)
{
    return outcome(syscall(1000)) == ENOSYS ? 0 : errno;
}

#define ANY (-1000) /* whatever, but not EPERM */

static const struct {
    const char *name;
    int (*try)(void);
    int before;
    int after;
} tries[] = {
    {"map read+write", map_read_write, 0, 0},
    {"map read+execute", map_executable, 0, EPERM},
    {"map a file read+execute", map_file_executable, 0, EPERM},
    {"mprotect to read", protect_read_only, 0, 0},
    {"mprotect to execute", protect_executable, 0, EPERM},
    {"memfd as arenas are", make_memfd, 0, 0},
    {"memfd that is executable", make_executable_memfd, ANY, EPERM},
    {"memfd of huge pages", make_huge_memfd, ANY, EPERM},
    {"fchmod 0400", make_mode_0400, 0, 0},
    {"fchmod 0600", make_mode_0600, 0, 0},
    {"fchmod 0640", make_mode_0640, 0, EPERM},
    {"F_ADD_SEALS", seal, 0, 0},
    {"F_SETFL", set_flags, 0, EPERM},
    {"shmget", attach_shared_memory, 0, EPERM},
    {"open to read", open_to_read, 0, 0},
    {"open or make, to append", open_to_append, 0, 0},
    {"make a file", open_to_make, 0, EPERM},
    {"empty a file", open_to_empty, 0, EPERM},
    {"empty a file, to append", open_to_append_to_nothing, 0, EPERM},
    {"make a file without a name", open_without_name, ANY, EPERM},
    {"open a memfd anew", reopen_memfd, 0, 0},
    {"remove a file", remove_file, 0, EPERM},
    {"a datagram socket", make_datagram_socket, 0, 0},
    {"a stream socket", make_stream_socket, 0, EPERM},
    {"an Internet socket", make_internet_socket, ANY, EPERM},
    {"a pair of sockets", make_socket_pair, 0, 0},
    {"SIOCOUTQ", ask_unread, 0, 0},
    {"FIONREAD", ask_readable, 0, EPERM},
    {"a thread", start_thread, 0, 0},
    {"a process", start_process, 0, EPERM},
    {"unshare", enter_namespace, 0, EPERM},
    {"execve", start_program, 0, KILLED_BY(SIGSYS)},
    {"execveat", start_program_by_descriptor, 0, KILLED_BY(SIGSYS)},
    {"getrlimit", ask_limit, 0, 0},
    {"another's limit", ask_limit_of_parent, 0, EPERM},
    {"kill", signal_itself, 0, EPERM},
    {"abort", abort_itself, KILLED_BY(SIGABRT), KILLED_BY(SIGABRT)},
    {"prctl", ask_dumpable, 0, EPERM},
    {"ptrace", be_traced, 0, EPERM},
    {"waitpid", wait_for_nobody, 0, EPERM},
    {"a call that doesn't exist", call_nothing, 0, EPERM},
};

static void make_file(const char *name)
{
    char path[64];
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
}

static void make_files(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    make_file("there");
    make_file("victim");
}

static void remove_files(void)
{
    static const char *const names[] = {"there", "victim", "trail", "new"};
    char path[64];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    ck_assert_int_eq(rmdir(folder), 0);
}

enum confinement { FREE, CONFINED, CONFINED_WITH_PATH };

/* In a child: 0, an errno, or KILLED_BY(signal). */
static int in_child(int (*try)(void), enum confinement confinement)
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        const struct rlimit no_core = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (confinement != FREE && sandbox_install(confinement == CONFINED_WITH_PATH) != 0)
            _exit(255);
        _exit(try());
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? KILLED_BY(WTERMSIG(status)) : WEXITSTATUS(status);
}

START_TEST(a_call_passes_or_is_refused_as_the_table_has_it)
{
    int before = in_child(tries[_i].try, FREE);
    int after;

    make_file("victim");
    after = in_child(tries[_i].try, CONFINED);
    if (tries[_i].before == ANY)
        ck_assert_msg(before != EPERM, "%s: refused without the filter", tries[_i].name);
    else
        ck_assert_msg(before == tries[_i].before, "%s: %d without the filter", tries[_i].name, before);
    ck_assert_msg(after == tries[_i].after, "%s: %d, not %d", tries[_i].name, after, tries[_i].after);
}
END_TEST

START_TEST(only_a_daemon_with_a_path_of_its_own_may_remove_a_file)
{
    make_file("victim");
    ck_assert_int_eq(in_child(remove_file, CONFINED), EPERM);
    ck_assert_int_eq(in_child(remove_file, CONFINED_WITH_PATH), 0);
}
END_TEST

static pthread_barrier_t barrier;

static void *map_when_told(void *argument)
{
    int *result = argument;

    (void)pthread_barrier_wait(&barrier);
    *result = map_executable();
    return NULL;
}

static int map_in_older_thread(void)
{
    pthread_t thread;
    int result = 0;

    (void)pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&thread, NULL, map_when_told, &result) != 0 || sandbox_install(false) != 0)
        return 255;
    (void)pthread_barrier_wait(&barrier);
    (void)pthread_join(thread, NULL);
    return result;
}

START_TEST(threads_that_are_there_already_are_confined_too)
{
    ck_assert_int_eq(in_child(map_in_older_thread, FREE), EPERM);
}
END_TEST

int main(void)
{
    Suite *suite;
    TCase *all;

#ifdef JITBROKER_INSTRUMENTED
    (void)printf("skipped: this build is instrumented, and has no filter\n");
    return 77;
#endif
    suite = suite_create("sandbox filter");
    all = tcase_create("all");
    tcase_add_unchecked_fixture(all, make_files, remove_files);
    tcase_add_loop_test(all, a_call_passes_or_is_refused_as_the_table_has_it, 0,
                        sizeof tries / sizeof tries[0]);
    tcase_add_test(all, only_a_daemon_with_a_path_of_its_own_may_remove_a_file);
    tcase_add_test(all, threads_that_are_there_already_are_confined_too);
    tcase_set_timeout(all, 0);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
