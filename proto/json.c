/* SPDX-License-Identifier: MIT */
#include "proto/json.h"

#include <inttypes.h>
#include <stdio.h>

static bool needs_comma;

static void begin(const char *key)
{
    if (needs_comma)
        (void)putchar(',');
    needs_comma = true;
    if (key == NULL)
        return;
    json_print_string(key);
    (void)putchar(':');
}

void json_open(const char *key, char bracket)
{
    begin(key);
    (void)putchar(bracket);
    needs_comma = false;
}

void json_close(char bracket)
{
    (void)putchar(bracket);
    needs_comma = true;
}

void json_end(void)
{
    (void)putchar('\n');
    needs_comma = false;
}

void json_text(const char *key, const char *value)
{
    begin(key);
    json_print_string(value);
}

void json_number(const char *key, uint64_t value)
{
    begin(key);
    (void)printf("%" PRIu64, value);
}

void json_real(const char *key, double value)
{
    begin(key);
    (void)printf("%.3f", value);
}

void json_bool(const char *key, bool value)
{
    begin(key);
    (void)fputs(value ? "true" : "false", stdout);
}

void json_literal(const char *key, const char *literal)
{
    begin(key);
    (void)fputs(literal, stdout);
}

void json_bytes(const char *key, const uint8_t *bytes, size_t count)
{
    begin(key);
    (void)putchar('"');
    for (size_t i = 0; i < count; i++)
        (void)printf("%02x", bytes[i]);
    (void)putchar('"');
}

void json_print_string(const char *text)
{
    (void)putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\')
            (void)printf("\\%c", byte);
        else if (byte == '\n')
            (void)fputs("\\n", stdout);
        else if (byte < 0x20 || byte > 0x7e)
            (void)printf("\\u%04x", byte);
        else
            (void)putchar(byte);
    }
    (void)putchar('"');
}
