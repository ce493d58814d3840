/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "allocator.h"
#include "trouble.h"

#define DUAL_BYTES (1u << 20)
#define GRANULE_BYTES 64u

struct pages {
    void *address;
    size_t bytes; /* whole pages */
    size_t function_bytes;
};

static struct pages pages_for(const struct bench *bench)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (struct pages){
        .bytes = (bench->options.bytes + page - 1) / page * page,
        .function_bytes = bench->options.bytes,
    };
}

static void *map_pages(size_t bytes)
{
    void *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (address == MAP_FAILED)
        die("mmap");
    return address;
}

static void step_mprotect(void *user)
{
    const struct pages *pages = user;

    if (mprotect(pages->address, pages->bytes, PROT_READ | PROT_WRITE) != 0)
        die("mprotect to write");
    memcpy(pages->address, allocator_code, pages->function_bytes);
    if (mprotect(pages->address, pages->bytes, PROT_READ | PROT_EXEC) != 0)
        die("mprotect to execute");
}

struct sample peer_mprotect(const struct bench *bench)
{
    struct pages pages = pages_for(bench);
    struct sample sample;

    cpus_pin(&bench->cpus, SIDE_CLIENT);
    pages.address = map_pages(pages.bytes);
    sample = sample_take(&bench->effort, 1, step_mprotect, &pages);
    (void)munmap(pages.address, pages.bytes);
    return sample;
}

static void step_mmap(void *user)
{
    const struct pages *pages = user;
    void *address = map_pages(pages->bytes);

    memcpy(address, allocator_code, pages->function_bytes);
    if (mprotect(address, pages->bytes, PROT_READ | PROT_EXEC) != 0)
        die("mprotect to execute");
    (void)munmap(address, pages->bytes);
}

struct sample peer_mmap(const struct bench *bench)
{
    struct pages pages = pages_for(bench);

    cpus_pin(&bench->cpus, SIDE_CLIENT);
    return sample_take(&bench->effort, 1, step_mmap, &pages);
}

/* ---- A memfd mapped twice, with as little of an allocator as there can be ----------------- */

struct dual {
    uint8_t *rx;
    uint8_t *rw;
    size_t top;
    size_t bytes; /* of a function */
};

static void step_dual(void *user)
{
    struct dual *dual = user;
    size_t at = dual->top;

    dual->top += (dual->bytes + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
    memcpy(dual->rw + at, allocator_code, dual->bytes);
    __builtin___clear_cache((char *)dual->rx + at, (char *)dual->rx + at + dual->bytes);
    __asm__ volatile("" ::"r"(dual) : "memory"); /* the function is there before it goes again */
    dual->top = at;
}

struct sample peer_dual(const struct bench *bench)
{
    struct dual dual = {.bytes = bench->options.bytes};
    int fd = memfd_create("jitbench-dual", MFD_CLOEXEC);
    struct sample sample;

    if (fd < 0 || ftruncate(fd, DUAL_BYTES) != 0)
        die("memfd");
    dual.rw = mmap(NULL, DUAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    dual.rx = mmap(NULL, DUAL_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (dual.rw == MAP_FAILED || dual.rx == MAP_FAILED)
        die("mapping a memfd twice");
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    sample = sample_take(&bench->effort, BATCH_STEPS, step_dual, &dual);
    (void)munmap(dual.rx, DUAL_BYTES);
    (void)munmap(dual.rw, DUAL_BYTES);
    return sample;
}
