/* SPDX-License-Identifier: MIT */
/*
 * What a process can still do after jitc_lockdown(): each escape is tried for real, once
 * before (it should work: otherwise the refusal proves nothing, and that is printed) and
 * once after. Every test is a process of its own, and runs as whoever starts it and, if
 * that is root, as nobody too.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/membarrier.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jitclient.h"
#include "lockdown.h"
#include "tests/integration/escapes.h"

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

#define NOBODY 65534
#define EXIT_SKIPPED 77 /* as CTest is told */
#define LANDLOCK_ABI_TSYNC 8

/* LeakSanitizer looks for leaks with ptrace, which the lockdown denies, and takes that ill. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

/* ---- Setting ------------------------------------------------------------------ */

/* Every test runs twice: 0 as the caller, 1 as nobody where the caller is root. */
#define USER_COUNT 2

static bool become_user(int which)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    if (which == 0)
        return true;
    if (geteuid() != 0)
        return false; /* has run as this user already */
    ck_assert_int_eq(setresgid(NOBODY, NOBODY, NOBODY), 0);
    ck_assert_int_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
    /* Else /proc/self is root's, and refuses for a reason that is not the lockdown. */
    ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1UL, 0UL, 0UL, 0UL), 0);
    return true;
}

static int kernel_landlock_abi(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
}

/* What this kernel can't give, found out independently of the library. */
static uint32_t kernel_lacks(void)
{
    uint32_t lacks = 0;
    if (prctl(PR_GET_MDWE, 0UL, 0UL, 0UL, 0UL) < 0)
        lacks |= JITC_LOCKDOWN_MDWE;
    if (syscall(SYS_mseal, NULL, (size_t)0, 0UL) < 0)
        lacks |= JITC_LOCKDOWN_SEAL_ARENAS;
    if (kernel_landlock_abi() < 1)
        lacks |= JITC_LOCKDOWN_LANDLOCK;
    return lacks;
}

static void lock_down(uint32_t flags)
{
    uint32_t lacks = kernel_lacks() & (flags ? flags : JITC_LOCKDOWN_ALL);
    uint32_t missing = jitc_lockdown(flags);
    ck_assert_msg(missing == lacks, "missing 0x%x, the kernel lacks 0x%x: %s", missing, lacks,
                  jitc_error_detail());
    if (lacks)
        printf("skipped in part: this kernel lacks 0x%x: %s\n", lacks, jitc_error_detail());
}

/* In a child: 0, an errno, or KILLED_BY(signal). */
static int in_child(int (*attack)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_DUMPABLE, 1UL, 0UL, 0UL, 0UL);
        _exit(attack());
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        abort();
    return WIFSIGNALED(status) ? KILLED_BY(WTERMSIG(status)) : WEXITSTATUS(status);
}

START_TEST(escape_is_refused)
{
    const struct escape *escape = &escapes[_i / USER_COUNT];
    if (!become_user(_i % USER_COUNT))
        return;
    if (kernel_lacks() & escape->step) {
        printf("skipped %s: this kernel lacks what stops it\n", escape->name);
        return;
    }
    int before = in_child(escape->attack);
    if (before != 0)
        printf("%s as uid %d: doesn't work before the lockdown either: %s\n", escape->name, (int)geteuid(),
               before < 0 ? strsignal(-before) : strerror(before));
    lock_down(0);
    int after = escape->refusal < 0 ? in_child(escape->attack) : escape->attack();
    ck_assert_msg(after == escape->refusal, "%s gave %d (%s), not %d", escape->name, after,
                  after > 0 ? strerror(after) : "", escape->refusal);
    /* Its children are no better off. */
    ck_assert_int_eq(in_child(escape->attack), escape->refusal);
}
END_TEST

START_TEST(memfd_from_before_maps_no_more_executable)
{
    if (!become_user(_i))
        return;
    int fd = memfd_create("before", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)page), 0);
    void *writable = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(writable, MAP_FAILED);
    lock_down(0);
    ck_assert_ptr_eq(mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0), MAP_FAILED);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(mprotect(writable, page, PROT_READ | PROT_EXEC), -1);
    ck_assert_int_eq(errno, EPERM);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ck_assert_int_eq(spawn_program(path), EPERM);
}
END_TEST

