/* What a user may have meant, by the distance between words. */
#ifndef GWTF_IO_NEAREST_H
#define GWTF_IO_NEAREST_H

#include <stdbool.h>
#include <stddef.h>

/* Inserted, deleted, changed or swapped neighbouring characters that lead from A to B. Of longer
 * words the first 64 characters count. */
size_t gwtf_nearest_distance(const char *a, const char *b);

/* True when B is near enough to A to be what was meant. */
bool gwtf_nearest_is_close(const char *a, const char *b);

#endif
