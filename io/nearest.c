#include "io/nearest.h"

#include <string.h>

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Damerau and Levenshtein's distance, optimal string alignment; names longer than the table are cut
 * to it. */
size_t gwtf_nearest_distance(const char *a, const char *b) {
    enum { MOST = 64 };
    size_t cells[MOST + 1][MOST + 1];
    size_t a_length = smaller(strlen(a), MOST), b_length = smaller(strlen(b), MOST);
    for (size_t i = 0; i <= a_length; i++)
        cells[i][0] = i;
    for (size_t j = 0; j <= b_length; j++)
        cells[0][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        for (size_t j = 1; j <= b_length; j++) {
            size_t changed = cells[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            size_t best = smaller(changed, smaller(cells[i - 1][j], cells[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = smaller(best, cells[i - 2][j - 2] + 1);
            cells[i][j] = best;
        }
    }
    return cells[a_length][b_length];
}

bool gwtf_nearest_is_close(const char *a, const char *b) {
    size_t length = strlen(a) > strlen(b) ? strlen(a) : strlen(b);
    return gwtf_nearest_distance(a, b) <= (length < 4 ? 1 : length / 3 + 1);
}
