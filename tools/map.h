/* SPDX-License-Identifier: MIT */
/* The picture of an arena in each of its forms. */
#ifndef TOOLS_MAP_H
#define TOOLS_MAP_H

#include "tools/arena_picture.h"

void map_print_svg(const struct arena_picture *picture);

#endif
