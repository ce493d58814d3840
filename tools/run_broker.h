/* SPDX-License-Identifier: MIT */
/* A private broker for all processes of a program. */
#ifndef TOOLS_RUN_BROKER_H
#define TOOLS_RUN_BROKER_H

struct run_broker {
    char socket[64]; /* as jitc_connect() takes it */
    int holder;      /* inherited by the program: the broker lives as long as anybody has it */
};

/* Starts it. `program`: the daemon's path. 0, or the exit status after the reason was said. */
int run_broker_start(struct run_broker *broker, const char *program);

/* Moves a descriptor to where no program looks for its own, so that it survives an execve. 0 or -errno. */
int run_broker_pass_on(int *fd);

#endif
