/* SPDX-License-Identifier: MIT */
#include "scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker.h"
#include "trouble.h"

#define PIECE_BYTES 4096u
#define PIECES_MAX 64u
/* Each daemon is measured so often, in turn. */
#define ROUNDS 5u

enum look { LOOK_OFF, LOOK_ON, LOOK_FAR, LOOKS };

static const char *const looks[LOOKS][2] = {
    [LOOK_OFF] = {"[class default]scan=off", "[class default]forbid=syscall pku segment"},
    [LOOK_ON] = {"[class default]scan=deny", "[class default]forbid=syscall pku segment"},
    [LOOK_FAR] = {"[class default]scan=deny", "[class default]forbid=syscall pku segment far"},
};

/* Real code, of which nothing is forbidden. */
struct pieces {
    uint8_t bytes[PIECES_MAX][PIECE_BYTES];
    size_t count;
    size_t next;
    jitc_client *client;
    jitc_span span;
};

/* In place of one that was given for the same key, if there is one. */
static void set(struct options *options, const char *setting)
{
    size_t key = strcspn(setting, "=") + 1;
    size_t i = 0;

    while (i < options->settings_count && strncmp(options->settings[i], setting, key) != 0)
        i++;
    if (i == SETTINGS_MAX)
        die_because("more than %u settings", SETTINGS_MAX);
    options->settings[i] = setting;
    options->settings_count += i == options->settings_count;
}

static void start(struct broker *broker, const struct bench *bench, enum look look, struct pieces *pieces)
{
    struct bench set_up = *bench;

    set(&set_up.options, "[class default]write=through");
    for (size_t i = 0; i < 2; i++)
        set(&set_up.options, looks[look][i]);
    broker_start(broker, &set_up, SIDE_SERVER);
    cpus_pin(&bench->cpus, SIDE_CLIENT);
    pieces->client = broker_connect(broker, JITC_WRITE_THROUGH, 0);
    check(jitc_alloc(pieces->client, &pieces->span, PIECE_BYTES), "alloc");
}

static void stop(struct broker *broker, struct pieces *pieces)
{
    (void)jitc_close(pieces->client);
    broker_stop(broker);
}

/* The C library's, as it is mapped here: of that, what such a daemon takes. */
static void collect(struct pieces *pieces, const struct bench *bench)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    struct broker broker;
    char line[512];

    if (maps == NULL)
        die("/proc/self/maps");
    start(&broker, bench, LOOK_FAR, pieces);
    while (fgets(line, sizeof line, maps) != NULL) {
        uintptr_t first;
        uintptr_t last;
        char rights[8];

        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &first, &last, rights) != 3 ||
            strcmp(rights, "r-xp") != 0 || strstr(line, "/libc.so") == NULL)
            continue;
        for (uintptr_t at = first; last - at >= PIECE_BYTES && pieces->count < PIECES_MAX;
             at += PIECE_BYTES) {
            int status;

            memcpy(pieces->bytes[pieces->count], (const void *)at, PIECE_BYTES);
            status = jitc_write(pieces->client, &pieces->span, 0, pieces->bytes[pieces->count], PIECE_BYTES,
                                JITC_WRITE_DEFAULT);
            if (status != JITC_E_FORBIDDEN)
                check(status, "write");
            pieces->count += status == JITC_OK;
        }
    }
    (void)fclose(maps);
    stop(&broker, pieces);
}

static void step(void *user)
{
    struct pieces *pieces = user;

    pieces->next = (pieces->next + 1) % pieces->count;
    check(jitc_write(pieces->client, &pieces->span, 0, pieces->bytes[pieces->next], PIECE_BYTES,
                     JITC_WRITE_DEFAULT),
          "write");
}

static struct sample measure(const struct bench *bench, enum look look, struct pieces *pieces)
{
    const struct effort effort = {bench->effort.rounds / ROUNDS + 1, bench->effort.seconds / ROUNDS};
    struct broker broker;
    struct sample sample;

    start(&broker, bench, look, pieces);
    sample = sample_take(&effort, BATCH_STEPS, step, pieces);
    stop(&broker, pieces);
    return sample;
}

struct round {
    struct sample samples[LOOKS];
};

static int compare(const void *a, const void *b)
{
    const struct sample *left = ((const struct round *)a)->samples;
    const struct sample *right = ((const struct round *)b)->samples;
    double ratios[] = {left[LOOK_ON].p50_us / left[LOOK_OFF].p50_us,
                       right[LOOK_ON].p50_us / right[LOOK_OFF].p50_us};

    return (ratios[0] > ratios[1]) - (ratios[0] < ratios[1]);
}

void scan_report(struct bench *bench)
{
    static struct pieces pieces;
    struct round rounds[ROUNDS];
    const struct sample *median;

    report_heading(&bench->report, "Scan: 4 KiB of code written again and again");
    collect(&pieces, bench);
    if (pieces.count == 0) {
        const char *why = "no code of the C library was found that is not forbidden";

        report_absent(&bench->report, "scan.off", 0, why);
        report_absent(&bench->report, "scan.on", 0, why);
        report_absent(&bench->report, "scan.far", 0, why);
        return;
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        for (enum look look = 0; look < LOOKS; look++)
            rounds[i].samples[look] = measure(bench, look, &pieces);
    }
    qsort(rounds, ROUNDS, sizeof rounds[0], compare);
    median = rounds[ROUNDS / 2].samples;
    report_sample(&bench->report, "scan.off", &median[LOOK_OFF]);
    report_compared(&bench->report, "scan.on", &median[LOOK_ON], &median[LOOK_OFF], NULL);
    report_compared(&bench->report, "scan.far", &median[LOOK_FAR], &median[LOOK_OFF], NULL);
}
