/* SPDX-License-Identifier: MIT */
/*
 * Our descriptors, which a program that closes all that it doesn't know of must leave open: what got the
 * number of one of them would be written to. Guarded by the lock where they change; looked up without.
 */
#ifndef PRELOAD_DESCRIPTORS_H
#define PRELOAD_DESCRIPTORS_H

#include <stdbool.h>

/* Ours are above those that programs count on, where there is room. */
#define DESCRIPTORS_FIRST 500

/* As many as fit are kept from being closed. */
void descriptors_add(int fd);
void descriptors_remove(int fd);

bool descriptors_have(int fd);
/* The smallest of ours that is at least `from`, or -1. */
int descriptors_next(int from);

/* Moves it up there, close-on-exec. */
void descriptors_move_up(int *fd);

#endif
