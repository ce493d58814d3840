/* SPDX-License-Identifier: MIT */
/* Anonymous files: what arenas and rings are made of. */
#ifndef DAEMON_MEMFD_H
#define DAEMON_MEMFD_H

/* A new one, which can be sealed and, where the kernel has that (6.3), not be executed as a program; or
 * -errno. */
int memfd_new(const char *name);

#endif
