/* SPDX-License-Identifier: MIT */
/*
 * jitbrokerd --supervise: the service manager's part where there is no systemd. It owns the listening socket,
 * starts the daemon, starts it again when it dies, and keeps the descriptors that the daemon hands over
 * (sd_pid_notify_with_fds(3)), so that the next one finds all sessions again. SIGUSR2 replaces the program.
 *
 * No client ever talks to it: it only reads what its child says, and only from the process that is its child
 * now. It does nothing else, so that there is little in it that could fail: what it loses is lost.
 */
#ifndef DAEMON_SUPERVISOR_H
#define DAEMON_SUPERVISOR_H

#include "daemon/options.h"

/* Until SIGTERM or SIGINT, or until there is no use; the exit status. `arguments` are main()'s. */
int supervisor_run(const struct options *options, char **arguments);

#endif
