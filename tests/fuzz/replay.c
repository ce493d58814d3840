/* SPDX-License-Identifier: MIT */
/* Feeds files, or all files of a folder, to a fuzz target: for any compiler, without a fuzzer. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/target.h"

static int complain(const char *path)
{
    (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return -1;
}

/* Returns 1, or -1. */
static int replay_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    uint8_t *bytes;
    size_t count;

    if (fd < 0 || fstat(fd, &status) != 0)
        return complain(path);
    count = (size_t)status.st_size;
    bytes = malloc(count); /* exactly: a sanitizer sees what reads beyond */
    if ((bytes == NULL && count > 0) || read(fd, bytes, count) != (ssize_t)count)
        return complain(path);
    (void)close(fd);
    (void)LLVMFuzzerTestOneInput(bytes, count);
    free(bytes);
    return 1;
}

/* Returns how many files there were, or -1. */
static int replay_folder(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    int replayed = 0;

    if (count < 0)
        return complain(path);
    for (int i = 0; i < count; i++) {
        char file[4096];

        (void)snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && replayed >= 0)
            replayed = replay_file(file) < 0 ? -1 : replayed + 1;
        free(entries[i]);
    }
    free(entries);
    return replayed;
}

int main(int argc, char **argv)
{
    int total = 0;

    for (int i = 1; i < argc; i++) {
        struct stat status;
        int replayed;

        if (stat(argv[i], &status) != 0)
            replayed = complain(argv[i]);
        else
            replayed = S_ISDIR(status.st_mode) ? replay_folder(argv[i]) : replay_file(argv[i]);
        if (replayed < 0)
            return EXIT_FAILURE;
        total += replayed;
    }
    if (total == 0) {
        (void)fprintf(stderr, "usage: %s FILE|FOLDER...; there must be something to replay\n", argv[0]);
        return EXIT_FAILURE;
    }
    printf("%d inputs\n", total);
    return EXIT_SUCCESS;
}
