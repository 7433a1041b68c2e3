#include "flow/optimal_master.h"

#include "share/base/assert.h"
#include "share/base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING UINT32_MAX
#define FAR_COST 1e18
/* A reduced cost below this counts as negative. */
#define WORTHWHILE (-1e-6)
#define PIVOT_LEAST 1e-9
#define AMOUNT_LEAST 1e-5
/* Right sides differ by up to this from the capacities, so that no two rows block at once. */
#define PERTURBATION 1e-7
#define REFRESH_PIVOTS 400u
#define PIVOTS_MAX 200000u
#define WAYS_MAX 60000u
/* Prices in the bound are whole multiples of one part in so many. */
#define PRICE_PARTS 1024

struct optimal_master {
    const gwtf_flow_instance *instance;
    uint32_t nodes, stages;
    double worth; /* of a flow: above what any exchange can cost */
    struct gwtf_random random;

    /* Ways, kept. */
    uint32_t ways_count, ways_max;
    gwtf_node_id *ways; /* [ways_max][stages + 1] */
    double *costs;      /* [ways_max] */
    bool *usable;       /* [ways_max] with the present capacities */
    uint32_t *cells;    /* [ways_max][stages + 1] the nodes' rows, of those that are usable */

    /* Of each variable, a row's unused part (first) or a way: the reduced cost, and how long its
     * edge of the polyhedron is, about (Devex: Harris 1973). */
    double *reduced; /* [rows_max + ways_max] */
    double *weight;

    /* Rows: nodes with capacity, then the total. */
    uint32_t rows;
    uint32_t *row;   /* [nodes] or NOTHING */
    double *right;   /* [rows] */
    uint32_t *basis; /* [rows] */
    double *amount;  /* [rows] of the basic variables */
    double *inverse; /* [rows][rows] */
    double *price;   /* [rows] duals, at most 0 */
    double *column;  /* [rows] of the entering variable */
    uint32_t pivots;

    /* For pricing: the cheapest way from the data node to a node, and from it back. */
    double *ahead, *behind; /* [nodes], both with the node's own price */
    gwtf_node_id *before, *after;
    int64_t *whole_price, *whole_ahead; /* [nodes] for the bound */
    uint32_t turn;                      /* which stage ways are looked for through */
};

static size_t length_of(const struct optimal_master *master) {
    return (size_t)master->stages + 1;
}

static bool allocate_ways(struct optimal_master *master) {
    uint32_t most = master->ways_max * 2 + 512;
    void *ways = realloc(master->ways, most * length_of(master) * sizeof *master->ways);
    if (ways != NULL)
        master->ways = ways;
    void *costs = realloc(master->costs, most * sizeof *master->costs);
    if (costs != NULL)
        master->costs = costs;
    void *usable = realloc(master->usable, most * sizeof *master->usable);
    if (usable != NULL)
        master->usable = usable;
    void *cells = realloc(master->cells, most * length_of(master) * sizeof *master->cells);
    if (cells != NULL)
        master->cells = cells;
    size_t variables = master->nodes + (size_t)1 + most;
    void *reduced = realloc(master->reduced, variables * sizeof *master->reduced);
    if (reduced != NULL)
        master->reduced = reduced;
    void *weight = realloc(master->weight, variables * sizeof *master->weight);
    if (weight != NULL)
        master->weight = weight;
    if (ways == NULL || costs == NULL || usable == NULL || cells == NULL || reduced == NULL ||
        weight == NULL)
        return false;
    master->ways_max = most;
    return true;
}

