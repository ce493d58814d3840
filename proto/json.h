/* SPDX-License-Identifier: MIT */
/*
 * JSON on standard output, value by value; commas come by themselves. The key is NULL in an array. What a
 * client may have named is escaped byte by byte, so that it is JSON whatever it is.
 */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* '{' or '['. */
void json_open(const char *key, char bracket);
void json_close(char bracket);
/* Behind the outermost bracket: the end of the line. */
void json_end(void);

void json_text(const char *key, const char *value);
void json_number(const char *key, uint64_t value);
void json_real(const char *key, double value);
void json_bool(const char *key, bool value);
/* As hexadecimal digits. */
void json_bytes(const char *key, const uint8_t *bytes, size_t count);

/* A string by itself. */
void json_print_string(const char *text);

#endif