START_TEST(userfaultfd_from_before_fills_no_executable_page)
{
    if (!become_user(_i))
        return;
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    if (fd < 0) {
        printf("skipped: no userfaultfd: %s\n", strerror(errno));
        return;
    }
    struct uffdio_api api = {.api = UFFD_API};
    ck_assert_int_eq(ioctl(fd, UFFDIO_API, &api), 0);
    unsigned char *code = mmap(NULL, 2 * page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(code, MAP_FAILED);
    struct uffdio_register registration = {.range = {(uintptr_t)code, 2 * page},
                                           .mode = UFFDIO_REGISTER_MODE_MISSING};
    ck_assert_int_eq(ioctl(fd, UFFDIO_REGISTER, &registration), 0);
    unsigned char *source = written_page();
    struct uffdio_copy copy = {.dst = (uintptr_t)code, .src = (uintptr_t)source, .len = page};
    ck_assert_int_eq(ioctl(fd, UFFDIO_COPY, &copy), 0); /* the way in, as long as it is open */
    ck_assert_uint_eq(code[0], 0xc3);

    lock_down(0);
    copy.dst += page;
    ck_assert_int_eq(ioctl(fd, UFFDIO_COPY, &copy), -1);
    ck_assert_int_eq(errno, EPERM);
}
END_TEST

START_TEST(proc_directory_opened_before_leads_to_no_writable_file)
{
    if (!become_user(_i))
        return;
    if (kernel_lacks() & JITC_LOCKDOWN_LANDLOCK) {
        printf("skipped: no Landlock\n");
        return;
    }
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(proc, 0);
    lock_down(0);
    ck_assert_int_eq(openat(proc, "self/mem", O_WRONLY), -1);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_eq(openat(proc, "self/comm", O_WRONLY), -1);
    ck_assert_int_eq(errno, EACCES);
}
END_TEST

/* ---- A procfs in odd places (root only: mounts) ----------------------------------- */

/* A mount namespace of its own, and in it an empty directory; false where that can't be had. */
static bool enter_mount_namespace(char *directory)
{
    if (geteuid() != 0 || kernel_landlock_abi() < 1 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        printf("skipped: needs root, a mount namespace and Landlock\n");
        return false;
    }
    ck_assert_int_eq(mount("none", "/tmp", "tmpfs", 0, NULL), 0); /* nothing is left behind in the real one */
    ck_assert_ptr_nonnull(mkdtemp(directory));
    return true;
}

static int open_under(const char *directory, const char *name, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    int r = result(fd >= 0);
    if (fd >= 0)
        close(fd);
    return r;
}

static void make_directory_under(const char *directory, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
}

START_TEST(procfs_mounted_elsewhere_is_not_writable_either)
{
    char directory[] = "/tmp/jitbroker-lockdown-XXXXXX";
    if (!enter_mount_namespace(directory))
        return;
    char point[256];
    make_directory_under(directory, "a");
    make_directory_under(directory, "a/odd name");
    make_directory_under(directory, "b");
    snprintf(point, sizeof point, "%s/a/odd name", directory);
    ck_assert_int_eq(mount("proc", point, "proc", 0, NULL), 0);
    ck_assert_int_eq(open_under(point, "self/mem", O_RDWR), 0);
    ck_assert_int_eq(open_under(directory, "old", O_RDWR | O_CREAT), 0);
    lock_down(0);
    ck_assert_int_eq(open_under(point, "self/mem", O_RDWR), EACCES);
    ck_assert_int_eq(open_under("/proc", "self/mem", O_RDWR), EACCES);
    ck_assert_int_eq(open_under(directory, "b/file", O_RDWR | O_CREAT), 0);
    ck_assert_int_eq(open_under(directory, "old", O_RDWR), 0);
    ck_assert_int_eq(open_under("/run", "jitbroker-lockdown", O_RDWR | O_CREAT), 0);
    unlink("/run/jitbroker-lockdown");
    /* The price: what is new in a directory that leads to a procfs can't be written. */
    ck_assert_int_eq(open_under(directory, "new", O_RDWR | O_CREAT), EACCES);
}
END_TEST

START_TEST(root_bound_elsewhere_does_not_open_procfs)
{
    char directory[] = "/tmp/jitbroker-lockdown-XXXXXX";
    if (!enter_mount_namespace(directory))
        return;
    char point[256];
    make_directory_under(directory, "root");
    snprintf(point, sizeof point, "%s/root", directory);
    ck_assert_int_eq(mount("/", point, NULL, _i == 0 ? MS_BIND : MS_BIND | MS_REC, NULL), 0);
    lock_down(0);
    ck_assert_int_eq(open_under("/proc", "self/mem", O_RDWR), EACCES);
    int refused = open_under(point, "proc/self/mem", O_RDWR);
    ck_assert_msg(refused == EACCES || refused == ENOENT, "opened: %d", refused);
    ck_assert_int_eq(open_under(point, "run/jitbroker-lockdown", O_RDWR | O_CREAT), 0);
    char file[512];
    snprintf(file, sizeof file, "%s/run/jitbroker-lockdown", point);
    unlink(file);
}
END_TEST

START_TEST(nothing_can_be_mounted_afterwards)
{
    char directory[] = "/tmp/jitbroker-lockdown-XXXXXX";
    if (!enter_mount_namespace(directory))
        return;
    lock_down(0);
    ck_assert_int_eq(mount("proc", directory, "proc", 0, NULL), -1);
    ck_assert_int_eq(errno, EPERM);
}
END_TEST

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

/* ---- The probe ------------------------------------------------------------------------ */

static jitc_probe_result probe_without_broker(int *status)
{
    jitc_options options;
    jitc_options_init(&options);
    options.socket = "/nonexistent/socket";
    options.daemon = "/nonexistent/jitbrokerd";
    jitc_probe_result probe = {.struct_size = sizeof probe};
    *status = jitc_probe(&probe, &options);
    return probe;
}

#define CAN_BY_ITSELF (JITC_CAN_WRITE_EXECUTE | JITC_CAN_FLIP | JITC_CAN_DUAL_MAP | JITC_CAN_MAP_READ_ONLY)

START_TEST(probe_tells_what_the_lockdown_refuses)
{
    if (!become_user(_i))
        return;
    int status;
    jitc_probe_result probe = probe_without_broker(&status);
    ck_assert_int_ne(status, JITC_OK);
    ck_assert_uint_eq(probe.can, CAN_BY_ITSELF);
    ck_assert_uint_eq(probe.lockdown, JITC_LOCKDOWN_ALL & ~kernel_lacks());
    uint32_t lockdown = probe.lockdown;
    lock_down(0);
    probe = probe_without_broker(&status);
    ck_assert_int_ne(status, JITC_OK);
    ck_assert_uint_eq(probe.can, 0);
    ck_assert_uint_eq(probe.lockdown, lockdown);
    ck_assert_uint_lt(strlen(probe.report), sizeof probe.report - 1);
    ck_assert_int_eq(waitpid(-1, NULL, __WALL), -1); /* no child is left */
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(probe_survives_a_filter_that_kills)
{
    if (!become_user(_i))
        return;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    struct scmp_arg_cmp exec = {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC};
    ck_assert_int_eq(seccomp_rule_add_array(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(mmap), 1, &exec), 0);
    ck_assert_int_eq(seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(seccomp), 0), 0);
    ck_assert_int_eq(seccomp_load(filter), 0);
    seccomp_release(filter);
    int status;
    jitc_probe_result probe = probe_without_broker(&status);
    ck_assert_uint_eq(probe.can, JITC_CAN_FLIP);
    ck_assert_ptr_nonnull(strstr(probe.report, "a seccomp filter kills it"));
    ck_assert_ptr_nonnull(strstr(probe.report, "kills whoever asks for seccomp"));
}
END_TEST

START_TEST(probe_fills_no_more_than_it_was_given)
{
    if (!become_user(_i))
        return;
    jitc_probe_result probe;
    memset(&probe, 0x5a, sizeof probe);
    probe.struct_size = offsetof(jitc_probe_result, report) + 10;
    jitc_options options;
    jitc_options_init(&options);
    options.socket = options.daemon = "/nonexistent";
    jitc_probe(&probe, &options);
    ck_assert_int_eq(probe.report[9], '\0');
    ck_assert_int_eq(probe.report[10], 0x5a);
}
END_TEST

/* ---- The manual page --------------------------------------------------------------------- */

START_TEST(manual_page_lists_exactly_what_is_denied)
{
    char path[4096];
    const char *last_slash = strrchr(__FILE__, '/');
    snprintf(path, sizeof path, "%.*s/../../docs/jitc_lockdown.3",
             last_slash ? (int)(last_slash - __FILE__) : 1, last_slash ? __FILE__ : ".");
    FILE *manual = fopen(path, "re");
    if (!manual) {
        printf("skipped: no %s\n", path);
        return;
    }
    size_t listed = 0;
    bool in_list = false;
    char line[512];
    while (fgets(line, sizeof line, manual)) {
        if (strncmp(line, ".Ss ", 4) == 0 || strncmp(line, ".Sh ", 4) == 0)
            in_list = strncmp(line, ".Ss What the filter denies", 26) == 0;
        char name[64];
        if (!in_list || sscanf(line, ".It Xr %63s 2", name) != 1)
            continue;
        const char *denied = lockdown_denied_name(listed++);
        ck_assert_msg(denied && strcmp(denied, name) == 0, "entry %zu is %s, the filter's is %s", listed,
                      name, denied ? denied : "none");
    }
    fclose(manual);
    ck_assert_ptr_null(lockdown_denied_name(listed));
}
END_TEST

static int has_threads_of_its_own(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;
    while (tasks && readdir(tasks))
        count++;
    return count > 3; /* ., .. and this one */
}

int main(void)
{
    if (in_child(has_threads_of_its_own) && kernel_landlock_abi() < LANDLOCK_ABI_TSYNC) {
        printf("skipped: ThreadSanitizer gives every child a thread, which Landlock can't reach on this "
               "kernel\n");
        return EXIT_SKIPPED;
    }
    Suite *suite = suite_create("lockdown");

    TCase *tcase = tcase_create("escapes");
    tcase_add_loop_test(tcase, escape_is_refused, 0, escapes_count * USER_COUNT);
    tcase_add_loop_test(tcase, memfd_from_before_maps_no_more_executable, 0, USER_COUNT);
    tcase_add_loop_test(tcase, userfaultfd_from_before_fills_no_executable_page, 0, USER_COUNT);
    tcase_add_loop_test(tcase, proc_directory_opened_before_leads_to_no_writable_file, 0, USER_COUNT);
    tcase_add_test(tcase, procfs_mounted_elsewhere_is_not_writable_either);
    tcase_add_loop_test(tcase, root_bound_elsewhere_does_not_open_procfs, 0, 2);
    tcase_add_test(tcase, nothing_can_be_mounted_afterwards);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("threads");
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

    tcase = tcase_create("probe");
    tcase_add_loop_test(tcase, probe_tells_what_the_lockdown_refuses, 0, USER_COUNT);
    tcase_add_loop_test(tcase, probe_survives_a_filter_that_kills, 0, USER_COUNT);
    tcase_add_loop_test(tcase, probe_fills_no_more_than_it_was_given, 0, USER_COUNT);
    suite_add_tcase(suite, tcase);

    tcase = tcase_create("manual");
    tcase_add_test(tcase, manual_page_lists_exactly_what_is_denied);
    suite_add_tcase(suite, tcase);

    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
