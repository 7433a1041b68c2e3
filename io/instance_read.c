/* A flow instance from a libconfig file. */
#include "io/config_reader.h"
#include "io/instance.h"
#include "io/nearest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)1 << 30)
#define NO_STAGE UINT32_MAX

struct reader {
    const char *path;
    struct gwtf_error *error;
    const config_setting_t *group; /* `instance` */
    uint32_t stages, nodes_count;
    uint32_t *stage;    /* [nodes_count] */
    uint32_t *capacity; /* [nodes_count] */
    gwtf_flow_instance *instance;
    struct gwtf_instance_facts facts;
};

static gwtf_status complain(const struct reader *reader, const config_setting_t *setting,
                            const char *format, ...) __attribute__((format(printf, 3, 4)));

/* "FILE:LINE: " before the text. */
static gwtf_status complain(const struct reader *reader, const config_setting_t *setting,
                            const char *format, ...) {
    char text[GWTF_ERROR_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return gwtf_error_set(reader->error, GWTF_ERROR_USAGE, "%s:%u: %s", reader->path,
                          setting != NULL ? config_setting_source_line(setting) : 1, text);
}

static gwtf_status no_memory(const struct reader *reader) {
    return gwtf_error_set(reader->error, GWTF_ERROR_MEMORY, "%s: no memory: free some",
                          reader->path);
}

/* Says what else could be meant when GROUP holds a key that is not among KEYS, which NULL ends. */
static gwtf_status check_keys(const struct reader *reader, const config_setting_t *group,
                              const char *const *keys) {
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(setting), *nearest = keys[0];
        for (size_t j = 0; keys[j] != NULL; j++)
            if (gwtf_nearest_distance(name, keys[j]) < gwtf_nearest_distance(name, nearest))
                nearest = keys[j];
        if (strcmp(name, nearest) == 0)
            continue;
        if (gwtf_nearest_is_close(name, nearest))
            return complain(reader, setting, "unknown key '%.60s': did you mean '%s'?", name,
                            nearest);
        return complain(reader, setting, "unknown key '%.60s': leave it out", name);
    }
    return GWTF_OK;
}

static bool is_sequence(const config_setting_t *setting) {
    return config_setting_is_array(setting) || config_setting_is_list(setting);
}

/* A key of the instance that must be there, a list or an array. */
static gwtf_status find_sequence(const struct reader *reader, const char *name,
                                 const config_setting_t **setting) {
    *setting = config_setting_get_member(reader->group, name);
    if (*setting == NULL)
        return complain(reader, reader->group, "'%s' is missing: add it to the instance", name);
    if (!is_sequence(*setting))
        return complain(reader, *setting, "'%s' is no list: write [ ... ] or ( ... )", name);
    if (config_setting_length(*setting) == 0)
        return complain(reader, *setting, "'%s' is empty: fill it", name);
    return GWTF_OK;
}

/* A whole number in LEAST..MOST. */
static gwtf_status get_whole(const struct reader *reader, const config_setting_t *setting,
                             const char *what, int64_t least, int64_t most, int64_t *value) {
    int type = config_setting_type(setting);
    if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
        return complain(reader, setting,
                        "%s is not a whole number: give one from %" PRId64 " to %" PRId64, what,
                        least, most);
    *value = config_setting_get_int64(setting);
    if (*value < least || *value > most)
        return complain(reader, setting, "%s is %" PRId64 ": give one from %" PRId64 " to %" PRId64,
                        what, *value, least, most);
    return GWTF_OK;
}

static gwtf_status read_capacities(struct reader *reader) {
    const config_setting_t *list = NULL;
    gwtf_status status = find_sequence(reader, "capacity", &list);
    if (status != GWTF_OK)
        return status;
    int count = config_setting_length(list);
    if (count > (int)GWTF_INSTANCE_NODES_MAX)
        return complain(reader, list, "there are %d nodes: give at most %u", count,
                        GWTF_INSTANCE_NODES_MAX);
    reader->nodes_count = (uint32_t)count;
    reader->capacity = calloc(reader->nodes_count, sizeof *reader->capacity);
    reader->stage = calloc(reader->nodes_count, sizeof *reader->stage);
    if (reader->capacity == NULL || reader->stage == NULL)
        return no_memory(reader);
    for (uint32_t i = 0; i < reader->nodes_count && status == GWTF_OK; i++) {
        char what[48];
        int64_t value = 0;
        snprintf(what, sizeof what, "the capacity of node %" PRIu32, i);
        status = get_whole(reader, config_setting_get_elem(list, i), what, 0,
                           GWTF_FLOW_RECIPE_CAPACITY_MAX, &value);
        reader->capacity[i] = (uint32_t)value;
        reader->stage[i] = NO_STAGE;
    }
    return status;
}

