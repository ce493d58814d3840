/* SPDX-License-Identifier: MIT */
#include "client/stage.h"

#include <string.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

/*
 * From here on past the caches. Lines that are modified in our cache reach another processor one by one;
 * what went past it comes from where all processors share, at about twice the rate (bench: through.write-*).
 */
#define STREAM_BYTES 8192u

void stage_copy(void *to, const void *from, size_t bytes)
{
#if defined(__x86_64__)
    if (bytes >= STREAM_BYTES) {
        const char *source = from;
        char *target = to;

        for (; bytes >= 64; bytes -= 64, source += 64, target += 64) {
            for (int part = 0; part < 64; part += 16)
                _mm_stream_si128((__m128i *)(void *)(target + part),
                                 _mm_loadu_si128((const __m128i *)(const void *)(source + part)));
        }
        _mm_sfence(); /* before it is published */
        to = target;
        from = source;
    }
#endif
    memcpy(to, from, bytes);
}
