#include "flow/instance.h"

#include "share/base/assert.h"

#include <stdlib.h>
#include <string.h>

struct gwtf_flow_instance {
    uint32_t stages;
    uint32_t nodes_count;
    uint32_t *stage;       /* [nodes_count] */
    uint32_t *capacity;    /* [nodes_count] */
    uint32_t *place;       /* [nodes_count] among the nodes of its stage */
    gwtf_node_id *ordered; /* [nodes_count] by stage, then by id */
    uint32_t *first;       /* [stages + 2] where a stage begins in `ordered` */
    int32_t **blocks;      /* [stages + 1] */
    int32_t **back;        /* [stages + 1], of the same shape; NULL: as in the block */
};

static uint32_t width(const gwtf_flow_instance *instance, uint32_t stage) {
    return instance->first[stage + 1] - instance->first[stage];
}

static size_t block_cells(const gwtf_flow_instance *instance, uint32_t stage) {
    return (size_t)width(instance, stage) *
           width(instance, gwtf_flow_instance_next_stage(instance, stage));
}

static bool allocate(gwtf_flow_instance *instance) {
    size_t nodes = instance->nodes_count, stages = instance->stages;
    instance->stage = calloc(nodes, sizeof *instance->stage);
    instance->capacity = calloc(nodes, sizeof *instance->capacity);
    instance->place = calloc(nodes, sizeof *instance->place);
    instance->ordered = calloc(nodes, sizeof *instance->ordered);
    instance->first = calloc(stages + 2, sizeof *instance->first);
    instance->blocks = calloc(stages + 1, sizeof *instance->blocks);
    instance->back = calloc(stages + 1, sizeof *instance->back);
    return instance->stage != NULL && instance->capacity != NULL && instance->place != NULL &&
           instance->ordered != NULL && instance->first != NULL && instance->blocks != NULL &&
           instance->back != NULL;
}

static int32_t *create_block(size_t cells) {
    int32_t *block = malloc(cells * sizeof *block);
    for (size_t i = 0; block != NULL && i < cells; i++)
        block[i] = GWTF_FLOW_NO_LINK;
    return block;
}

static bool *create_marks(size_t count) {
    return malloc(count * sizeof(bool));
}

/* Nodes by stage. False when a stage has none, or a node a stage that there is not. */
static bool order_nodes(gwtf_flow_instance *instance) {
    if (instance->nodes_count <= instance->stages)
        return false;
    for (uint32_t i = 0; i < instance->nodes_count; i++) {
        if (instance->stage[i] > instance->stages)
            return false;
        instance->place[i] = instance->first[instance->stage[i] + 1]++;
    }
    for (uint32_t s = 0; s <= instance->stages; s++) {
        if (instance->first[s + 1] == 0)
            return false;
        instance->first[s + 1] += instance->first[s];
    }
    for (uint32_t i = 0; i < instance->nodes_count; i++)
        instance->ordered[instance->first[instance->stage[i]] + instance->place[i]] = i;
    return true;
}

static gwtf_status create_blocks(gwtf_flow_instance *instance) {
    for (uint32_t s = 0; s <= instance->stages; s++) {
        instance->blocks[s] = create_block(block_cells(instance, s));
        if (instance->blocks[s] == NULL)
            return GWTF_ERROR_MEMORY;
    }
    return GWTF_OK;
}

gwtf_status gwtf_flow_instance_create(uint32_t stages, uint32_t nodes_count, const uint32_t *stage,
                                      const uint32_t *capacity, gwtf_flow_instance **instance) {
    if (stages == 0 || stages >= nodes_count)
        return GWTF_ERROR_USAGE;
    gwtf_flow_instance *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->stages = stages;
    made->nodes_count = nodes_count;
    gwtf_status status = allocate(made) ? GWTF_OK : GWTF_ERROR_MEMORY;
    if (status == GWTF_OK) {
        memcpy(made->stage, stage, nodes_count * sizeof *stage);
        memcpy(made->capacity, capacity, nodes_count * sizeof *capacity);
        status = order_nodes(made) ? create_blocks(made) : GWTF_ERROR_USAGE;
    }
    if (status == GWTF_OK)
        *instance = made;
    else
        gwtf_flow_instance_destroy(made);
    return status;
}