static gwtf_status read_members(struct reader *reader, const config_setting_t *list,
                                uint32_t stage) {
    for (int i = 0; i < config_setting_length(list); i++) {
        const config_setting_t *element = config_setting_get_elem(list, (unsigned)i);
        int64_t node = 0;
        gwtf_status status = get_whole(reader, element, "a node of a stage", 0,
                                       (int64_t)reader->nodes_count - 1, &node);
        if (status != GWTF_OK)
            return status;
        if (reader->stage[node] == stage)
            return complain(reader, element, "node %" PRId64 " is named twice: keep one", node);
        if (reader->stage[node] != NO_STAGE)
            return complain(reader, element,
                            "node %" PRId64 " is in stage %" PRIu32 " and in %" PRIu32
                            " (0: data nodes): keep one",
                            node, reader->stage[node], stage);
        reader->stage[node] = stage;
    }
    return GWTF_OK;
}

static gwtf_status read_stages(struct reader *reader) {
    const config_setting_t *data = NULL, *stages = NULL;
    gwtf_status status = find_sequence(reader, "data_nodes", &data);
    if (status == GWTF_OK)
        status = find_sequence(reader, "stages", &stages);
    if (status == GWTF_OK)
        status = read_members(reader, data, 0);
    if (status != GWTF_OK)
        return status;
    reader->stages = (uint32_t)config_setting_length(stages);
    for (uint32_t s = 1; s <= reader->stages; s++) {
        const config_setting_t *stage = config_setting_get_elem(stages, s - 1);
        if (!is_sequence(stage) || config_setting_length(stage) == 0)
            return complain(reader, stage, "stage %" PRIu32 " has no relay: write [ 1, 2 ]", s);
        status = read_members(reader, stage, s);
        if (status != GWTF_OK)
            return status;
    }
    for (uint32_t i = 0; i < reader->nodes_count; i++)
        if (reader->stage[i] == NO_STAGE)
            return complain(reader, stages,
                            "node %" PRIu32 " has a capacity and is in no stage: add it to one or "
                            "to data_nodes, or shorten capacity",
                            i);
    status = gwtf_flow_instance_create(reader->stages, reader->nodes_count, reader->stage,
                                       reader->capacity, &reader->instance);
    return status == GWTF_OK ? GWTF_OK : no_memory(reader);
}

static bool is_next(const struct reader *reader, uint32_t from, uint32_t to) {
    return reader->stage[to] ==
           gwtf_flow_instance_next_stage(reader->instance, reader->stage[from]);
}

static gwtf_status read_row(struct reader *reader, const config_setting_t *row, uint32_t i) {
    for (uint32_t j = 0; j < reader->nodes_count; j++) {
        char what[64];
        int64_t value = 0;
        snprintf(what, sizeof what, "the cost from node %" PRIu32 " to %" PRIu32, i, j);
        gwtf_status status =
            get_whole(reader, config_setting_get_elem(row, j), what, -1, INT32_MAX, &value);
        if (status != GWTF_OK)
            return status;
        if (is_next(reader, i, j))
            gwtf_flow_instance_set_cost(reader->instance, i, j, (int32_t)value);
    }
    return GWTF_OK;
}

/* What a link costs against the flow, where that differs. */
static gwtf_status read_row_back(struct reader *reader, const config_setting_t *row, uint32_t i) {
    for (uint32_t j = 0; j < reader->nodes_count; j++) {
        int32_t cost = (int32_t)config_setting_get_int64(config_setting_get_elem(row, j));
        if (!is_next(reader, j, i) || is_next(reader, i, j) ||
            cost == gwtf_flow_instance_cost(reader->instance, j, i))
            continue;
        if (gwtf_flow_instance_set_cost_back(reader->instance, j, i, cost) != GWTF_OK)
            return no_memory(reader);
    }
    return GWTF_OK;
}

