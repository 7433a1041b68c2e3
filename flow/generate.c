#include "flow/generate.h"

#include "share/base/random.h"

#include <stdlib.h>

/* What random numbers are for: each has a sequence of its own, so that a change of one range leaves
 * the others' draws alone. */
enum { FOR_CAPACITY = 1, FOR_LINKS, FOR_COSTS, FOR_COSTS_BACK };

struct gwtf_flow_recipe gwtf_flow_recipe_default(void) {
    return (struct gwtf_flow_recipe){.relays = 32,
                                     .stages = 4,
                                     .data_nodes = 1,
                                     .capacity = {1, 5},
                                     .cost = {1, 700},
                                     .seed = 1};
}

static bool is_valid(const struct gwtf_flow_recipe *recipe) {
    return recipe->stages >= 1 && recipe->relays >= recipe->stages &&
           recipe->relays <= GWTF_FLOW_RECIPE_RELAYS_MAX && recipe->data_nodes >= 1 &&
           recipe->data_nodes <= GWTF_FLOW_RECIPE_RELAYS_MAX &&
           recipe->capacity.least <= recipe->capacity.most &&
           recipe->capacity.most <= GWTF_FLOW_RECIPE_CAPACITY_MAX &&
           recipe->data_capacity.least <= recipe->data_capacity.most &&
           recipe->data_capacity.most <= GWTF_FLOW_RECIPE_CAPACITY_MAX &&
           recipe->cost.least <= recipe->cost.most && recipe->cost.most <= INT32_MAX &&
           recipe->missing >= 0 && recipe->missing < 1;
}

static uint32_t draw(struct gwtf_random *random, struct gwtf_flow_range range) {
    return range.least +
           (uint32_t)gwtf_random_below(random, (uint64_t)range.most - range.least + 1);
}

static void set_capacities(const struct gwtf_flow_recipe *recipe, const uint32_t *stage,
                           uint32_t nodes, uint32_t *capacity, uint64_t *sums) {
    struct gwtf_random random;
    gwtf_random_init(&random, gwtf_random_key(recipe->seed, FOR_CAPACITY));
    for (uint32_t i = recipe->data_nodes; i < nodes; i++) {
        capacity[i] = draw(&random, recipe->capacity);
        sums[stage[i]] += capacity[i];
    }
    uint64_t tightest = sums[1];
    for (uint32_t s = 2; s <= recipe->stages; s++)
        tightest = sums[s] < tightest ? sums[s] : tightest;
    uint64_t wanted = (tightest * 6 + 4) / 5;
    for (uint32_t i = 0; i < recipe->data_nodes; i++) {
        uint64_t even = wanted / recipe->data_nodes + (i < wanted % recipe->data_nodes);
        if (recipe->data_capacity.most > 0)
            capacity[i] = draw(&random, recipe->data_capacity);
        else
            capacity[i] = even > 0 ? (uint32_t)even : 1;
    }
}

static gwtf_status set_links(const struct gwtf_flow_recipe *recipe, gwtf_flow_instance *instance) {
    struct gwtf_random links, costs, costs_back;
    gwtf_random_init(&links, gwtf_random_key(recipe->seed, FOR_LINKS));
    gwtf_random_init(&costs, gwtf_random_key(recipe->seed, FOR_COSTS));
    gwtf_random_init(&costs_back, gwtf_random_key(recipe->seed, FOR_COSTS_BACK));
    for (uint32_t from = 0; from < gwtf_flow_instance_nodes(instance); from++) {
        uint32_t count = 0, stage = gwtf_flow_instance_stage(instance, from);
        const gwtf_node_id *next = gwtf_flow_instance_stage_nodes(
            instance, gwtf_flow_instance_next_stage(instance, stage), &count);
        for (uint32_t i = 0; i < count; i++) {
            bool is_missing = gwtf_random_unit(&links) < recipe->missing;
            int32_t cost = (int32_t)draw(&costs, recipe->cost);
            int32_t back = (int32_t)draw(&costs_back, recipe->cost);
            if (is_missing)
                cost = back = GWTF_FLOW_NO_LINK;
            /* With one stage of relays both directions are hops. */
            if (recipe->stages == 1 && stage == 1 && !recipe->asymmetric)
                cost = gwtf_flow_instance_cost(instance, next[i], from);
            gwtf_flow_instance_set_cost(instance, from, next[i], cost);
            if (!recipe->asymmetric || recipe->stages == 1)
                continue;
            gwtf_status status = gwtf_flow_instance_set_cost_back(instance, from, next[i], back);
            if (status != GWTF_OK)
                return status;
        }
    }
    return GWTF_OK;
}

static gwtf_status create(const struct gwtf_flow_recipe *recipe, gwtf_flow_instance **instance) {
    uint32_t nodes = recipe->data_nodes + recipe->relays;
    uint32_t *stage = calloc(nodes, sizeof *stage), *capacity = calloc(nodes, sizeof *capacity);
    uint64_t *sums = calloc((size_t)recipe->stages + 1, sizeof *sums);
    gwtf_status status = GWTF_ERROR_MEMORY;
    if (stage != NULL && capacity != NULL && sums != NULL) {
        for (uint32_t i = 0; i < recipe->relays; i++)
            stage[recipe->data_nodes + i] =
                1 + (uint32_t)((uint64_t)i * recipe->stages / recipe->relays);
        set_capacities(recipe, stage, nodes, capacity, sums);
        status = gwtf_flow_instance_create(recipe->stages, nodes, stage, capacity, instance);
    }
    free(sums);
    free(capacity);
    free(stage);
    return status;
}

gwtf_status gwtf_flow_generate(const struct gwtf_flow_recipe *recipe,
                               gwtf_flow_instance **instance) {
    if (!is_valid(recipe))
        return GWTF_ERROR_USAGE;
    gwtf_flow_instance *made = NULL;
    gwtf_status status = create(recipe, &made);
    if (status == GWTF_OK)
        status = set_links(recipe, made);
    if (status == GWTF_OK)
        *instance = made;
    else
        gwtf_flow_instance_destroy(made);
    return status;
}
