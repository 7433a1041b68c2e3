#include "launcher/options.h"

#include "share/base/assert.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void gwtf_table_init(struct gwtf_table *table, const char *alignment, const char *const *headers) {
    memset(table, 0, sizeof *table);
    table->columns = strlen(alignment);
    table->alignment = alignment;
    GWTF_ASSERT(table->columns > 0 && table->columns <= GWTF_TABLE_COLUMNS_MAX);
    for (size_t i = 0; i < table->columns; i++)
        gwtf_table_cell(table, "%s", headers[i]);
}

static void no_memory(void) {
    exit(gwtf_fail(GWTF_ERROR_MEMORY, "no memory for a table: free some"));
}

void gwtf_table_cell(struct gwtf_table *table, const char *format, ...) {
    if (table->cells_count == table->cells_room) {
        table->cells_room = table->cells_room == 0 ? 64 : 2 * table->cells_room;
        table->cells = realloc(table->cells, table->cells_room * sizeof *table->cells);
        if (table->cells == NULL)
            no_memory();
    }
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&table->cells[table->cells_count], format, arguments) < 0)
        no_memory();
    va_end(arguments);
    table->cells_count++;
}

/* Characters, not bytes: host names and paths may be UTF-8. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void gwtf_table_print(const struct gwtf_table *table, FILE *stream) {
    int widths[GWTF_TABLE_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < table->cells_count; i++) {
        int width = width_of(table->cells[i]);
        int *widest = &widths[i % table->columns];
        *widest = width > *widest ? width : *widest;
    }
    for (size_t i = 0; i < table->cells_count; i++) {
        size_t column = i % table->columns;
        bool last = column + 1 == table->columns;
        int blanks = widths[column] - width_of(table->cells[i]);
        bool right = table->alignment[column] == 'r';
        fprintf(stream, "%*s%s%*s%s", right ? blanks : 0, "", table->cells[i],
                right || last ? 0 : blanks, "", last ? "\n" : "  ");
    }
}

void gwtf_table_deinit(struct gwtf_table *table) {
    for (size_t i = 0; i < table->cells_count; i++)
        free(table->cells[i]);
    free(table->cells);
}