gwtf_status optimal_master_create(const gwtf_flow_instance *instance,
                                  struct optimal_master **master) {
    struct optimal_master *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->instance = instance;
    made->nodes = gwtf_flow_instance_nodes(instance);
    made->stages = gwtf_flow_instance_stages(instance);
    gwtf_random_init(&made->random, 1);
    size_t nodes = made->nodes, rows = nodes + 1;
    made->row = calloc(nodes, sizeof *made->row);
    made->right = calloc(rows, sizeof *made->right);
    made->basis = calloc(rows, sizeof *made->basis);
    made->amount = calloc(rows, sizeof *made->amount);
    made->inverse = calloc(rows * rows, sizeof *made->inverse);
    made->price = calloc(rows, sizeof *made->price);
    made->column = calloc(rows, sizeof *made->column);
    made->ahead = calloc(nodes, sizeof *made->ahead);
    made->behind = calloc(nodes, sizeof *made->behind);
    made->before = calloc(nodes, sizeof *made->before);
    made->after = calloc(nodes, sizeof *made->after);
    made->whole_price = calloc(nodes, sizeof *made->whole_price);
    made->whole_ahead = calloc(nodes, sizeof *made->whole_ahead);
    if (made->whole_price == NULL || made->whole_ahead == NULL || made->row == NULL ||
        made->right == NULL || made->basis == NULL || made->amount == NULL ||
        made->inverse == NULL || made->price == NULL || made->column == NULL ||
        made->ahead == NULL || made->behind == NULL || made->before == NULL ||
        made->after == NULL || !allocate_ways(made)) {
        optimal_master_destroy(made);
        return GWTF_ERROR_MEMORY;
    }
    int32_t dearest = 0;
    for (gwtf_node_id i = 0; i < made->nodes; i++) {
        uint32_t count = 0;
        (void)gwtf_flow_instance_stage_nodes(
            instance,
            gwtf_flow_instance_next_stage(instance, gwtf_flow_instance_stage(instance, i)), &count);
        const int32_t *row = gwtf_flow_instance_row(instance, i);
        for (uint32_t j = 0; j < count; j++)
            dearest = row[j] > dearest ? row[j] : dearest;
    }
    made->worth = (dearest + 1.0) * made->nodes;
    *master = made;
    return GWTF_OK;
}

void optimal_master_destroy(struct optimal_master *master) {
    if (master == NULL)
        return;
    free(master->whole_ahead);
    free(master->whole_price);
    free(master->after);
    free(master->before);
    free(master->behind);
    free(master->ahead);
    free(master->column);
    free(master->price);
    free(master->inverse);
    free(master->amount);
    free(master->basis);
    free(master->right);
    free(master->row);
    free(master->weight);
    free(master->reduced);
    free(master->cells);
    free(master->usable);
    free(master->costs);
    free(master->ways);
    free(master);
}

/* --- The simplex method on rows and ways. --- */

static const gwtf_node_id *way_at(const struct optimal_master *master, uint32_t way) {
    return master->ways + way * length_of(master);
}

/* Variables: the unused part of row i is i, way w is nodes + 1 + w. */
static uint32_t first_way(const struct optimal_master *master) {
    return master->nodes + 1;
}

static double cost_of(const struct optimal_master *master, uint32_t variable) {
    uint32_t first = first_way(master);
    return variable < first ? 0 : master->costs[variable - first] - master->worth;
}

/* LINE times the column of VARIABLE. */
static double times_column(const struct optimal_master *master, const double *line,
                           uint32_t variable) {
    uint32_t first = first_way(master);
    if (variable < first)
        return line[variable];
    double sum = line[master->rows - 1];
    const uint32_t *cells = master->cells + (variable - first) * length_of(master);
    for (uint32_t s = 0; s <= master->stages; s++)
        sum += line[cells[s]];
    return sum;
}

static void set_column(struct optimal_master *master, uint32_t variable) {
    for (uint32_t i = 0; i < master->rows; i++)
        master->column[i] =
            times_column(master, master->inverse + (size_t)i * master->rows, variable);
}

static uint32_t find_leaving(const struct optimal_master *master) {
    uint32_t leaving = NOTHING;
    double least = INFINITY;
    for (uint32_t i = 0; i < master->rows; i++) {
        if (master->column[i] <= PIVOT_LEAST)
            continue;
        double ratio = (master->amount[i] > 0 ? master->amount[i] : 0) / master->column[i];
        if (ratio < least || (ratio == least && master->column[i] > master->column[leaving])) {
            least = ratio;
            leaving = i;
        }
    }
    return leaving;
}

