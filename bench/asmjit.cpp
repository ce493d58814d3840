/* SPDX-License-Identifier: MIT */
#include "asmjit.h"

#include <asmjit/core/jitallocator.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace
{

asmjit::JitAllocator *of(void *self)
{
    return static_cast<asmjit::JitAllocator *>(self);
}

[[noreturn]] void fail(const char *what)
{
    (void)std::fprintf(stderr, "jitbench: asmjit: %s failed\n", what);
    std::exit(EXIT_FAILURE);
}

void *publish(void *self, size_t size, const void *code, size_t bytes)
{
    void *rx;
    void *rw;

    if (of(self)->alloc(&rx, &rw, size) != asmjit::kErrorOk)
        fail("alloc");
    std::memcpy(rw, code, bytes);
    __builtin___clear_cache(static_cast<char *>(rx), static_cast<char *>(rx) + bytes);
    return rx;
}

void release(void *self, void *rx)
{
    if (of(self)->release(rx) != asmjit::kErrorOk)
        fail("release");
}

void statistics(void *self, uint64_t *used_bytes, uint64_t *reserved_bytes)
{
    const asmjit::JitAllocator::Statistics now = of(self)->statistics();

    *used_bytes = now.usedSize();
    *reserved_bytes = now.reservedSize();
}

} // namespace

bool asmjit_init(struct allocator *allocator)
{
    asmjit::JitAllocator::CreateParams params{};

    params.options = asmjit::JitAllocatorOptions::kUseDualMapping;
    allocator->self = new (std::nothrow) asmjit::JitAllocator(&params);
    allocator->publish = publish;
    allocator->release = release;
    allocator->statistics = statistics;
    if (allocator->self == nullptr)
        fail("new");
    return true;
}

void asmjit_deinit(struct allocator *allocator)
{
    delete of(allocator->self);
}
