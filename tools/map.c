/* SPDX-License-Identifier: MIT */
/* map: how full an arena is, and how fragmented, as a picture. */
#include "tools/map.h"

#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json.h"
#include "tools/figures.h"
#include "tools/terminal.h"

/* What stands before the cells of a row. */
#define OFFSET_COLUMNS 13u

/* How a terminal shows the shades from free to full, and what is not reserved. */
struct look {
    const char *shades[5];
    const char *leased;
    const char *sealed;
    const char *used_colour;
    const char *leased_colour;
    const char *sealed_colour;
    const char *no_colour;
};

static const struct look ascii = {{".", "-", "+", "x", "#"}, "o", "S", "", "", "", ""};
static const struct look blocks = {{"·", "░", "▒", "▓", "█"}, "◌", "■", "", "", "", ""};
static const struct look coloured = {
    {"·", "░", "▒", "▓", "█"}, "◌", "■", "\033[32m", "\033[33m", "\033[36m", "\033[0m"};

static const struct look *choose_look(void)
{
    (void)setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0 || !terminal_is_capable())
        return &ascii;
    return getenv("NO_COLOR") == NULL ? &coloured : &blocks;
}

static void print_cell(const struct look *look, const struct picture_cell *cell, uint64_t cell_bytes)
{
    uint64_t shade = (cell->used_bytes * 4 + cell_bytes - 1) / cell_bytes;

    if (2 * cell->sealed_bytes > cell->used_bytes)
        (void)printf("%s%s%s", look->sealed_colour, look->sealed, look->no_colour);
    else if (cell->used_bytes == 0 && cell->is_leased)
        (void)printf("%s%s%s", look->leased_colour, look->leased, look->no_colour);
    else if (cell->used_bytes == 0)
        (void)fputs(look->shades[0], stdout);
    else
        (void)printf("%s%s%s", cell->is_leased ? look->leased_colour : look->used_colour,
                     look->shades[shade < 4 ? shade : 4], look->no_colour);
}

static void print_figures(const struct arena_picture *picture)
{
    const Admin__Usage *usage = picture->end->usage;
    char one[FIGURE_BYTES];
    char two[FIGURE_BYTES];
    char three[FIGURE_BYTES];

    (void)printf("session %" PRIu64 ": %" PRIu64 " spans in %" PRIu64 " blocks, %s used of %s reserved",
                 picture->end->session, usage->spans, usage->blocks, figure_bytes(one, usage->used_bytes),
                 figure_bytes(two, usage->reserved_bytes));
    (void)printf("; the arena may have %s\n", figure_bytes(three, usage->arena_bytes));
    (void)printf("free: %s in %" PRIu64 " runs, the largest %s: %u%% fragmented; %s of it leased\n",
                 figure_bytes(one, picture->free_bytes), picture->free_runs,
                 figure_bytes(two, picture->largest_free_bytes), arena_picture_fragmentation(picture),
                 figure_bytes(three, usage->leased_bytes));
}

/* A power of two, so that each row begins at a round offset. */
static size_t columns_that_fit(void)
{
    unsigned width = terminal_columns();
    size_t columns = PICTURE_COLUMNS;

    while (width > 0 && columns > 1 && OFFSET_COLUMNS + columns > width)
        columns /= 2;
    return columns;
}

static void print_text(const struct arena_picture *picture)
{
    const struct look *look = choose_look();
    size_t columns = columns_that_fit();
    char cell[FIGURE_BYTES];

    print_figures(picture);
    for (size_t i = 0; i < picture->cells_count; i++) {
        if (i % columns == 0)
            (void)printf("%s0x%09" PRIx64 "  ", i > 0 ? "\n" : "", i * picture->cell_bytes);
        print_cell(look, &picture->cells[i], picture->cell_bytes);
    }
    (void)printf("\n%s a character; %s free, %s to %s used, %s sealed, %s leased\n",
                 figure_bytes(cell, picture->cell_bytes), look->shades[0], look->shades[1], look->shades[4],
                 look->sealed, look->leased);
}

static void print_json(const struct arena_picture *picture)
{
    json_open(NULL, '{');
    json_number("session", picture->end->session);
    json_number("spans", picture->end->usage->spans);
    json_number("blocks", picture->end->usage->blocks);
    json_number("used_bytes", picture->end->usage->used_bytes);
    json_number("leased_bytes", picture->end->usage->leased_bytes);
    json_number("reserved_bytes", picture->end->usage->reserved_bytes);
    json_number("arena_bytes", picture->end->usage->arena_bytes);
    json_number("free_bytes", picture->free_bytes);
    json_number("free_runs", picture->free_runs);
    json_number("largest_free_bytes", picture->largest_free_bytes);
    json_number("fragmented_percent", arena_picture_fragmentation(picture));
    json_number("cell_bytes", picture->cell_bytes);
    json_open("cells", '[');
    for (size_t i = 0; i < picture->cells_count; i++) {
        json_open(NULL, '{');
        json_number("used_bytes", picture->cells[i].used_bytes);
        json_number("sealed_bytes", picture->cells[i].sealed_bytes);
        json_bool("leased", picture->cells[i].is_leased);
        json_close('}');
    }
    json_close(']');
    json_close('}');
    json_end();
}

int verb_map(const struct invocation *invocation)
{
    struct arena_picture picture = {.cells = NULL};
    struct answer answer;
    int status = ask_once(invocation, ADMIN__VERB__SPANS, 0, &answer);

    if (status == EXIT_YES && !arena_picture_init(&picture, &answer)) {
        (void)fputs("jitbrokerctl: no memory for a picture, or nothing to draw\n", stderr);
        status = EXIT_NO;
    }
    if (status == EXIT_YES && invocation->svg)
        map_print_svg(&picture);
    else if (status == EXIT_YES && invocation->json)
        print_json(&picture);
    else if (status == EXIT_YES)
        print_text(&picture);
    arena_picture_deinit(&picture);
    answer_free(&answer);
    return status;
}