/* What a unit of the variable earns or costs at the present prices; below 0: it should grow. */
static void set_reduced(struct optimal_master *master, uint32_t variable) {
    master->reduced[variable] =
        cost_of(master, variable) - times_column(master, master->price, variable);
}

/* Amounts, prices and reduced costs from the inverse, free of what rounding has added up. */
static void refresh(struct optimal_master *master) {
    uint32_t rows = master->rows;
    memset(master->price, 0, rows * sizeof *master->price);
    for (uint32_t i = 0; i < rows; i++) {
        const double *line = master->inverse + (size_t)i * rows;
        double sum = 0, cost = cost_of(master, master->basis[i]);
        for (uint32_t j = 0; j < rows; j++)
            sum += line[j] * master->right[j];
        for (uint32_t j = 0; cost != 0 && j < rows; j++)
            master->price[j] += cost * line[j];
        master->amount[i] = sum;
    }
    /* Edges are measured from here on: their lengths grow wrong with time. */
    for (uint32_t i = 0; i < rows; i++) {
        set_reduced(master, i);
        master->weight[i] = 1;
    }
    for (uint32_t i = 0; i < master->ways_count; i++) {
        if (!master->usable[i])
            continue;
        set_reduced(master, first_way(master) + i);
        master->weight[first_way(master) + i] = 1;
    }
}

/* After a pivot: LINE is the pivot row, with 1 for the variable that entered. */
static void update_variable(struct optimal_master *master, const double *line, double gain,
                            double weight, uint32_t variable) {
    double share = times_column(master, line, variable);
    if (share == 0)
        return;
    master->reduced[variable] -= gain * share;
    if (share * share * weight > master->weight[variable])
        master->weight[variable] = share * share * weight;
}

/* VARIABLE enters. False when nothing bounds it, which rows cannot let happen but rounding might.
 */
static bool pivot(struct optimal_master *master, uint32_t variable) {
    uint32_t rows = master->rows;
    double gain = master->reduced[variable], weight = master->weight[variable];
    set_column(master, variable);
    uint32_t leaving = find_leaving(master);
    if (leaving == NOTHING)
        return false;
    double *line = master->inverse + (size_t)leaving * rows, size = 1 / master->column[leaving];
    for (uint32_t j = 0; j < rows; j++) {
        line[j] *= size;
        master->price[j] += gain * line[j];
    }
    double step = master->amount[leaving] * size;
    for (uint32_t i = 0; i < rows; i++) {
        double share = master->column[i];
        if (i == leaving || fabs(share) < 1e-12)
            continue;
        master->amount[i] -= share * step;
        double *other = master->inverse + (size_t)i * rows;
        for (uint32_t j = 0; j < rows; j++)
            other[j] -= share * line[j];
    }
    for (uint32_t i = 0; i < rows; i++)
        update_variable(master, line, gain, weight, i);
    for (uint32_t i = 0; i < master->ways_count; i++)
        if (master->usable[i])
            update_variable(master, line, gain, weight, first_way(master) + i);
    master->reduced[variable] = 0;
    master->amount[leaving] = step;
    master->basis[leaving] = variable;
    if (++master->pivots % REFRESH_PIVOTS == 0)
        refresh(master);
    return true;
}

/* --- Ways. --- */

static double price_of(const struct optimal_master *master, gwtf_node_id node) {
    return master->row[node] == NOTHING ? FAR_COST : -master->price[master->row[node]];
}

