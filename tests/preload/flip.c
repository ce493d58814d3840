/* SPDX-License-Identifier: MIT */
/* Memory that is writable and executable by turns: the content is always what was written, and runs. */
#include <fcntl.h>
#include <pthread.h>

#include "tests/preload/program.h"
#include "tests/unit/dice.h"

#define ROUNDS 8u

/* A function in each page, somewhere else in each round, and what surrounds it. */
static size_t place(size_t page, size_t round)
{
    return page * PAGE + (page * 64 + round * 16) % (PAGE - 16);
}

static void sizes(void)
{
    static const size_t pages[] = {1, 2, 3, 7, 15, 16, 17, 31, 64, 100, 256, 1024};

    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        size_t bytes = pages[i] * PAGE;
        uint8_t *code = map_pages(pages[i], RW);
        uint8_t *copy = calloc(1, bytes);

        must(copy != NULL);
        for (size_t round = 0; round < ROUNDS; round++) {
            for (size_t page = 0; page < pages[i]; page += round == 0 ? 1 : round) {
                put(code + place(page, round), round << 16 | page);
                put(copy + place(page, round), round << 16 | page);
            }
            must(memcmp(code, copy, bytes) == 0);
            protect(code, bytes, RX);
            must(memcmp(code, copy, bytes) == 0);
            for (size_t page = 0; page < pages[i]; page += round == 0 ? 1 : round)
                must_return(code + place(page, round), round << 16 | page);
            protect(code, bytes, RW);
            must(memcmp(code, copy, bytes) == 0);
        }
        free(copy);
        unmap(code, bytes);
    }
}

static void ranges(void)
{
    enum { PAGES = 6 };
    uint8_t *code = map_pages(PAGES, RW);
    size_t number[PAGES] = {0};

    faults_start();
    for (size_t page = 0; page < PAGES; page++)
        put(code + page * PAGE, 0);
    for (size_t first = 0; first < PAGES; first++) {
        for (size_t end = first + 1; end <= PAGES; end++) {
            protect(code + first * PAGE, (end - first) * PAGE, RX);
            for (size_t page = 0; page < PAGES; page++) {
                bool inside = page >= first && page < end;

                must(faults_write(code + page * PAGE) == inside);
                must(faults_call(code + page * PAGE) == !inside);
                if (inside)
                    must_return(code + page * PAGE, number[page]);
                else
                    put(code + page * PAGE, ++number[page]);
            }
            protect(code + first * PAGE, (end - first) * PAGE, RW);
        }
    }
    protect(code, PAGES * PAGE, RX);
    for (size_t page = 0; page < PAGES; page++)
        must_return(code + page * PAGE, number[page]);
}

static void half_back(void)
{
    uint8_t *code = map_pages(8, RW);

    for (size_t page = 0; page < 8; page++)
        put(code + page * PAGE, page);
    protect(code, 8 * PAGE, RX);
    protect(code, 4 * PAGE, RW);
    put(code, 100);
    must_return(code + 4 * PAGE, 4);
    must_return(code + 7 * PAGE, 7);
    protect(code + 6 * PAGE, 2 * PAGE, RW);
    put(code + 7 * PAGE, 107);
    must_return(code + 5 * PAGE, 5);
    protect(code, PAGE, RX);
    must_return(code, 100);
    put(code + PAGE, 101);
    protect(code, 8 * PAGE, RX);
    must_return(code, 100);
    must_return(code + PAGE, 101);
    must_return(code + 2 * PAGE, 2);
    must_return(code + 7 * PAGE, 107);
}

