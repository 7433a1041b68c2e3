#include "share/base/status.h"

#include <stdarg.h>
#include <stdio.h>

const char *gwtf_status_name(gwtf_status status) {
    switch (status) {
    case GWTF_OK:
        return "ok";
    case GWTF_ERROR_USAGE:
        return "usage";
    case GWTF_ERROR_MEMORY:
        return "memory";
    case GWTF_ERROR_LIMIT:
        return "limit";
    case GWTF_ERROR_MISSING:
        return "missing";
    case GWTF_ERROR_IO:
        return "io";
    case GWTF_ERROR_CORRUPT:
        return "corrupt";
    case GWTF_ERROR_UNSUPPORTED:
        return "unsupported";
    case GWTF_ERROR_LINK:
        return "link";
    case GWTF_ERROR_FENCED:
        return "fenced";
    case GWTF_ERROR_DEVICE:
        return "device";
    case GWTF_ERROR_PEER:
        return "peer";
    case GWTF_ERROR_STAGE:
        return "stage";
    case GWTF_ERROR_DISAGREEMENT:
        return "disagreement";
    case GWTF_ERROR_RUN:
        return "run";
    case GWTF_ERROR_INTERRUPTED:
        return "interrupted";
    }
    return "unknown";
}

int gwtf_status_exit_code(gwtf_status status) {
    if (status == GWTF_OK)
        return 0;
    return status == GWTF_ERROR_USAGE ? 2 : 1;
}

gwtf_status gwtf_error_set(struct gwtf_error *error, gwtf_status status, const char *format, ...) {
    if (error == NULL)
        return status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    for (char *at = error->text; *at != '\0'; at++)
        if (*at == '\n' || *at == '\r')
            *at = ' ';
    return status;
}