/* From the nodes of STAGE, whose `ahead` is known, to those of the next one. */
static void look_ahead(struct optimal_master *master, uint32_t stage, gwtf_node_id data_node) {
    const gwtf_flow_instance *instance = master->instance;
    uint32_t count = 0, next_count = 0;
    const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, stage, &count);
    const gwtf_node_id *next = gwtf_flow_instance_stage_nodes(instance, stage + 1, &next_count);
    for (uint32_t j = 0; j < next_count; j++)
        master->ahead[next[j]] = FAR_COST;
    for (uint32_t i = 0; i < count; i++) {
        if (master->row[nodes[i]] == NOTHING || (stage == 0 && nodes[i] != data_node))
            continue;
        const int32_t *row = gwtf_flow_instance_row(instance, nodes[i]);
        for (uint32_t j = 0; j < next_count; j++) {
            double value = master->ahead[nodes[i]] + row[j];
            if (row[j] < 0 || value >= master->ahead[next[j]])
                continue;
            master->ahead[next[j]] = value;
            master->before[next[j]] = nodes[i];
        }
    }
    for (uint32_t j = 0; j < next_count; j++)
        master->ahead[next[j]] += price_of(master, next[j]);
}

/* From the nodes of STAGE back to DATA_NODE. */
static void look_behind(struct optimal_master *master, uint32_t stage, gwtf_node_id data_node) {
    const gwtf_flow_instance *instance = master->instance;
    uint32_t count = 0, next_count = 0;
    uint32_t after = gwtf_flow_instance_next_stage(instance, stage);
    const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, stage, &count);
    const gwtf_node_id *next = gwtf_flow_instance_stage_nodes(instance, after, &next_count);
    for (uint32_t i = 0; i < count; i++) {
        const int32_t *row = gwtf_flow_instance_row(instance, nodes[i]);
        double least = FAR_COST;
        for (uint32_t j = 0; j < next_count; j++) {
            double rest =
                after == 0 ? (next[j] == data_node ? 0 : FAR_COST) : master->behind[next[j]];
            if (row[j] < 0 || row[j] + rest >= least)
                continue;
            least = row[j] + rest;
            master->after[nodes[i]] = next[j];
        }
        master->behind[nodes[i]] = least + price_of(master, nodes[i]);
    }
}

static void use_way(struct optimal_master *master, uint32_t way) {
    const gwtf_node_id *nodes = way_at(master, way);
    uint32_t *cells = master->cells + way * length_of(master);
    master->usable[way] = true;
    for (uint32_t s = 0; s <= master->stages; s++) {
        cells[s] = master->row[nodes[s]];
        master->usable[way] = master->usable[way] && cells[s] != NOTHING;
    }
    if (!master->usable[way])
        return;
    set_reduced(master, first_way(master) + way);
    master->weight[first_way(master) + way] = 1;
}

/* Adds the cheapest way of DATA_NODE over NODE, whose neighbours `before` and `after` name. */
static bool allocate_way(struct optimal_master *master, gwtf_node_id data_node, gwtf_node_id node) {
    if (master->ways_count == master->ways_max && !allocate_ways(master))
        return false;
    const gwtf_flow_instance *instance = master->instance;
    gwtf_node_id *way = master->ways + master->ways_count * length_of(master);
    uint32_t stage = gwtf_flow_instance_stage(instance, node);
    way[0] = data_node;
    way[stage] = node;
    for (uint32_t s = stage; s > 1; s--)
        way[s - 1] = master->before[way[s]];
    for (uint32_t s = stage; s < master->stages; s++)
        way[s + 1] = master->after[way[s]];
    double cost = 0;
    for (uint32_t s = 0; s <= master->stages; s++)
        cost += gwtf_flow_instance_cost(instance, way[s], way[s == master->stages ? 0 : s + 1]);
    master->costs[master->ways_count] = cost;
    use_way(master, master->ways_count++);
    return true;
}

/* For each data node the cheapest way over each node of STAGE that costs less than WORTH, with all
 * prices. Returns whether memory lasted; *ADDED: how many. */
