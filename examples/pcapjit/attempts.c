/* SPDX-License-Identifier: MIT */
/*
 * Every attempt is a system call that reports what the kernel thinks of it, so that
 * none of them can kill the process: even the plain store is made by read(2).
 * All write the byte that is there already, so success would change nothing.
 */
#include "attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* The first page that the code lies in. */
static void *code_page(const void *code)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    return (void *)((uintptr_t)code & ~(page - 1));
}

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Each returns whether it got through; errno says why not. */

static bool store(const void *code)
{
    int fds[2];
    bool succeeds;
    int why;

    if (pipe2(fds, O_CLOEXEC) != 0)
        return false;
    succeeds = write(fds[1], code, 1) == 1 && read(fds[0], (void *)(uintptr_t)code, 1) == 1;
    why = errno;
    close(fds[0]);
    close(fds[1]);
    errno = why;
    return succeeds;
}

static bool make_code_writable(const void *code)
{
    return mprotect(code_page(code), page_bytes(), PROT_READ | PROT_WRITE) == 0;
}

static bool make_code_writable_and_executable(const void *code)
{
    return mprotect(code_page(code), page_bytes(), PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
}

static bool write_proc_self_mem(const void *code)
{
    int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    bool succeeds;
    int why;

    if (fd < 0)
        return false;
    succeeds = pwrite(fd, code, 1, (off_t)(uintptr_t)code) == 1;
    why = errno;
    close(fd);
    errno = why;
    return succeeds;
}

static bool write_process_memory(const void *code)
{
    struct iovec from = {.iov_base = (void *)(uintptr_t)code, .iov_len = 1};
    struct iovec to = from;

    return process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 1;
}

static bool map_anonymous(int protection)
{
    void *memory = mmap(NULL, page_bytes(), protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return false;
    munmap(memory, page_bytes());
    return true;
}

static bool map_executable(const void *code)
{
    (void)code;
    return map_anonymous(PROT_READ | PROT_EXEC);
}

static bool map_writable_and_executable(const void *code)
{
    (void)code;
    return map_anonymous(PROT_READ | PROT_WRITE | PROT_EXEC);
}

static bool fill_then_make_executable(const void *code)
{
    const char *step;
    int r = attempts_plain_code(code, 1, &step);

    errno = -r;
    return r == 0;
}

static bool create_memory_file(const void *code)
{
    int fd = memfd_create("pcapjit", MFD_CLOEXEC);

    (void)code;
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

static const struct {
    const char *name;
    bool (*succeeds)(const void *code);
} list[] = {
    {"store into its code", store},
    {"write its code through /proc/self/mem", write_proc_self_mem},
    {"write its code by process_vm_writev", write_process_memory},
    {"mprotect its code PROT_WRITE", make_code_writable},
    {"mprotect its code PROT_WRITE|PROT_EXEC", make_code_writable_and_executable},
    {"mmap anonymous PROT_EXEC", map_executable},
    {"mmap anonymous PROT_WRITE|PROT_EXEC", map_writable_and_executable},
    {"mmap anonymous PROT_WRITE, then mprotect PROT_EXEC", fill_then_make_executable},
    {"memfd_create", create_memory_file},
};

void attempts_run(struct attempts *attempts, const void *code, FILE *out)
{
    *attempts = (struct attempts){0};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        attempts->tried++;
        errno = 0;
        if (list[i].succeeds(code)) {
            fprintf(out, "attempt: %s: NOT REFUSED\n", list[i].name);
            continue;
        }
        fprintf(out, "attempt: %s: refused (%s)\n", list[i].name, attempts_errno_name(errno));
        attempts->refused++;
    }
}

int attempts_plain_code(const void *code, size_t size, const char **step)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int r = 0;

    *step = "mmap(PROT_READ | PROT_WRITE)";
    if (memory == MAP_FAILED)
        return -errno;
    memcpy(memory, code, size);
    *step = "mprotect(PROT_READ | PROT_EXEC)";
    if (mprotect(memory, size, PROT_READ | PROT_EXEC) != 0)
        r = -errno;
    munmap(memory, size);
    return r;
}

const char *attempts_errno_name(int number)
{
    switch (number) {
    case EPERM:
        return "EPERM";
    case EACCES:
        return "EACCES";
    case EFAULT:
        return "EFAULT";
    case EIO:
        return "EIO";
    case EINVAL:
        return "EINVAL";
    case ENOENT:
        return "ENOENT";
    case ENOMEM:
        return "ENOMEM";
    case ENOSYS:
        return "ENOSYS";
    default:
        return strerror(number);
    }
}
