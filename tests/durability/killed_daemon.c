/* SPDX-License-Identifier: MIT */
/*
 * The daemon, which kills itself where a file tells it to: "kills" beside this program has a number for each
 * process that is started, which takes the first away; 0, or none, is for one that is to live. What it
 * becomes is $JITBROKER_DAEMON_COPY, built with JITBROKER_KILL_POINTS.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char path[512];
    char numbers[256] = "";
    char *rest;
    int fd;

    (void)argc;
    (void)snprintf(path, sizeof path, "%s", argv[0]);
    (void)strcpy(strrchr(path, '/'), "/kills");
    fd = strcmp(argv[1], "--supervise") == 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && read(fd, numbers, sizeof numbers - 1) > 0) {
        unsigned long number = strtoul(numbers, &rest, 10);

        (void)!ftruncate(fd, 0);
        (void)!pwrite(fd, rest, strlen(rest), 0);
        *rest = '\0';
        if (number != 0)
            (void)setenv("JITBROKER_KILL_AT", numbers, 1);
    }
    (void)execv(getenv("JITBROKER_DAEMON_COPY"), argv);
    return 127;
}
