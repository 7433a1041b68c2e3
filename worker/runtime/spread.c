#include "worker/runtime/spread.h"

#include <stdlib.h>
#include <string.h>

struct spread {
    const struct gwtf_allocation *allocation;
    const struct gwtf_placement *placements;
    uint32_t count;
    uint32_t *host_of; /* by placement; UINT32_MAX: none yet */
    uint32_t *load;    /* by host */
};

bool gwtf_spread_same_host(const char *wished, const char *name) {
    size_t short_length = strcspn(wished, ".");
    if (strchr(wished, '.') != NULL && strchr(name, '.') != NULL)
        return strcmp(wished, name) == 0; /* "a.here" and "a.there", or addresses */
    return strncmp(wished, name, short_length) == 0 && strcspn(name, ".") == short_length;
}

static uint32_t find_host(const struct gwtf_allocation *allocation, const char *name) {
    for (uint32_t i = 0; i < allocation->hosts_count; i++)
        if (gwtf_spread_same_host(name, allocation->hosts[i].name))
            return i;
    return UINT32_MAX;
}

/* Replicas of STAGE so far: on HOST, and in the component that it belongs to. */
static void count_replicas(const struct spread *spread, uint32_t stage, uint32_t host,
                           uint32_t *on_host, uint32_t *in_component) {
    const struct gwtf_allocation_host *hosts = spread->allocation->hosts;
    *on_host = *in_component = 0;
    for (uint32_t i = 0; i < spread->count; i++) {
        uint32_t other = spread->host_of[i];
        if (spread->placements[i].stage != stage || other == UINT32_MAX)
            continue;
        *on_host += other == host;
        *in_component += hosts[other].component == hosts[host].component;
    }
}

/* True when a replica of STAGE is better put on host A than on host B. */
static bool is_better(const struct spread *spread, uint32_t stage, uint32_t a, uint32_t b) {
    const struct gwtf_allocation_host *hosts = spread->allocation->hosts;
    uint32_t host_a, host_b, component_a, component_b;
    count_replicas(spread, stage, a, &host_a, &component_a);
    count_replicas(spread, stage, b, &host_b, &component_b);
    if (host_a != host_b)
        return host_a < host_b;
    bool full_a = spread->load[a] >= hosts[a].slots, full_b = spread->load[b] >= hosts[b].slots;
    if (full_a != full_b)
        return full_b;
    if (component_a != component_b)
        return component_a < component_b;
    /* Load for each slot, without division. */
    return (uint64_t)spread->load[a] * hosts[b].slots < (uint64_t)spread->load[b] * hosts[a].slots;
}

/* True when a node may be put on HOST: in the partition that it names, else data nodes in the first
 * component. */
static bool is_allowed(const struct gwtf_allocation *allocation,
                       const struct gwtf_placement *placement, uint32_t host) {
    uint32_t component = allocation->hosts[host].component;
    const char *wished = placement->partition;
    if (wished != NULL && wished[0] != '\0')
        return strcmp(allocation->components[component].partition, wished) == 0;
    return placement->stage != 0 || component == allocation->hosts[0].component;
}

/* UINT32_MAX: there is none. */
static uint32_t choose_host(const struct spread *spread, const struct gwtf_placement *placement) {
    const struct gwtf_allocation *allocation = spread->allocation;
    uint32_t best = UINT32_MAX;
    for (uint32_t host = 0; host < allocation->hosts_count; host++)
        if (is_allowed(allocation, placement, host) &&
            (best == UINT32_MAX || is_better(spread, placement->stage, host, best)))
            best = host;
    return best;
}

static gwtf_status complain_partition(const struct gwtf_allocation *allocation,
                                      const struct gwtf_placement *placement,
                                      struct gwtf_error *error) {
    if (placement->host[0] != '\0')
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "nodes: host '%s' is not in partition '%s': leave out one of them",
                              placement->host, placement->partition);
    return gwtf_error_set(
        error, GWTF_ERROR_USAGE,
        "nodes: partition '%s' is not in job %s (%s%s%s%s): name one that is, or "
        "leave `partition` out",
        placement->partition, allocation->job, allocation->components[0].partition,
        allocation->components_count > 1 ? ", " : "",
        allocation->components_count > 1 ? allocation->components[1].partition : "",
        allocation->components_count > 2 ? ", ..." : "");
}

static gwtf_status place_all(struct spread *spread, struct gwtf_placement *placements,
                             struct gwtf_error *error) {
    const struct gwtf_allocation *allocation = spread->allocation;
    for (uint32_t i = 0; i < spread->count; i++) {
        spread->host_of[i] = UINT32_MAX;
        if (placements[i].host[0] == '\0')
            continue;
        uint32_t host = find_host(allocation, placements[i].host);
        if (host == UINT32_MAX)
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "nodes: host '%s' is not in job %s (%s%s): leave `host` out",
                                  placements[i].host, allocation->job,
                                  allocation->components[0].nodes,
                                  allocation->components_count > 1 ? ", ..." : "");
        if (placements[i].partition != NULL && placements[i].partition[0] != '\0' &&
            !is_allowed(allocation, &placements[i], host))
            return complain_partition(allocation, &placements[i], error);
        spread->host_of[i] = host;
        spread->load[host]++;
    }
    for (uint32_t i = 0; i < spread->count; i++) {
        if (spread->host_of[i] == UINT32_MAX) {
            spread->host_of[i] = choose_host(spread, &placements[i]);
            if (spread->host_of[i] == UINT32_MAX)
                return complain_partition(allocation, &placements[i], error);
            spread->load[spread->host_of[i]]++;
        }
        /* As the job spells it, which is what mpirun knows it by. */
        placements[i].host = allocation->hosts[spread->host_of[i]].name;
    }
    return GWTF_OK;
}

gwtf_status gwtf_spread(const struct gwtf_allocation *allocation, struct gwtf_placement *placements,
                        uint32_t count, struct gwtf_error *error) {
    if (allocation->hosts_count == 0)
        return GWTF_OK;
    struct spread spread = {.allocation = allocation,
                            .placements = placements,
                            .count = count,
                            .host_of = calloc(count, sizeof *spread.host_of),
                            .load = calloc(allocation->hosts_count, sizeof *spread.load)};
    gwtf_status status = spread.host_of == NULL || spread.load == NULL
                             ? gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory")
                             : place_all(&spread, placements, error);
    free(spread.host_of);
    free(spread.load);
    return status;
}