static bool allocate_cheap_ways(struct optimal_master *master, uint32_t stage, double worth,
                                uint32_t *added) {
    const gwtf_flow_instance *instance = master->instance;
    uint32_t data_nodes = 0, count = 0;
    const gwtf_node_id *data = gwtf_flow_instance_stage_nodes(instance, 0, &data_nodes);
    const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, stage, &count);
    *added = 0;
    for (uint32_t d = 0; d < data_nodes; d++) {
        if (master->row[data[d]] == NOTHING)
            continue;
        master->ahead[data[d]] = price_of(master, data[d]);
        for (uint32_t s = 0; s < stage; s++)
            look_ahead(master, s, data[d]);
        for (uint32_t s = master->stages; s >= stage; s--)
            look_behind(master, s, data[d]);
        for (uint32_t i = 0; i < count; i++) {
            if (master->row[nodes[i]] == NOTHING ||
                master->ahead[nodes[i]] + master->behind[nodes[i]] - price_of(master, nodes[i]) >=
                    worth + WORTHWHILE)
                continue;
            if (!allocate_way(master, data[d], nodes[i]))
                return false;
            (*added)++;
        }
    }
    return true;
}

/* --- Solving. --- */

static void set_rows(struct optimal_master *master, const uint32_t *capacity, uint32_t flow_most) {
    uint32_t rows = 0;
    for (gwtf_node_id i = 0; i < master->nodes; i++) {
        master->row[i] = capacity[i] > 0 ? rows : NOTHING;
        if (capacity[i] > 0)
            master->right[rows++] = capacity[i] + PERTURBATION * gwtf_random_unit(&master->random);
    }
    master->right[rows++] = flow_most;
    master->rows = rows;
    memset(master->inverse, 0, (size_t)rows * rows * sizeof *master->inverse);
    for (uint32_t i = 0; i < rows; i++) {
        master->inverse[(size_t)i * rows + i] = 1;
        master->basis[i] = i;
        master->amount[i] = master->right[i];
        master->price[i] = master->reduced[i] = 0;
        master->weight[i] = 1;
    }
    if (master->ways_count > WAYS_MAX)
        master->ways_count = 0;
    for (uint32_t i = 0; i < master->ways_count; i++)
        use_way(master, i);
}

/* How steeply the whole cost falls when the variable grows. */
static double steepness(const struct optimal_master *master, uint32_t variable) {
    double reduced = master->reduced[variable];
    return reduced < WORTHWHILE ? reduced * reduced / master->weight[variable] : 0;
}

/* The known variable that is most worth entering, or NOTHING. */
static uint32_t find_entering(const struct optimal_master *master) {
    uint32_t best = NOTHING, first = first_way(master);
    double most = 0;
    for (uint32_t i = 0; i < master->rows; i++) {
        double value = steepness(master, i);
        if (value > most) {
            most = value;
            best = i;
        }
    }
    for (uint32_t i = 0; i < master->ways_count; i++) {
        double value = master->usable[i] ? steepness(master, first + i) : 0;
        if (value > most) {
            most = value;
            best = first + i;
        }
    }
    return best;
}

gwtf_status optimal_master_suggest(struct optimal_master *master, const int64_t *price) {
    uint32_t added = 0;
    master->rows = master->nodes + 1;
    for (gwtf_node_id i = 0; i < master->nodes; i++) {
        master->row[i] = gwtf_flow_instance_capacity(master->instance, i) > 0 ? i : NOTHING;
        master->price[i] = -(double)price[i];
    }
    for (uint32_t s = 1; s <= master->stages; s++)
        if (!allocate_cheap_ways(master, s, FAR_COST / 2, &added))
            return GWTF_ERROR_MEMORY;
    return GWTF_OK;
}

gwtf_status optimal_master_solve(struct optimal_master *master, const uint32_t *capacity,
                                 uint32_t flow_most, double *flow) {
    set_rows(master, capacity, flow_most);
    /* Whatever rounding does, it ends. */
    for (uint32_t pivots_max = master->pivots + PIVOTS_MAX; master->pivots < pivots_max;) {
        uint32_t entering = find_entering(master), added = 0;
        if (entering != NOTHING) {
            if (!pivot(master, entering))
                break;
            continue;
        }
        if (!allocate_cheap_ways(master, 1 + master->turn++ % master->stages,
                                 master->worth + master->price[master->rows - 1], &added))
            return GWTF_ERROR_MEMORY;
        /* The cheapest way of all leads over a node of the stage that was looked at. */
        if (added == 0)
            break;
    }
    refresh(master);
    *flow = 0;
    for (uint32_t i = 0; i < master->rows; i++)
        if (master->basis[i] >= first_way(master))
            *flow += master->amount[i];
    return GWTF_OK;
}

