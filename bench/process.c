/* SPDX-License-Identifier: MIT */
#include "process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "trouble.h"

/* The sum of the numbers behind the keys, each at a line's start; 0 for a file that is gone. */
static double sum_of(const char *path, const char *const *keys)
{
    FILE *file = fopen(path, "re");
    char line[256];
    double sum = 0;

    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        for (size_t i = 0; keys[i] != NULL; i++) {
            double value;

            if (strncmp(line, keys[i], strlen(keys[i])) == 0 &&
                sscanf(line + strlen(keys[i]), "%lf", &value) == 1)
                sum += value;
        }
    }
    (void)fclose(file);
    return sum;
}

double process_memory_kib(pid_t pid)
{
    static const char *const keys[] = {"RssAnon:", "RssShmem:", NULL};
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    return sum_of(path, keys);
}

double process_switches(pid_t pid)
{
    static const char *const keys[] = {"voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:", NULL};
    char path[320];
    struct dirent *entry;
    double sum = 0;
    DIR *tasks;

    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    if (tasks == NULL)
        die(path);
    while ((entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, entry->d_name);
        sum += sum_of(path, keys);
    }
    (void)closedir(tasks);
    return sum;
}

double process_cpu_us(pid_t pid)
{
    struct timespec used;
    clockid_t clock;

    errno = clock_getcpuclockid(pid, &clock);
    if (errno != 0 || clock_gettime(clock, &used) != 0)
        die("the daemon's processor time");
    return (double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1e3;
}

double system_memory_kib(const char *key)
{
    const char *const keys[] = {key, NULL};

    return sum_of("/proc/meminfo", keys);
}