gwtf_status gwtf_flow_instance_create_copy(const gwtf_flow_instance *original,
                                           gwtf_flow_instance **instance) {
    gwtf_flow_instance *copy = NULL;
    gwtf_status status = gwtf_flow_instance_create(original->stages, original->nodes_count,
                                                   original->stage, original->capacity, &copy);
    if (status != GWTF_OK)
        return status;
    for (uint32_t s = 0; s <= copy->stages; s++) {
        size_t cells = block_cells(copy, s);
        memcpy(copy->blocks[s], original->blocks[s], cells * sizeof **copy->blocks);
        if (original->back[s] == NULL)
            continue;
        copy->back[s] = create_block(cells);
        if (copy->back[s] == NULL) {
            gwtf_flow_instance_destroy(copy);
            return GWTF_ERROR_MEMORY;
        }
        memcpy(copy->back[s], original->back[s], cells * sizeof **copy->back);
    }
    *instance = copy;
    return GWTF_OK;
}

void gwtf_flow_instance_destroy(gwtf_flow_instance *instance) {
    if (instance == NULL)
        return;
    for (uint32_t s = 0; s <= instance->stages; s++) {
        if (instance->blocks != NULL)
            free(instance->blocks[s]);
        if (instance->back != NULL)
            free(instance->back[s]);
    }
    free(instance->back);
    free(instance->blocks);
    free(instance->first);
    free(instance->ordered);
    free(instance->place);
    free(instance->capacity);
    free(instance->stage);
    free(instance);
}

uint32_t gwtf_flow_instance_stages(const gwtf_flow_instance *instance) {
    return instance->stages;
}

uint32_t gwtf_flow_instance_nodes(const gwtf_flow_instance *instance) {
    return instance->nodes_count;
}

uint32_t gwtf_flow_instance_stage(const gwtf_flow_instance *instance, gwtf_node_id node) {
    GWTF_ASSERT(node < instance->nodes_count);
    return instance->stage[node];
}

uint32_t gwtf_flow_instance_capacity(const gwtf_flow_instance *instance, gwtf_node_id node) {
    GWTF_ASSERT(node < instance->nodes_count);
    return instance->capacity[node];
}

void gwtf_flow_instance_set_capacity(gwtf_flow_instance *instance, gwtf_node_id node,
                                     uint32_t capacity) {
    GWTF_ASSERT(node < instance->nodes_count);
    instance->capacity[node] = capacity;
}

uint64_t gwtf_flow_instance_stage_capacity(const gwtf_flow_instance *instance, uint32_t stage) {
    GWTF_ASSERT(stage <= instance->stages);
    uint64_t sum = 0;
    for (uint32_t i = instance->first[stage]; i < instance->first[stage + 1]; i++)
        sum += instance->capacity[instance->ordered[i]];
    return sum;
}

const gwtf_node_id *gwtf_flow_instance_stage_nodes(const gwtf_flow_instance *instance,
                                                   uint32_t stage, uint32_t *count) {
    GWTF_ASSERT(stage <= instance->stages);
    *count = width(instance, stage);
    return instance->ordered + instance->first[stage];
}

uint32_t gwtf_flow_instance_place(const gwtf_flow_instance *instance, gwtf_node_id node) {
    GWTF_ASSERT(node < instance->nodes_count);
    return instance->place[node];
}

uint32_t gwtf_flow_instance_next_stage(const gwtf_flow_instance *instance, uint32_t stage) {
    return stage == instance->stages ? 0 : stage + 1;
}

uint32_t gwtf_flow_instance_previous_stage(const gwtf_flow_instance *instance, uint32_t stage) {
    return stage == 0 ? instance->stages : stage - 1;
}

static size_t cell_of(const gwtf_flow_instance *instance, gwtf_node_id from, gwtf_node_id to) {
    GWTF_ASSERT(from < instance->nodes_count && to < instance->nodes_count);
    uint32_t next = gwtf_flow_instance_next_stage(instance, instance->stage[from]);
    GWTF_ASSERT(instance->stage[to] == next);
    return (size_t)instance->place[from] * width(instance, next) + instance->place[to];
}

