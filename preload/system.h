/* SPDX-License-Identifier: MIT */
/*
 * System calls as the kernel has them: a result, or a negative errno. They don't pass through libc, whose
 * functions are interposed here and set errno.
 */
#ifndef PRELOAD_SYSTEM_H
#define PRELOAD_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long system_call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static inline bool system_failed(long result)
{
    return (unsigned long)result > -4096UL;
}

static inline long system_mmap(uintptr_t address, uint64_t bytes, int protection, int flags, int fd,
                               long offset)
{
    return system_call(SYS_mmap, (long)address, (long)bytes, protection, flags, fd, offset);
}

static inline long system_mprotect(uintptr_t address, uint64_t bytes, int protection)
{
    return system_call(SYS_mprotect, (long)address, (long)bytes, protection, 0, 0, 0);
}

static inline long system_munmap(uintptr_t address, uint64_t bytes)
{
    return system_call(SYS_munmap, (long)address, (long)bytes, 0, 0, 0, 0);
}

#endif
