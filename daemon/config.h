/* SPDX-License-Identifier: MIT */
/*
 * The policy's files: INI, read whole or not at all. A file, then those in the folder
 * conf.d beside it whose names end in .conf, by name; what comes later overrides key by
 * key. jitbrokerd.conf(5) describes them.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/policy.h"

/*
 * The policy that the files give, the caller's; of the first one it is no mistake to be missing if it is
 * `optional`. On a mistake NULL, with "FILE:LINE: what is wrong" in `mistake`.
 */
struct policy *config_read(const char *path, bool optional, char *mistake, size_t mistake_bytes);

/* A policy without files: one class, for everyone, with the defaults; NULL: no class. NULL without memory. */
struct policy *config_defaults(const char *class_name);

/* The keys of a class by their index, in the manual's order; NULL behind the last. */
const char *config_class_key(size_t index);
/* What holds where no file says anything. */
const char *config_class_default(size_t index);

#endif
