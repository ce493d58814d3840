/* SPDX-License-Identifier: MIT */
#include "raw.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "trouble.h"

int raw_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        die("a hostile client's connection");
    return fd;
}

static bool take_welcome(struct raw *raw, const struct reply_record *reply, const struct record *record)
{
    void *memory;

    if (!reply->has_welcome || record->fds_count != 3)
        return false;
    memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, record->fds[1], 0);
    if (memory == MAP_FAILED)
        die("a hostile client's ring");
    ring_attach(&raw->ring, memory);
    raw->bell = dup(record->fds[2]);
    raw->arena_bytes = reply->welcome.arena_bytes;
    return true;
}

bool raw_open(struct raw *raw, const char *path, uint64_t arena_bytes)
{
    static uint8_t bytes[RECORD_MAX_BYTES];
    static uint8_t pool_bytes[CODEC_POOL_BYTES] __attribute__((aligned(16)));
    const struct hello hello = {.version_min = PROTOCOL_VERSION,
                                .version_max = PROTOCOL_VERSION,
                                .features = FEATURE_RING,
                                .write_mode = WRITE_THROUGH,
                                .arena_bytes = arena_bytes};
    struct codec_pool pool = {.bytes = pool_bytes, .capacity = sizeof pool_bytes};
    struct buffer out = raw_begin(bytes);
    struct reply_record reply;
    struct record record;
    bool opened;

    *raw = (struct raw){.socket = raw_socket(path), .bell = -1};
    if (!codec_put_hello(&out, &hello) || record_send(raw->socket, true, out.bytes, out.used, NULL, 0) != 0 ||
        record_recv(raw->socket, true, bytes, sizeof bytes, RECORD_FDS_MAX, &record) != RECORD_WHOLE) {
        (void)close(raw->socket);
        return false;
    }
    opened = codec_decode_reply(&pool, bytes, record.bytes, &reply) && take_welcome(raw, &reply, &record);
    while (record.fds_count > 0)
        (void)close(record.fds[--record.fds_count]);
    if (!opened)
        (void)close(raw->socket);
    return opened;
}

void raw_close(struct raw *raw)
{
    (void)close(raw->socket);
    (void)close(raw->bell);
    (void)munmap(raw->ring.header, RING_BYTES);
}

struct buffer raw_begin(uint8_t *bytes)
{
    struct buffer out = {.bytes = bytes, .capacity = RECORD_MAX_BYTES};

    (void)codec_put_request(&out, 1);
    return out;
}

bool raw_send(const struct raw *raw, const struct buffer *request)
{
    return record_send(raw->socket, false, request->bytes, request->used, NULL, 0) == 0;
}

unsigned raw_drain(const struct raw *raw)
{
    uint8_t byte;
    unsigned count = 0;

    while (recv(raw->socket, &byte, 1, MSG_DONTWAIT) > 0)
        count++;
    return count;
}

bool raw_has_room(const struct raw *raw)
{
    return raw->tail - ring_head(&raw->ring) < RING_ENTRIES;
}

void raw_put(struct raw *raw, const struct request *request)
{
    ring_encode(&raw->ring, raw->tail++, request, 0);
}

void raw_publish(struct raw *raw)
{
    static const uint64_t once = 1;

    if (ring_publish(&raw->ring, raw->tail))
        (void)!write(raw->bell, &once, sizeof once);
}
