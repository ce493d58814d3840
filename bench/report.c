/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "rows.h"

#define VERDICT_STATED ""
#define VERDICT_ABSENT "n/a"

static const char *verdict_of(struct report *report, const struct row *row, const struct figure *figure)
{
    double judged = figure->value;

    if (row->aim_on == AIM_NONE)
        return VERDICT_STATED;
    if (row->aim_on == AIM_RATIO) {
        if (figure->against <= 0) {
            report->absent++;
            return VERDICT_ABSENT;
        }
        judged = figure->value / figure->against;
    }
    if (row->at_least ? judged >= row->aim : judged <= row->aim) {
        report->met++;
        return "met";
    }
    report->missed++;
    return "missed";
}

/* ---- For programs ------------------------------------------------------------------------ */

static void put_string(const char *text)
{
    (void)putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)putchar('\\');
        (void)putchar((unsigned char)*text < ' ' ? ' ' : *text);
    }
    (void)putchar('"');
}

static void put_json(const struct row *row, const struct figure *figure, const char *verdict)
{
    (void)printf("{\"row\":\"%s\",", row->id);
    if (figure->live != 0)
        (void)printf("\"live\":%u,", figure->live);
    (void)fputs("\"title\":", stdout);
    put_string(row->title);
    (void)printf(",\"unit\":\"%s\",\"value\":", row->unit);
    if (isnan(figure->value))
        (void)fputs("null", stdout);
    else
        (void)printf("%.7g", figure->value);
    if (figure->sample != NULL)
        (void)printf(",\"p50_us\":%.5g,\"p99_us\":%.5g,\"mean_us\":%.5g,\"batch\":%u,\"steps\":%zu",
                     figure->sample->p50_us, figure->sample->p99_us, figure->sample->mean_us,
                     figure->sample->batch, figure->sample->steps);
    if (figure->against > 0)
        (void)printf(",\"against\":\"%s\",\"against_value\":%.5g,\"ratio\":%.4g",
                     row->against != NULL ? row->against : "", figure->against,
                     figure->value / figure->against);
    if (row->aim_on != AIM_NONE)
        (void)printf(",\"aim\":%g,\"aim_on\":\"%s\",\"aim_is\":\"%s\"", row->aim,
                     row->aim_on == AIM_RATIO ? "ratio" : "value", row->at_least ? "at least" : "at most");
    (void)printf(",\"verdict\":\"%s\"", verdict);
    if (figure->note != NULL) {
        (void)fputs(",\"note\":", stdout);
        put_string(figure->note);
    }
    (void)fputs("}\n", stdout);
}

/* ---- For people -------------------------------------------------------------------------- */

/* Three digits that count, or whole numbers. */
static void put_number(char *to, size_t bytes, double value)
{
    int digits = value >= 99.95 || value == 0 ? 0 : value >= 9.995 ? 1 : value >= 0.9995 ? 2 : 3;

    (void)snprintf(to, bytes, "%.*f", digits, value);
}

static void put_title(const struct row *row, unsigned live)
{
    char title[96];

    if (live != 0)
        (void)snprintf(title, sizeof title, "%s, %u live", row->title, live);
    else
        (void)snprintf(title, sizeof title, "%s", row->title);
    (void)printf("  %-51s", title);
}

static void put_text(const struct row *row, const struct figure *figure, const char *verdict)
{
    char value[32];
    char p99[32] = "";
    char mean[32] = "";
    char ratio[64] = "";
    char aim[32] = "";

    put_number(value, sizeof value, figure->value);
    if (figure->sample != NULL) {
        put_number(p99, sizeof p99, figure->sample->p99_us);
        put_number(mean, sizeof mean, figure->sample->mean_us);
    }
    if (figure->against > 0) {
        put_number(ratio, sizeof ratio, figure->value / figure->against);
        (void)snprintf(ratio + strlen(ratio), sizeof ratio - strlen(ratio), " x %s", row->against);
    }
    if (row->aim_on != AIM_NONE)
        (void)snprintf(aim, sizeof aim, "%s %g", row->at_least ? ">=" : "<=", row->aim);
    put_title(row, figure->live);
    (void)printf("%9s %-5s %8s %8s  %-26s %-8s %s", value, row->unit, p99, mean, ratio, aim, verdict);
    if (figure->note != NULL)
        (void)printf("%s(%s)", verdict[0] != '\0' ? " " : "", figure->note);
    (void)putchar('\n');
}

/* Each line is flushed: what is forked later has nothing left to print. */
static void put(struct report *report, const struct row *row, const struct figure *figure,
                const char *verdict)
{
    if (report->json)
        put_json(row, figure, verdict);
    else
        put_text(row, figure, verdict);
    (void)fflush(stdout);
}

bool report_wants(const struct report *report, const char *prefix)
{
    return rows_match_any(prefix, report->only);
}

void report_heading(const struct report *report, const char *text)
{
    if (report->json)
        return;
    (void)printf("\n%-53s%9s %5s %8s %8s  %-26s %-8s\n", text, "p50", "", "p99", "mean", "ratio", "aim");
    (void)fflush(stdout);
}

void report_figure(struct report *report, const struct figure *figure)
{
    const struct row *row = rows_find(figure->row);

    if (rows_matches(row, report->only))
        put(report, row, figure, verdict_of(report, row, figure));
}

void report_sample(struct report *report, const char *row, const struct sample *sample)
{
    report_compared(report, row, sample, NULL, NULL);
}

void report_compared(struct report *report, const char *row, const struct sample *sample,
                     const struct sample *against, const char *why_not)
{
    const struct figure figure = {
        .row = row,
        .value = sample->p50_us,
        .against = against != NULL ? against->p50_us : 0,
        .sample = sample,
        .note = against != NULL ? NULL : why_not,
    };

    report_figure(report, &figure);
}

void report_absent(struct report *report, const char *id, unsigned live, const char *why)
{
    const struct row *row = rows_find(id);
    const struct figure figure = {.row = id, .live = live, .value = NAN, .note = why};

    if (!rows_matches(row, report->only))
        return;
    report->absent++;
    if (report->json) {
        put(report, row, &figure, VERDICT_ABSENT);
        return;
    }
    put_title(row, live);
    (void)printf("%9s %s\n", VERDICT_ABSENT, why);
    (void)fflush(stdout);
}

void report_remark(const struct report *report, const char *format, ...)
{
    va_list args;

    if (report->json)
        return;
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)putchar('\n');
    (void)fflush(stdout);
}
