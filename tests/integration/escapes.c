/* SPDX-License-Identifier: MIT */
#include "tests/integration/escapes.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jitclient.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef ARCH_MAP_VDSO_64
#define ARCH_MAP_VDSO_64 0x2003
#endif

size_t page;

static int anonymous_file(void)
{
    char path[] = "/tmp/jitbroker-lockdown-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

/* ---- Escapes: 0 when it worked, else errno -------------------------------------- */

int map_anonymous_executable(void)
{
    return result(mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static int map_anonymous_writable_and_executable(void)
{
    return result(mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                  MAP_FAILED);
}

static int map_file_executable(void)
{
    int fd = anonymous_file();
    if (fd < 0 || write(fd, "\xc3", 1) != 1)
        return errno;
    return result(mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED);
}

static int map_file_writable_and_executable(void)
{
    int fd = anonymous_file();
    if (fd < 0 || write(fd, "\xc3", 1) != 1)
        return errno;
    return result(mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED);
}

static int map_shared_memory_executable(void)
{
    char name[64];
    snprintf(name, sizeof name, "/jitbroker-lockdown-%d", (int)getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return errno;
    shm_unlink(name);
    if (ftruncate(fd, (off_t)page) < 0)
        return errno;
    return result(mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) != MAP_FAILED);
}

void *written_page(void)
{
    unsigned char *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    memory[0] = 0xc3;
    return memory;
}

static int make_written_page_executable(void)
{
    return result(mprotect(written_page(), page, PROT_READ | PROT_EXEC) == 0);
}

static int make_written_page_executable_by_pkey(void)
{
    return result(syscall(SYS_pkey_mprotect, written_page(), page, PROT_READ | PROT_EXEC, -1) == 0);
}

int map_memfd_twice(void)
{
    int fd = memfd_create("escape", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)page) < 0)
        return errno;
    return result(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED &&
                  mmap(NULL, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) != MAP_FAILED);
}

static int make_secret_memfd(void)
{
    return result(syscall(SYS_memfd_secret, 0) >= 0);
}

static int attach_executable_shm(void)
{
    int id = shmget(IPC_PRIVATE, page, 0700);
    if (id < 0)
        return errno;
    int r = result(shmat(id, NULL, SHM_EXEC) != (void *)-1);
    shmctl(id, IPC_RMID, NULL);
    return r;
}

static int let_read_imply_exec(void)
{
    return result(personality(READ_IMPLIES_EXEC) >= 0);
}

static int let_read_imply_exec_with_high_bits(void)
{
    return result(syscall(SYS_personality, 0x100000000UL | READ_IMPLIES_EXEC) >= 0);
}

static int remap_pages_of_file(void)
{
    int fd = anonymous_file();
    if (fd < 0 || ftruncate(fd, (off_t)(2 * page)) < 0)
        return errno;
    void *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return errno;
    return result(remap_file_pages(memory, page, 0, 1, 0) == 0);
}

static int make_userfaultfd(void)
{
    return result(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY) >= 0);
}

static int make_userfaultfd_by_device(void)
{
    int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fd = open("/dev/null", O_RDWR | O_CLOEXEC); /* the filter looks at the request, not at the file */
    return result(ioctl(fd, USERFAULTFD_IOC_NEW, 0) >= 0);
}

static int set_up_io_uring(void)
{
    unsigned char parameters[256] = {0};
    return result(syscall(SYS_io_uring_setup, 4, parameters) >= 0);
}

static int enter_io_uring(void)
{
    return result(syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, (size_t)0) >= 0);
}

static int register_with_io_uring(void)
{
    return result(syscall(SYS_io_uring_register, -1, 0, NULL, 0) >= 0);
}

static int trace_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    int r = result(ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, __WALL);
    return r;
}

static int write_memory_of_child(void)
{
    static char target[16];
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    char byte = 1;
    struct iovec local = {&byte, 1};
    struct iovec remote = {target, 1};
    int r = result(process_vm_writev(pid, &local, 1, &remote, 1, 0) == 1);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return r;
}

static int take_descriptor_of_process(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    long pidfd = syscall(SYS_pidfd_open, getpid(), 0);
    if (fd < 0 || pidfd < 0)
        return errno;
    return result(syscall(SYS_pidfd_getfd, pidfd, fd, 0) >= 0);
}

static int write_code_through(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno;
    /* libc's getppid, over which its own first byte is written. */
    pid_t (*function)(void) = getppid;
    uintptr_t address;
    memcpy(&address, &function, sizeof address);
    unsigned char byte;
    if (pread(fd, &byte, 1, (off_t)address) != 1)
        return errno;
    return result(pwrite(fd, &byte, 1, (off_t)address) == 1);
}

int write_code_through_self_mem(void)
{
    return write_code_through("/proc/self/mem");
}

static int write_code_through_thread_mem(void)
{
    return write_code_through("/proc/thread-self/mem");
}

static int write_code_through_pid_mem(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/mem", (int)getpid(), (int)getpid());
    return write_code_through(path);
}

static int write_code_through_link_to_mem(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/jitbroker-lockdown-link-%d", (int)getpid());
    if (symlink("/proc/self/mem", path) < 0)
        return errno;
    int r = write_code_through(path);
    unlink(path);
    return r;
}

int spawn_program(const char *path)
{
    char *const arguments[] = {(char *)path, NULL};
    char *const environment[] = {NULL};
    posix_spawn_file_actions_t quiet; /* what starts can't load libc, and complains */
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t pid;
    int r = posix_spawn(&pid, path, &quiet, NULL, arguments, environment);
    posix_spawn_file_actions_destroy(&quiet);
    if (r == 0)
        waitpid(pid, NULL, 0);
    return r;
}

