#include "share/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void gwtf_assert_failed(const char *condition, const char *file, int line) {
    fprintf(stderr, "gwtf: bug: %s:%d: %s: please report it\n", file, line, condition);
    abort();
}
