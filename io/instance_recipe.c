/* The recipe of a random instance from a text: "relays=60,stages=6". */
#include "io/instance.h"
#include "io/nearest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum value_kind { A_COUNT, A_SEED, A_RANGE, A_SHARE, A_FLAG };

struct key {
    const char *name;
    enum value_kind kind;
    size_t offset;
    double least, most;
    const char *example;
};

static const struct key keys[] = {
    {"relays", A_COUNT, offsetof(struct gwtf_flow_recipe, relays), 1, GWTF_FLOW_RECIPE_RELAYS_MAX,
     "a whole number from 1 to 100000"},
    {"stages", A_COUNT, offsetof(struct gwtf_flow_recipe, stages), 1, 1000,
     "a whole number from 1 to 1000"},
    {"data_nodes", A_COUNT, offsetof(struct gwtf_flow_recipe, data_nodes), 1, 1000,
     "a whole number from 1 to 1000"},
    {"capacity", A_RANGE, offsetof(struct gwtf_flow_recipe, capacity), 0,
     GWTF_FLOW_RECIPE_CAPACITY_MAX, "a range like 1..20, up to 32768"},
    {"data_capacity", A_RANGE, offsetof(struct gwtf_flow_recipe, data_capacity), 1,
     GWTF_FLOW_RECIPE_CAPACITY_MAX, "a range like 20..40, from 1 to 32768"},
    {"cost", A_RANGE, offsetof(struct gwtf_flow_recipe, cost), 0, INT32_MAX,
     "a range like 1..700, below 2^31"},
    {"missing", A_SHARE, offsetof(struct gwtf_flow_recipe, missing), 0, 1,
     "a number from 0 to below 1"},
    {"asymmetric", A_FLAG, offsetof(struct gwtf_flow_recipe, asymmetric), 0, 1, "true or false"},
    {"seed", A_SEED, offsetof(struct gwtf_flow_recipe, seed), 0, 1e18, "a whole number, 0 or more"},
};
#define KEYS_COUNT (sizeof keys / sizeof keys[0])

static bool parse_whole(const struct key *key, const char *text, const char **end,
                        uint64_t *value) {
    char *after = NULL;
    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *value = strtoull(text, &after, 10);
    *end = after;
    return errno == 0 && (double)*value >= key->least && (double)*value <= key->most;
}

/* A range, or one number for both ends. */
static bool parse_range(const struct key *key, const char *text, struct gwtf_flow_range *range) {
    uint64_t least = 0, most = 0;
    if (!parse_whole(key, text, &text, &least))
        return false;
    most = least;
    if (strncmp(text, "..", 2) == 0 && !parse_whole(key, text + 2, &text, &most))
        return false;
    *range = (struct gwtf_flow_range){(uint32_t)least, (uint32_t)most};
    return *text == '\0' && least <= most;
}

static bool parse_value(const struct key *key, const char *text, struct gwtf_flow_recipe *recipe) {
    void *member = (char *)recipe + key->offset;
    uint64_t whole = 0;
    char *end = NULL;
    switch (key->kind) {
    case A_COUNT:
        if (!parse_whole(key, text, &text, &whole) || *text != '\0')
            return false;
        *(uint32_t *)member = (uint32_t)whole;
        return true;
    case A_SEED:
        return parse_whole(key, text, &text, member) && *text == '\0';
    case A_RANGE:
        return parse_range(key, text, member);
    case A_SHARE: {
        double share = strtod(text, &end);
        *(double *)member = share;
        return end != text && *end == '\0' && share >= 0 && share < 1;
    }
    case A_FLAG:
        *(bool *)member = strcmp(text, "true") == 0;
        return strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
    }
    return false;
}

static gwtf_status complain_key(const char *name, const char *option, struct gwtf_error *error) {
    const char *nearest = keys[0].name;
    for (size_t i = 1; i < KEYS_COUNT; i++)
        if (gwtf_nearest_distance(name, keys[i].name) < gwtf_nearest_distance(name, nearest))
            nearest = keys[i].name;
    return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s: unknown key '%.60s': did you mean '%s'?",
                          option, name, nearest);
}

static gwtf_status parse_item(char *item, const char *option, struct gwtf_flow_recipe *recipe,
                              struct gwtf_error *error) {
    char *value = strchr(item, '=');
    if (value == NULL)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "%s: '%.60s' has no value: write relays=60,stages=6", option, item);
    *value++ = '\0';
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        if (strcmp(keys[i].name, item) != 0)
            continue;
        if (parse_value(&keys[i], value, recipe))
            return GWTF_OK;
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "%s: %s is '%.60s': give %s", option, item,
                              value, keys[i].example);
    }
    return complain_key(item, option, error);
}

gwtf_status gwtf_instance_parse_recipe(const char *text, const char *option,
                                       struct gwtf_flow_recipe *recipe, struct gwtf_error *error) {
    struct gwtf_flow_recipe made = gwtf_flow_recipe_default();
    char *copy = strdup(text), *rest = copy, *item = NULL;
    if (copy == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "%s: no memory: free some", option);
    gwtf_status status = GWTF_OK;
    while (status == GWTF_OK && (item = strsep(&rest, ",")) != NULL)
        status = parse_item(item, option, &made, error);
    free(copy);
    if (status == GWTF_OK && made.relays < made.stages)
        status = gwtf_error_set(error, GWTF_ERROR_USAGE,
                                "%s: %u relays cannot fill %u stages: give one for each at least",
                                option, made.relays, made.stages);
    if (status == GWTF_OK)
        *recipe = made;
    return status;
}