int32_t gwtf_flow_instance_cost(const gwtf_flow_instance *instance, gwtf_node_id from,
                                gwtf_node_id to) {
    GWTF_ASSERT(from < instance->nodes_count && to < instance->nodes_count);
    uint32_t stage = instance->stage[from], other = instance->stage[to];
    if (gwtf_flow_instance_next_stage(instance, stage) == other)
        return instance->blocks[stage][cell_of(instance, from, to)];
    if (gwtf_flow_instance_next_stage(instance, other) != stage)
        return GWTF_FLOW_NO_LINK;
    const int32_t *block =
        instance->back[other] != NULL ? instance->back[other] : instance->blocks[other];
    return block[cell_of(instance, to, from)];
}

const int32_t *gwtf_flow_instance_row(const gwtf_flow_instance *instance, gwtf_node_id from) {
    GWTF_ASSERT(from < instance->nodes_count);
    uint32_t stage = instance->stage[from];
    uint32_t next = gwtf_flow_instance_next_stage(instance, stage);
    return instance->blocks[stage] + (size_t)instance->place[from] * width(instance, next);
}

void gwtf_flow_instance_set_cost(gwtf_flow_instance *instance, gwtf_node_id from, gwtf_node_id to,
                                 int32_t cost) {
    GWTF_ASSERT(cost >= GWTF_FLOW_NO_LINK);
    instance->blocks[instance->stage[from]][cell_of(instance, from, to)] = cost;
}

gwtf_status gwtf_flow_instance_set_cost_back(gwtf_flow_instance *instance, gwtf_node_id from,
                                             gwtf_node_id to, int32_t cost) {
    GWTF_ASSERT(cost >= GWTF_FLOW_NO_LINK);
    uint32_t stage = instance->stage[from];
    size_t cell = cell_of(instance, from, to), cells = block_cells(instance, stage);
    if (instance->back[stage] == NULL) {
        int32_t *block = create_block(cells);
        if (block == NULL)
            return GWTF_ERROR_MEMORY;
        memcpy(block, instance->blocks[stage], cells * sizeof *block);
        instance->back[stage] = block;
    }
    instance->back[stage][cell] = cost;
    return GWTF_OK;
}

bool gwtf_flow_instance_has_back(const gwtf_flow_instance *instance) {
    for (uint32_t s = 0; s <= instance->stages; s++)
        if (instance->back[s] != NULL)
            return true;
    return false;
}

/* Which nodes can be reached from DATA_NODE; true when it is one of them. */
static bool returns(const gwtf_flow_instance *instance, gwtf_node_id data_node, bool *reached) {
    memset(reached, 0, instance->nodes_count * sizeof *reached);
    for (uint32_t s = 0; s <= instance->stages; s++) {
        uint32_t count = 0, next_count = 0;
        const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, s, &count);
        const gwtf_node_id *next = gwtf_flow_instance_stage_nodes(
            instance, gwtf_flow_instance_next_stage(instance, s), &next_count);
        for (uint32_t i = 0; i < count; i++) {
            if (instance->capacity[nodes[i]] == 0 ||
                (s == 0 ? nodes[i] != data_node : !reached[nodes[i]]))
                continue;
            const int32_t *row = gwtf_flow_instance_row(instance, nodes[i]);
            for (uint32_t j = 0; j < next_count; j++)
                reached[next[j]] = reached[next[j]] || row[j] >= 0;
        }
    }
    return reached[data_node];
}

gwtf_status gwtf_flow_instance_find_path(const gwtf_flow_instance *instance, bool *found) {
    bool *reached = create_marks(instance->nodes_count);
    if (reached == NULL)
        return GWTF_ERROR_MEMORY;
    *found = false;
    for (uint32_t i = 0; i < width(instance, 0) && !*found; i++)
        *found = returns(instance, instance->ordered[i], reached);
    free(reached);
    return GWTF_OK;
}