static gwtf_status read_matrix(struct reader *reader, const config_setting_t *rows) {
    uint32_t nodes = reader->nodes_count;
    gwtf_status status = GWTF_OK;
    if (config_setting_length(rows) != (int)nodes)
        return complain(reader, rows, "'cost' has %d rows for %" PRIu32 " nodes: give each a row",
                        config_setting_length(rows), nodes);
    for (uint32_t i = 0; i < nodes && status == GWTF_OK; i++) {
        const config_setting_t *row = config_setting_get_elem(rows, i);
        if (!is_sequence(row) || config_setting_length(row) != (int)nodes)
            return complain(reader, row,
                            "row %" PRIu32 " of 'cost' has %d numbers for %" PRIu32
                            " nodes: give one for each",
                            i, is_sequence(row) ? config_setting_length(row) : 0, nodes);
        status = read_row(reader, row, i);
    }
    for (uint32_t i = 0; i < nodes && status == GWTF_OK; i++)
        status = read_row_back(reader, config_setting_get_elem(rows, i), i);
    return status;
}

/* One number of a line. False when it is none. */
static bool read_number(const char **text, int32_t *cost) {
    char *end = NULL;
    errno = 0;
    long value = strtol(*text, &end, 10);
    if (end == *text || (*end != ' ' && *end != '\0') || errno != 0 || value < -1 ||
        value > INT32_MAX)
        return false;
    *cost = (int32_t)value;
    *text = end;
    return true;
}

/* The links of NODE, in the flow's direction or BACK. */
static gwtf_status read_line(const struct reader *reader, const config_setting_t *line,
                             gwtf_node_id node, bool back) {
    uint32_t count = 0;
    const gwtf_node_id *next = gwtf_flow_instance_stage_nodes(
        reader->instance, gwtf_flow_instance_next_stage(reader->instance, reader->stage[node]),
        &count);
    const char *text = config_setting_get_string(line);
    if (text == NULL)
        return complain(reader, line,
                        "the links of node %" PRIu32 " are no string: write \"12 -1 7\"", node);
    for (uint32_t i = 0; i < count; i++) {
        int32_t cost = 0;
        if (text[strspn(text, " ")] == '\0')
            return complain(reader, line,
                            "node %" PRIu32 " has %" PRIu32 " links for %" PRIu32
                            " nodes of the next stage: give one for each",
                            node, i, count);
        if (!read_number(&text, &cost))
            return complain(reader, line,
                            "link %" PRIu32 " of node %" PRIu32
                            " is not a whole number: give one from -1 to %d",
                            i, node, INT32_MAX);
        if (!back)
            gwtf_flow_instance_set_cost(reader->instance, node, next[i], cost);
        else if (gwtf_flow_instance_set_cost_back(reader->instance, node, next[i], cost) != GWTF_OK)
            return no_memory(reader);
    }
    if (text[strspn(text, " ")] != '\0')
        return complain(reader, line,
                        "node %" PRIu32 " has more links than the %" PRIu32
                        " nodes of the next stage: leave some out",
                        node, count);
    return GWTF_OK;
}

static gwtf_status read_lines(struct reader *reader, const config_setting_t *list, bool back) {
    const char *name = config_setting_name(list);
    if (config_setting_length(list) != (int)reader->stages + 1)
        return complain(reader, list,
                        "'%s' has %d blocks: give %" PRIu32 ", for the data nodes and %" PRIu32
                        " stages",
                        name, config_setting_length(list), reader->stages + 1, reader->stages);
    for (uint32_t s = 0; s <= reader->stages; s++) {
        uint32_t count = 0;
        const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(reader->instance, s, &count);
        const config_setting_t *block = config_setting_get_elem(list, s);
        int lines = is_sequence(block) ? config_setting_length(block) : 0;
        if (lines != (int)count)
            return complain(reader, block,
                            "block %" PRIu32 " of '%s' has %d lines for %" PRIu32
                            " nodes of its stage: give one for each",
                            s, name, lines, count);
        for (uint32_t i = 0; i < count; i++) {
            gwtf_status status =
                read_line(reader, config_setting_get_elem(block, i), nodes[i], back);
            if (status != GWTF_OK)
                return status;
        }
    }
    return GWTF_OK;
}

static gwtf_status check_path(const struct reader *reader, const config_setting_t *links) {
    bool found = false;
    gwtf_status status = gwtf_flow_instance_find_path(reader->instance, &found);
    if (status != GWTF_OK)
        return no_memory(reader);
    if (!found)
        return complain(reader, links,
                        "no way leads from a data node over a relay of each stage back to it: "
                        "check links and capacities");
    return GWTF_OK;
}

