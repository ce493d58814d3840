/* SPDX-License-Identifier: MIT */
#include "proto/result.h"

#include <stdarg.h>
#include <stdio.h>

void result_init(struct result *result)
{
    result->status = STATUS_OK;
    result->field = "";
    result->text[0] = '\0';
    result->has_span = false;
    result->offset = 0;
    result->size = 0;
    result->flags = 0;
    result->found = 0;
    result->has_usage = false;
}

enum status result_refuse(struct result *result, enum status status, const char *field, const char *format,
                          ...)
{
    va_list args;

    result->status = status;
    result->field = field;
    va_start(args, format);
    (void)vsnprintf(result->text, sizeof result->text, format, args);
    va_end(args);
    return status;
}
