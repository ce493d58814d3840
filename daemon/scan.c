/* SPDX-License-Identifier: MIT */
#include "daemon/scan.h"

#include <string.h>

static const struct {
    const char *name;
    uint32_t set;
} scan_sets[] = {
    {"syscall", SCAN_SYSCALL},
    {"pku", SCAN_PKU},
    {"segment", SCAN_SEGMENT},
    {"far", SCAN_FAR},
};

uint32_t scan_set(const char *name)
{
    for (size_t i = 0; i < sizeof scan_sets / sizeof *scan_sets; i++) {
        if (strcmp(name, scan_sets[i].name) == 0)
            return scan_sets[i].set;
    }
    return 0;
}
