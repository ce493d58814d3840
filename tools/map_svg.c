/* SPDX-License-Identifier: MIT */
/* map --svg: the picture as a document. Cells that look the same and are neighbours are one rectangle. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/figures.h"
#include "tools/map.h"

#define CELL_PX 12u
#define LEFT_PX 96u
#define TOP_PX 56u
#define LEGEND_PX 64u
#define SHADES 8u

struct look {
    const char *colour;
    unsigned shade; /* of SHADES */
};

static struct look look_of(const struct picture_cell *cell, uint64_t cell_bytes)
{
    struct look look = {.colour = "#2a9d57", .shade = SHADES};

    if (cell->used_bytes == 0 && !cell->is_leased)
        return (struct look){"#e4e4e4", SHADES};
    if (cell->used_bytes == 0)
        return (struct look){"#e9c46a", 2};
    if (2 * cell->sealed_bytes > cell->used_bytes)
        look.colour = "#2878b5";
    else if (cell->is_leased)
        look.colour = "#e0a020";
    look.shade = (unsigned)((cell->used_bytes * SHADES + cell_bytes - 1) / cell_bytes);
    return look;
}

static void print_rectangle(unsigned x, unsigned y, unsigned width, const struct look *look)
{
    (void)printf(
        "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\" fill-opacity=\"%u.%02u\"/>\n", x, y,
        width, CELL_PX - 1, look->colour, look->shade / SHADES, look->shade % SHADES * 100 / SHADES);
}

static void print_cells(const struct arena_picture *picture)
{
    for (size_t at = 0; at < picture->cells_count;) {
        struct look look = look_of(&picture->cells[at], picture->cell_bytes);
        unsigned row = (unsigned)(at / PICTURE_COLUMNS);
        unsigned column = (unsigned)(at % PICTURE_COLUMNS);
        unsigned count = 1;

        for (; column + count < PICTURE_COLUMNS && at + count < picture->cells_count; count++) {
            struct look next = look_of(&picture->cells[at + count], picture->cell_bytes);

            if (strcmp(next.colour, look.colour) != 0 || next.shade != look.shade)
                break;
        }
        if (column == 0)
            (void)printf("<text x=\"4\" y=\"%u\">0x%" PRIx64 "</text>\n",
                         TOP_PX + row * CELL_PX + CELL_PX - 3, (uint64_t)at * picture->cell_bytes);
        print_rectangle(LEFT_PX + column * CELL_PX, TOP_PX + row * CELL_PX, count * CELL_PX - 1, &look);
        at += count;
    }
}

static void print_legend(const struct arena_picture *picture, unsigned y)
{
    static const struct {
        struct look look;
        const char *what;
    } entries[] = {
        {{"#e4e4e4", SHADES}, "free"},        {{"#2a9d57", SHADES}, "used"},
        {{"#2878b5", SHADES}, "sealed"},      {{"#e0a020", SHADES}, "used in a leased block"},
        {{"#e9c46a", 2}, "leased, and free"},
    };
    char cell[FIGURE_BYTES];

    for (unsigned i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        print_rectangle(LEFT_PX + i * 150, y, CELL_PX, &entries[i].look);
        (void)printf("<text x=\"%u\" y=\"%u\">%s</text>\n", LEFT_PX + i * 150 + 18, y + 10, entries[i].what);
    }
    (void)printf("<text x=\"%u\" y=\"%u\">a cell is %s; the paler, the emptier</text>\n", LEFT_PX, y + 32,
                 figure_bytes(cell, picture->cell_bytes));
}

void map_print_svg(const struct arena_picture *picture)
{
    const Admin__Usage *usage = picture->end->usage;
    unsigned rows = (unsigned)((picture->cells_count + PICTURE_COLUMNS - 1) / PICTURE_COLUMNS);
    unsigned height = TOP_PX + rows * CELL_PX + LEGEND_PX;
    unsigned width = LEFT_PX + PICTURE_COLUMNS * CELL_PX + 8;
    char used[FIGURE_BYTES];
    char reserved[FIGURE_BYTES];
    char free[FIGURE_BYTES];
    char largest[FIGURE_BYTES];

    (void)printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" viewBox=\"0 0 %u %u\" "
                 "font-family=\"monospace\" font-size=\"11\">\n",
                 width, height, width, height);
    (void)printf("<title>session %" PRIu64 "</title>\n", picture->end->session);
    (void)printf("<rect width=\"%u\" height=\"%u\" fill=\"white\"/>\n", width, height);
    (void)printf("<text x=\"4\" y=\"16\" font-size=\"13\">session %" PRIu64 ": %" PRIu64
                 " spans, %s used of %s reserved</text>\n",
                 picture->end->session, usage->spans, figure_bytes(used, usage->used_bytes),
                 figure_bytes(reserved, usage->reserved_bytes));
    (void)printf("<text x=\"4\" y=\"36\">free: %s in %" PRIu64
                 " runs, the largest %s: %u%% fragmented</text>\n",
                 figure_bytes(free, picture->free_bytes), picture->free_runs,
                 figure_bytes(largest, picture->largest_free_bytes), arena_picture_fragmentation(picture));
    print_cells(picture);
    print_legend(picture, TOP_PX + rows * CELL_PX + 14);
    (void)printf("</svg>\n");
}