int execute_program(void)
{
    return spawn_program("/bin/true");
}

static int execute_file_it_wrote(void)
{
    char path[] = "/tmp/jitbroker-lockdown-XXXXXX";
    int from = open("/bin/true", O_RDONLY | O_CLOEXEC);
    int to = mkostemp(path, O_CLOEXEC);
    if (from < 0 || to < 0)
        return errno;
    char buffer[4096];
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;) {
        if (write(to, buffer, (size_t)n) != n)
            return errno;
    }
    fchmod(to, 0700);
    close(from);
    close(to);
    int r = spawn_program(path);
    unlink(path);
    return r;
}

static int execute_descriptor(void)
{
    int fd = open("/bin/true", O_RDONLY | O_CLOEXEC);
    char *const arguments[] = {(char *)"true", NULL};
    char *const environment[] = {NULL};
    syscall(SYS_execveat, fd, "", arguments, environment, AT_EMPTY_PATH);
    return errno;
}

static int arm_perf_event(void)
{
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof attributes,
        .config = PERF_COUNT_SW_TASK_CLOCK,
        .exclude_kernel = 1,
    };
    return result(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0UL) >= 0);
}

static int make_bpf_map(void)
{
    union bpf_attr attributes = {
        .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return result(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes) >= 0);
}

#ifdef __x86_64__
static int read_ldt(void)
{
    char table[64];
    return result(syscall(SYS_modify_ldt, 0, table, sizeof table) >= 0);
}

static int map_another_vdso(void)
{
    return result(syscall(SYS_arch_prctl, ARCH_MAP_VDSO_64, 0UL) >= 0);
}

static int use_library(void)
{
    return result(syscall(SYS_uselib, "/nonexistent") >= 0);
}

/* getpid by the 32-bit entry: another architecture to seccomp, with other numbers. */
static int call_as_i386(void)
{
    long r = 20;
    __asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
    return r > 0 ? 0 : ENOSYS;
}

static int call_as_x32(void)
{
    return result(syscall(0x40000000 | SYS_getpid) > 0);
}
#endif

#define ESCAPE(attack, row, refusal)                               \
    {                                                              \
#attack, (row), (attack), (refusal), JITC_LOCKDOWN_SECCOMP \
    }
#define ESCAPE_BY_PROC(attack)                                             \
    {                                                                      \
#attack, "lockdown-proc", (attack), EACCES, JITC_LOCKDOWN_LANDLOCK \
    }

const struct escape escapes[] = {
    ESCAPE(map_anonymous_executable, "lockdown-anonymous", EPERM),
    ESCAPE(map_anonymous_writable_and_executable, "lockdown-anonymous", EPERM),
    ESCAPE(map_file_executable, "lockdown-file", EPERM),
    ESCAPE(map_file_writable_and_executable, "lockdown-file", EPERM),
    ESCAPE(map_shared_memory_executable, "lockdown-file", EPERM),
    ESCAPE(make_written_page_executable, "lockdown-anonymous", EPERM),
    ESCAPE(make_written_page_executable_by_pkey, "lockdown-pkey", EPERM),
    ESCAPE(map_memfd_twice, "lockdown-memfd", EPERM),
    ESCAPE(make_secret_memfd, "lockdown-secret", EPERM),
    ESCAPE(attach_executable_shm, "lockdown-shmat", EPERM),
    ESCAPE(let_read_imply_exec, "lockdown-personality", EPERM),
    ESCAPE(let_read_imply_exec_with_high_bits, "lockdown-personality", EPERM),
    ESCAPE(remap_pages_of_file, "lockdown-remap", EPERM),
    ESCAPE(make_userfaultfd, "lockdown-userfaultfd", EPERM),
    ESCAPE(make_userfaultfd_by_device, "lockdown-userfaultfd", EPERM),
    ESCAPE(set_up_io_uring, "lockdown-uring", EPERM),
    ESCAPE(enter_io_uring, "lockdown-uring", EPERM),
    ESCAPE(register_with_io_uring, "lockdown-uring", EPERM),
    ESCAPE(trace_child, "lockdown-others", EPERM),
    ESCAPE(write_memory_of_child, "lockdown-others", EPERM),
    ESCAPE(take_descriptor_of_process, "lockdown-others", EPERM),
    ESCAPE(execute_program, "lockdown-execute", EPERM),
    ESCAPE(execute_file_it_wrote, "lockdown-execute", EPERM),
    ESCAPE(execute_descriptor, "lockdown-execute", EPERM),
    ESCAPE(arm_perf_event, "lockdown-kernel", EPERM),
    ESCAPE(make_bpf_map, "lockdown-kernel", EPERM),
    ESCAPE_BY_PROC(write_code_through_self_mem),
    ESCAPE_BY_PROC(write_code_through_thread_mem),
    ESCAPE_BY_PROC(write_code_through_pid_mem),
    ESCAPE_BY_PROC(write_code_through_link_to_mem),
#ifdef __x86_64__
    ESCAPE(read_ldt, "lockdown-kernel", EPERM),
    ESCAPE(map_another_vdso, "lockdown-kernel", EPERM),
    ESCAPE(use_library, "lockdown-kernel", EPERM),
    ESCAPE(call_as_i386, "lockdown-compat", KILLED_BY(SIGSYS)),
    ESCAPE(call_as_x32, "lockdown-compat", KILLED_BY(SIGSYS)),
#endif
};

const int escapes_count = (int)(sizeof escapes / sizeof escapes[0]);