static void lengths(void)
{
    uint8_t *code = map_pages(4, RW);

    faults_start();
    put(code, 1);
    put(code + PAGE, 2);
    put(code + 2 * PAGE, 3);
    protect(code, 1, RX);
    must_return(code, 1);
    must(!faults_write(code + PAGE));
    protect(code, PAGE + 1, RX);
    must_return(code + PAGE, 2);
    must(!faults_write(code + 2 * PAGE));
    protect(code + 2 * PAGE, 0, RX);
    must(!faults_write(code + 2 * PAGE));
    errno = 0;
    must(mprotect(code + 1, PAGE, RX) == -1 && errno == EINVAL);
    errno = 0;
    must(mprotect(code + 64, PAGE - 64, RX) == -1 && errno == EINVAL);
    unmap(code + 3 * PAGE, PAGE);
    errno = 0;
    must(mprotect(code + 3 * PAGE, PAGE, RX) == -1 && errno == ENOMEM);
    must_return(code, 1);
}

/* What comes before a hole has changed, what comes after has not. */
static void holes(void)
{
    void *low = (void *)UINT64_C(0x20000000000); /* where nobody else maps anything into the hole */
    uint8_t *code = mmap(low, 6 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    must(code == low);
    faults_start();
    for (size_t page = 0; page < 6; page++)
        put(code + page * PAGE, page);
    unmap(code + 3 * PAGE, PAGE);
    errno = 0;
    must(mprotect(code, 6 * PAGE, RX) == -1 && errno == ENOMEM);
    must_return(code, 0);
    must_return(code + 2 * PAGE, 2);
    must(faults_call(code + 4 * PAGE));
    put(code + 4 * PAGE, 7);
    errno = 0;
    must(mprotect(code, 6 * PAGE, RW) == -1 && errno == ENOMEM);
    put(code, 8);
    must(faults_call(code));
    errno = 0;
    must(mprotect(code, SIZE_MAX - PAGE, RX) == -1 && errno == ENOMEM);
}

static void adjacent(void)
{
    uint8_t *all = map_pages(9, PROT_NONE);

    for (size_t i = 0; i < 3; i++) {
        uint8_t *at = all + 3 * i * PAGE;

        must(mmap(at, 3 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
        put(at, i);
        put(at + 2 * PAGE, 10 + i);
        protect(at, 3 * PAGE, RX);
        must_return(at, i);
    }
    protect(all + 2 * PAGE, 5 * PAGE, RW); /* over all three */
    put(all + 3 * PAGE, 21);
    put(all + 6 * PAGE, 22);
    must_return(all, 0);
    must_return(all + 8 * PAGE, 12);
    protect(all, 9 * PAGE, RX);
    must_return(all, 0);
    must_return(all + 2 * PAGE, 10);
    must_return(all + 3 * PAGE, 21);
    must_return(all + 5 * PAGE, 11);
    must_return(all + 6 * PAGE, 22);
    must_return(all + 8 * PAGE, 12);
}

static void untouched(void)
{
    uint8_t *code = map_pages(32, RW);

    protect(code, 32 * PAGE, RX);
    must(is_zero(code, 32 * PAGE));
    protect(code, 32 * PAGE, RW);
    must(is_zero(code, 32 * PAGE));
    put(code + 20 * PAGE, 20);
    protect(code, 32 * PAGE, RX);
    must(is_zero(code, 20 * PAGE) && is_zero(code + 21 * PAGE, 11 * PAGE));
    must_return(code + 20 * PAGE, 20);
    unmap(code, 32 * PAGE);
    code = map_pages(32, RW); /* what others wrote before is not to be seen */
    must(is_zero(code, 32 * PAGE));
    protect(code, 32 * PAGE, RX);
    must(is_zero(code, 32 * PAGE));
}

static void protections(void)
{
    static const int through[] = {PROT_READ, PROT_NONE, RW, RWX, RX};
    uint8_t *code = map_pages(3, RW);

    faults_start();
    put(code, 1);
    put(code + 2 * PAGE, 3);
    protect(code, 3 * PAGE, RX);
    for (size_t i = 0; i < 25; i++) {
        int now = through[i / 5];
        int next = through[i % 5];

        protect(code, 3 * PAGE, now);
        protect(code, 3 * PAGE, next);
        must(faults_read(code) == ((next & PROT_READ) == 0));
        must(faults_write(code) == ((next & PROT_WRITE) == 0));
        must(faults_call(code) == ((next & PROT_EXEC) == 0));
        protect(code, 3 * PAGE, RX);
        must_return(code, 1);
        must_return(code + 2 * PAGE, 3);
    }
}

static uint8_t in_bss[4 * PAGE] __attribute__((aligned(4096)));
static uint8_t in_data[4 * PAGE] __attribute__((aligned(4096))) = {1};

static void flip_some(uint8_t *code, size_t pages)
{
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t page = 0; page < pages; page++)
            put(code + page * PAGE + 8, round * 100 + page);
        protect(code, pages * PAGE, RX);
        for (size_t page = 0; page < pages; page++)
            must_return(code + page * PAGE + 8, round * 100 + page);
        protect(code, pages * PAGE, RW);
    }
}

static void places(void)
{
    void *in_heap = NULL;
    char name[] = "/tmp/jitbroker-flip-XXXXXX";
    int fd = mkstemp(name);
    void *in_file;

    flip_some(in_bss, 4);
    flip_some(in_data, 4);
    must_equal(in_data[0], 1);
    must(posix_memalign(&in_heap, PAGE, 4 * PAGE) == 0);
    flip_some(in_heap, 4);
    free(in_heap);
    must(fd >= 0 && unlink(name) == 0 && ftruncate(fd, 4 * PAGE) == 0);
    must(pwrite(fd, "file", 4, 4) == 4);
    in_file = mmap(NULL, 4 * PAGE, RW, MAP_PRIVATE, fd, 0);
    must(in_file != MAP_FAILED);
    flip_some(in_file, 4);
    must(memcmp((uint8_t *)in_file + 4, "file", 4) == 0);
    (void)close(fd);
}

struct part {
    uint8_t *code;
    size_t pages;
    size_t number;
};

static void *flip_part(void *of)
{
    const struct part *part = of;

    for (size_t i = 0; i < 500; i++) {
        for (size_t page = 0; page < part->pages; page++)
            put(part->code + page * PAGE + 16, part->number + i);
        protect(part->code, part->pages * PAGE, RX);
        for (size_t page = 0; page < part->pages; page++)
            must_return(part->code + page * PAGE + 16, part->number + i);
        protect(part->code, part->pages * PAGE, RW);
    }
    return NULL;
}

static void neighbours(void)
{
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    struct part parts[THREADS];
    uint8_t *code = map_pages(3 * THREADS, RW);

    for (size_t i = 0; i < THREADS; i++) {
        parts[i] = (struct part){.code = code + 3 * i * PAGE, .pages = 1 + i % 3, .number = i << 20};
        must(pthread_create(&threads[i], NULL, flip_part, &parts[i]) == 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        must(pthread_join(threads[i], NULL) == 0);
}

static void *run_always(void *at)
{
    struct part *part = at;

    while (__atomic_load_n(&part->number, __ATOMIC_ACQUIRE) == 0) {
        must_return(part->code, 7);
        must_return(part->code + PAGE, 8);
    }
    return NULL;
}

static void undisturbed(void)
{
    pthread_t thread;
    struct part part = {.code = map_pages(8, RW)};

    put(part.code, 7);
    put(part.code + PAGE, 8);
    protect(part.code, 2 * PAGE, RX);
    must(pthread_create(&thread, NULL, run_always, &part) == 0);
    for (size_t i = 0; i < 3000; i++) {
        put(part.code + (2 + i % 6) * PAGE, i);
        protect(part.code, 8 * PAGE, RX); /* again over what runs now */
        must_return(part.code + (2 + i % 6) * PAGE, i);
        protect(part.code + 2 * PAGE, 6 * PAGE, RW);
    }
    __atomic_store_n(&part.number, 1, __ATOMIC_RELEASE);
    must(pthread_join(thread, NULL) == 0);
}

static void many_regions(void)
{
    enum { REGIONS = 1000 };
    static uint8_t *code[REGIONS];

    for (size_t i = 0; i < REGIONS; i++) {
        code[i] = map_pages(2, RW);
        put(code[i], i);
        protect(code[i], PAGE, RX);
    }
    for (size_t i = 0; i < REGIONS; i++)
        must_return(code[i], i);
    for (size_t i = 0; i < REGIONS; i += 2)
        unmap(code[i], 2 * PAGE);
    for (size_t i = 1; i < REGIONS; i += 2) {
        protect(code[i], 2 * PAGE, RW);
        put(code[i] + PAGE, REGIONS + i);
        protect(code[i], 2 * PAGE, RX);
    }
    for (size_t i = 1; i < REGIONS; i += 2) {
        must_return(code[i], i);
        must_return(code[i] + PAGE, REGIONS + i);
    }
}

static void many_flips(void)
{
    enum { PAGES = 256 };
    struct dice dice = {dice_seed()};
    uint8_t *code = map_pages(PAGES, RW);
    size_t number[PAGES];
    unsigned maps;
    unsigned fds;

    for (size_t page = 0; page < PAGES; page++)
        put(code + page * PAGE, number[page] = page);
    protect(code, PAGES * PAGE, RX);
    must_return(code, 0);
    maps = count_maps();
    fds = count_fds();
    for (size_t i = 0; i < 20000; i++) {
        size_t page = dice_below(&dice, PAGES);

        protect(code + page * PAGE, PAGE, RW);
        put(code + page * PAGE, number[page] = i);
        protect(code + page * PAGE, PAGE, RX);
        page = dice_below(&dice, PAGES);
        must_return(code + page * PAGE, number[page]);
    }
    must(count_maps() <= maps + PAGES + 8);
    must_equal(count_fds(), fds);
    protect(code, PAGES * PAGE, RW);
    must(count_maps() <= maps + 8);
}

static void come_and_go(void)
{
    long resident = 0;

    for (size_t i = 0; i < 4000; i++) {
        uint8_t *code = map_pages(16, RW);

        if (i == 400)
            resident = resident_kib();
        for (size_t page = 0; page < 16; page++)
            put(code + page * PAGE, i);
        protect(code, 16 * PAGE, RX);
        must_return(code + 15 * PAGE, i);
        unmap(code, 16 * PAGE);
    }
    must(resident_kib() <= resident + 4096); /* 225 MiB went through */
}

int main(int argc, char **argv)
{
    static const struct program_case cases[] = {
        {"sizes", "from one page to 4 MiB, there and back, the content is what was written", sizes},
        {"ranges", "each range of six pages is flipped, the other pages are as they were", ranges},
        {"half_back", "half of what was flipped at once comes back, the other half runs on", half_back},
        {"lengths", "lengths are rounded up to pages; what mprotect refuses is refused", lengths},
        {"holes", "mprotect meets a hole: what comes before it has changed", holes},
        {"adjacent", "mappings side by side are flipped one by one, across, and all at once", adjacent},
        {"untouched", "pages that nobody wrote are zero, whoever had been there before", untouched},
        {"protections", "from each protection to each other one: what must fault faults", protections},
        {"places", "memory of .bss, .data, the heap and a private file mapping is flipped", places},
        {"neighbours", "threads flip neighbouring pages of one mapping at the same time", neighbours},
        {"undisturbed", "a thread runs in pages that another makes executable once more", undisturbed},
        {"many_regions", "a thousand mappings live, half of them go, the others flip", many_regions},
        {"many_flips", "20,000 flips of single pages leave no heap of mappings and descriptors", many_flips},
        {"come_and_go", "4,000 mappings come and go, and the memory does not grow", come_and_go},
    };

    return program_main(argc, argv, cases, PROGRAM_COUNT(cases));
}