static gwtf_status read_links(struct reader *reader) {
    const config_setting_t *cost = config_setting_get_member(reader->group, "cost");
    const config_setting_t *links = config_setting_get_member(reader->group, "links");
    const config_setting_t *back = config_setting_get_member(reader->group, "links_back");
    if (cost != NULL && (links != NULL || back != NULL))
        return complain(reader, links != NULL ? links : back,
                        "the instance has 'cost' and '%s': keep one",
                        links != NULL ? "links" : "links_back");
    const config_setting_t *given = NULL;
    gwtf_status status =
        find_sequence(reader, links != NULL || back != NULL ? "links" : "cost", &given);
    if (status == GWTF_OK && back != NULL)
        status = find_sequence(reader, "links_back", &back);
    if (status == GWTF_OK)
        status = cost != NULL ? read_matrix(reader, cost) : read_lines(reader, links, false);
    if (status == GWTF_OK && back != NULL)
        status = read_lines(reader, back, true);
    return status == GWTF_OK ? check_path(reader, given) : status;
}

static gwtf_status read_optimum(struct reader *reader) {
    static const char *const keys[] = {"flow", "cost", NULL};
    const config_setting_t *group = config_setting_get_member(reader->group, "optimum");
    if (group == NULL)
        return GWTF_OK;
    if (!config_setting_is_group(group))
        return complain(reader, group, "'optimum' is no group: write { flow = 3; cost = 21; }");
    gwtf_status status = check_keys(reader, group, keys);
    int64_t values[2] = {0};
    for (int i = 0; i < 2 && status == GWTF_OK; i++) {
        const config_setting_t *setting = config_setting_get_member(group, keys[i]);
        char what[32];
        snprintf(what, sizeof what, "'optimum.%s'", keys[i]);
        if (setting == NULL)
            return complain(reader, group, "%s is missing: add it, or leave 'optimum' out", what);
        status = get_whole(reader, setting, what, 0, i == 0 ? UINT32_MAX : INT64_MAX, &values[i]);
    }
    reader->facts.has_optimum = true;
    reader->facts.optimum_flow = (uint32_t)values[0];
    reader->facts.optimum_cost = values[1];
    return status;
}

static gwtf_status read_name(struct reader *reader) {
    const config_setting_t *setting = config_setting_get_member(reader->group, "name");
    if (setting == NULL)
        return GWTF_OK;
    const char *name = config_setting_get_string(setting);
    if (name == NULL)
        return complain(reader, setting, "'name' is no string: write it in quotation marks");
    if (strlen(name) >= GWTF_INSTANCE_NAME_MAX)
        return complain(reader, setting, "'name' has %zu characters: give at most %d", strlen(name),
                        GWTF_INSTANCE_NAME_MAX - 1);
    snprintf(reader->facts.name, sizeof reader->facts.name, "%s", name);
    return GWTF_OK;
}

static gwtf_status read_tree(struct reader *reader, const config_setting_t *root) {
    static const char *const roots[] = {"instance", NULL};
    static const char *const keys[] = {"name",  "data_nodes", "stages",  "capacity", "cost",
                                       "links", "links_back", "optimum", NULL};
    reader->group = config_setting_get_member(root, "instance");
    gwtf_status status = check_keys(reader, root, roots);
    if (status != GWTF_OK)
        return status;
    if (reader->group == NULL || !config_setting_is_group(reader->group))
        return complain(reader, reader->group, "there is no instance: write instance = { ... };");
    gwtf_status (*const parts[])(struct reader *) = {read_name, read_capacities, read_stages,
                                                     read_links, read_optimum};
    status = check_keys(reader, reader->group, keys);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && status == GWTF_OK; i++)
        status = parts[i](reader);
    return status;
}

gwtf_status gwtf_instance_read(const char *path, gwtf_flow_instance **instance,
                               struct gwtf_instance_facts *facts, struct gwtf_error *error) {
    char *text = NULL;
    struct reader reader = {.path = path, .error = error};
    gwtf_status status = gwtf_config_read_file(path, FILE_MAX_BYTES, &text, error);
    if (status != GWTF_OK)
        return status;
    config_t tree;
    config_init(&tree);
    status = gwtf_config_read_text(text, path, &tree, error);
    free(text);
    if (status == GWTF_OK)
        status = read_tree(&reader, config_root_setting(&tree));
    config_destroy(&tree);
    free(reader.capacity);
    free(reader.stage);
    if (status != GWTF_OK) {
        gwtf_flow_instance_destroy(reader.instance);
        return status;
    }
    *instance = reader.instance;
    if (facts != NULL)
        *facts = reader.facts;
    return GWTF_OK;
}