bool optimal_master_next_way(const struct optimal_master *master, uint32_t *at,
                             const gwtf_node_id **way, double *amount) {
    for (; *at < master->rows; (*at)++) {
        uint32_t variable = master->basis[*at];
        if (variable < first_way(master) || master->amount[*at] < AMOUNT_LEAST)
            continue;
        *way = way_at(master, variable - first_way(master));
        *amount = master->amount[(*at)++];
        return true;
    }
    return false;
}

/* --- The bound. --- */

int64_t optimal_master_cost_most(const struct optimal_master *master) {
    return (int64_t)(master->worth / master->nodes) * (master->stages + 1);
}

/* The price of the cheapest way of DATA_NODE, in parts; far without one. */
static int64_t whole_way(const struct optimal_master *master, gwtf_node_id data_node) {
    const gwtf_flow_instance *instance = master->instance;
    const int64_t far = INT64_MAX / 4;
    int64_t *ahead = master->whole_ahead, home = far;
    for (gwtf_node_id i = 0; i < master->nodes; i++)
        ahead[i] = far;
    ahead[data_node] = 0;
    for (uint32_t s = 0; s <= master->stages; s++) {
        uint32_t count = 0, next_count = 0;
        const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, s, &count);
        const gwtf_node_id *next = gwtf_flow_instance_stage_nodes(
            instance, gwtf_flow_instance_next_stage(instance, s), &next_count);
        for (uint32_t i = 0; i < count; i++) {
            if (ahead[nodes[i]] == far || master->row[nodes[i]] == NOTHING)
                continue;
            int64_t here = ahead[nodes[i]] + (s > 0 ? master->whole_price[nodes[i]] : 0);
            const int32_t *row = gwtf_flow_instance_row(instance, nodes[i]);
            for (uint32_t j = 0; j < next_count; j++) {
                int64_t value = here + (int64_t)row[j] * PRICE_PARTS;
                int64_t *known = s == master->stages ? &home : &ahead[next[j]];
                if (row[j] >= 0 && value < *known && (s < master->stages || next[j] == data_node))
                    *known = value;
            }
        }
    }
    return home;
}

int64_t optimal_master_bound(const struct optimal_master *master, const uint32_t *capacity,
                             uint32_t flow) {
    uint32_t data_nodes = 0;
    const gwtf_node_id *data = gwtf_flow_instance_stage_nodes(master->instance, 0, &data_nodes);
    double worth = master->worth + master->price[master->rows - 1];
    /* Sums of prices and capacities must stay whole. */
    if (!(master->worth * PRICE_PARTS * (master->nodes + 1.0) * 65536 < 9e18))
        return INT64_MIN;
    int64_t whole_worth = (int64_t)(worth * PRICE_PARTS), sum = whole_worth * flow;
    for (gwtf_node_id i = 0; i < master->nodes; i++) {
        double price = master->row[i] == NOTHING ? 0 : -master->price[master->row[i]];
        master->whole_price[i] = price > 0 ? (int64_t)(price * PRICE_PARTS) : 0;
        if (gwtf_flow_instance_stage(master->instance, i) != 0)
            sum -= master->whole_price[i] * capacity[i];
    }
    for (uint32_t d = 0; d < data_nodes; d++) {
        int64_t least = whole_way(master, data[d]);
        if (least < whole_worth)
            sum -= (whole_worth - least) * capacity[data[d]];
    }
    /* Costs are whole. */
    return sum > 0 ? (sum + PRICE_PARTS - 1) / PRICE_PARTS : sum / PRICE_PARTS;
}
