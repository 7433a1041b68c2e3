#include "worker/runtime/network.h"

#include "io/file.h"
#include "io/topology.h"
#include "share/base/random.h"
#include "worker/runtime/moments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)64 << 20)

/* Where links have faults and no network is emulated: they cost nothing else. */
static const char plain_topology[] =
    "topology = { regions = [ \"Here\" ]; links = ();"
    " within_region = { latency_ms = 0; bandwidth_mbit = 1e9; }; };";

/* A draw that finds no two nodes that the fault may concern is tried again so often. */
#define DRAW_TRIES 1000

struct fault {
    const struct gwtf_config_link_fault *config;
    bool active;
    uint64_t number;       /* how often it has begun */
    double at_us;          /* of training, when it begins next; below 0: never */
    uint32_t heals_before; /* this iteration; 0: never */
    double heals_us;       /* of training; 0: never */
    gwtf_node_id drawn[GWTF_CONFIG_DRAW_MAX][2];
    uint32_t drawn_count;
};

struct gwtf_network {
    gwtf_topology *topology;
    gwtf_node_id self;
    uint32_t nodes_count;
    uint32_t drawn_of; /* the first so many; the others may join, or not */
    uint32_t *regions; /* by node */
    struct gwtf_shaper_link *links;
    struct fault faults[GWTF_CONFIG_LINK_FAULTS_MAX];
    size_t faults_count;
};

/* Nodes without a region get the topology's one after the other. */
static gwtf_status place(const struct gwtf_setup *setup, gwtf_network *network,
                         struct gwtf_error *error) {
    struct gwtf_placement *placements = NULL;
    gwtf_status status = gwtf_setup_place(setup, &placements, error);
    uint32_t spread = 0, count = gwtf_topology_regions_count(network->topology);
    for (uint32_t i = 0; i < network->nodes_count && status == GWTF_OK; i++) {
        struct gwtf_error reason = {""};
        if (placements[i].region[0] == '\0')
            network->regions[i] = spread++ % count;
        else if (gwtf_topology_find(network->topology, placements[i].region, &network->regions[i],
                                    &reason) != GWTF_OK)
            status = gwtf_error_set(error, GWTF_ERROR_USAGE, "nodes: %.900s", reason.text);
    }
    free(placements);
    return status;
}

/* The regions that the faults name are known. */
static gwtf_status check_faults(const struct gwtf_setup *setup, const gwtf_network *network,
                                struct gwtf_error *error) {
    for (size_t i = 0; i < setup->config.link_faults_count; i++) {
        const struct gwtf_config_link_fault *fault = &setup->config.link_faults[i];
        const char *const names[] = {fault->region, fault->peer_region};
        for (size_t end = 0; end < 2; end++) {
            struct gwtf_error reason = {""};
            uint32_t region;
            if (names[end][0] != '\0' &&
                gwtf_topology_find(network->topology, names[end], &region, &reason) != GWTF_OK)
                return gwtf_error_set(error, GWTF_ERROR_USAGE, "link_faults.%zu: %.900s", i,
                                      reason.text);
        }
    }
    return GWTF_OK;
}

static bool is_at(const gwtf_network *network, gwtf_node_id node, uint32_t wanted_node,
                  const char *wanted_region) {
    const char *region = gwtf_topology_region_name(network->topology, network->regions[node]);
    return (wanted_node == GWTF_CONFIG_ANY_NODE || wanted_node == node) &&
           (wanted_region[0] == '\0' || strcmp(wanted_region, region) == 0);
}

static bool concerns(const gwtf_network *network, const struct gwtf_config_link_fault *fault,
                     gwtf_node_id a, gwtf_node_id b) {
    return (is_at(network, a, fault->node, fault->region) &&
            is_at(network, b, fault->peer, fault->peer_region)) ||
           (is_at(network, b, fault->node, fault->region) &&
            is_at(network, a, fault->peer, fault->peer_region));
}

static bool is_drawn(const struct fault *fault, gwtf_node_id a, gwtf_node_id b) {
    for (uint32_t i = 0; i < fault->drawn_count; i++)
        if ((fault->drawn[i][0] == a && fault->drawn[i][1] == b) ||
            (fault->drawn[i][0] == b && fault->drawn[i][1] == a))
            return true;
    return false;
}

/* All nodes draw the same links. */
static void draw(const gwtf_network *network, struct fault *fault, uint64_t place) {
    uint64_t key = gwtf_random_key(gwtf_random_key(fault->config->seed, place), fault->number);
    struct gwtf_random random;
    gwtf_random_init(&random, key);
    fault->drawn_count = 0;
    for (uint32_t tries = 0; fault->drawn_count < fault->config->draw && tries < DRAW_TRIES;
         tries++) {
        gwtf_node_id a = (gwtf_node_id)gwtf_random_below(&random, network->drawn_of);
        gwtf_node_id b = (gwtf_node_id)gwtf_random_below(&random, network->drawn_of);
        if (a == b || !concerns(network, fault->config, a, b) || is_drawn(fault, a, b))
            continue;
        fault->drawn[fault->drawn_count][0] = a;
        fault->drawn[fault->drawn_count++][1] = b;
    }
}

static bool concerns_now(const gwtf_network *network, const struct fault *fault, gwtf_node_id a,
                         gwtf_node_id b) {
    return fault->active && (fault->config->draw == 0 ? concerns(network, fault->config, a, b)
                                                      : is_drawn(fault, a, b));
}

/* Factors of faults that overlap multiply. */
static struct gwtf_shaper_link worsen(struct gwtf_shaper_link link,
                                      const struct gwtf_config_link_fault *fault) {
    link.cut = link.cut || fault->kind == GWTF_CONFIG_LINK_CUT;
    if (fault->kind == GWTF_CONFIG_LINK_LOSSY)
        link.loss = fault->loss;
    if (fault->kind != GWTF_CONFIG_LINK_SLOW && fault->latency_ms < 0 && fault->bandwidth_mbit <= 0)
        return link;
    link.latency_us = fault->latency_ms >= 0 ? (int64_t)(fault->latency_ms * 1e3 + 0.5)
                                             : (int64_t)((double)link.latency_us * fault->factor);
    double rate = fault->bandwidth_mbit > 0 ? fault->bandwidth_mbit * 125e3
                                            : (double)link.bytes_per_second / fault->factor;
    link.bytes_per_second = rate > 1 ? (int64_t)rate : 1;
    return link;
}

static void set_links(gwtf_network *network) {
    for (gwtf_node_id peer = 0; peer < network->nodes_count; peer++) {
        struct gwtf_topology_link plain = gwtf_topology_link_between(
            network->topology, network->regions[network->self], network->regions[peer]);
        struct gwtf_shaper_link link = {.latency_us = plain.latency_us,
                                        .bytes_per_second = plain.bytes_per_second};
        for (size_t i = 0; i < network->faults_count; i++)
            if (concerns_now(network, &network->faults[i], network->self, peer))
                link = worsen(link, network->faults[i].config);
        network->links[peer] = link;
    }
}

gwtf_status gwtf_network_create(const struct gwtf_setup *setup, const char *text, gwtf_node_id self,
                                gwtf_network **network, struct gwtf_error *error) {
    gwtf_network *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    made->self = self;
    made->drawn_of = setup->data_nodes + setup->relays;
    made->nodes_count = made->drawn_of + setup->places;
    made->regions = calloc(made->nodes_count, sizeof *made->regions);
    made->links = calloc(made->nodes_count, sizeof *made->links);
    made->faults_count = setup->config.link_faults_count;
    for (size_t i = 0; i < made->faults_count; i++) {
        const struct gwtf_config_link_fault *fault = &setup->config.link_faults[i];
        made->faults[i] = (struct fault){.config = fault, .at_us = fault->seconds * 1e6};
        if (fault->random)
            made->faults[i].at_us += gwtf_moment_pause_us(fault->every, true, fault->seed, i, 0);
    }
    gwtf_status status = GWTF_OK;
    if (made->regions == NULL || made->links == NULL)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    if (status == GWTF_OK)
        status = gwtf_topology_parse(text, setup->config.network.emulate, &made->topology, error);
    if (status == GWTF_OK)
        status = place(setup, made, error);
    if (status == GWTF_OK)
        status = check_faults(setup, made, error);
    if (status != GWTF_OK) {
        gwtf_network_destroy(made);
        return status;
    }
    set_links(made);
    *network = made;
    return GWTF_OK;
}

void gwtf_network_destroy(gwtf_network *network) {
    if (network == NULL)
        return;
    gwtf_topology_destroy(network->topology);
    free(network->regions);
    free(network->links);
    free(network);
}

gwtf_status gwtf_network_read(const struct gwtf_setup *setup, char **text,
                              struct gwtf_error *error) {
    const char *path = setup->config.network.emulate;
    char *read = NULL;
    size_t size = 0;
    *text = NULL;
    if (path[0] == '\0' && setup->config.link_faults_count == 0)
        return GWTF_OK;
    struct gwtf_error reason = {""};
    if (path[0] == '\0')
        read = strdup(plain_topology);
    else if (gwtf_file_read(path, FILE_MAX_BYTES, &read, &size, &reason) != GWTF_OK)
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "network.emulate: %.900s", reason.text);
    if (read == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_network *network = NULL;
    gwtf_status status = gwtf_network_create(setup, read, 0, &network, error);
    gwtf_network_destroy(network);
    if (status == GWTF_OK)
        *text = read;
    else
        free(read);
    return status;
}

const struct gwtf_shaper_link *gwtf_network_links(const gwtf_network *network) {
    return network->links;
}

/* "node 3", "Tokyo", "any node". */
static void describe_end(uint32_t node, const char *region, char *text, size_t size) {
    if (node != GWTF_CONFIG_ANY_NODE)
        snprintf(text, size, "node %u", node);
    else if (region[0] != '\0')
        snprintf(text, size, "%.50s", region);
    else
        snprintf(text, size, "any node");
}

/* "any node and any node", or "1 and 4, 2 and 3". */
static void describe_links(const struct fault *fault, char *text, size_t size) {
    const struct gwtf_config_link_fault *config = fault->config;
    char a[64], b[64];
    describe_end(config->node, config->region, a, sizeof a);
    describe_end(config->peer, config->peer_region, b, sizeof b);
    if (config->draw == 0) {
        snprintf(text, size, "%s and %s", a, b);
        return;
    }
    size_t length = (size_t)snprintf(text, size, "nodes");
    for (uint32_t i = 0; i < fault->drawn_count && length + 40 < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s %u and %u", i > 0 ? "," : "",
                                   fault->drawn[i][0], fault->drawn[i][1]);
    if (fault->drawn_count == 0)
        snprintf(text + length, size - length, " of which there are none");
}

static void describe(const struct fault *fault, char text[GWTF_NETWORK_TEXT_MAX]) {
    const struct gwtf_config_link_fault *config = fault->config;
    char links[160], how[64];
    describe_links(fault, links, sizeof links);
    if (!fault->active)
        snprintf(how, sizeof how, "healed");
    else if (config->kind == GWTF_CONFIG_LINK_CUT)
        snprintf(how, sizeof how, "cut");
    else if (config->kind == GWTF_CONFIG_LINK_LOSSY)
        snprintf(how, sizeof how, "%g %% is lost", config->loss * 100);
    else if (config->latency_ms >= 0 || config->bandwidth_mbit > 0)
        snprintf(how, sizeof how, "changed");
    else
        snprintf(how, sizeof how, "%g times slower", config->factor);
    snprintf(text, GWTF_NETWORK_TEXT_MAX, "links between %s: %s", links, how);
}

/* Which time it is follows from the clock alone: one that was missed is over for all. */
static void begin(const gwtf_network *network, struct fault *fault, uint32_t iteration,
                  int64_t trained_us) {
    const struct gwtf_config_link_fault *config = fault->config;
    uint64_t place = (uint64_t)(fault - network->faults);
    double at_us, next_us = fault->at_us;
    do {
        at_us = next_us;
        next_us = -1;
        fault->number++;
        if (config->every > 0)
            next_us = at_us + gwtf_moment_pause_us(config->every, config->random, config->seed,
                                                   place, fault->number);
    } while (next_us >= 0 && next_us <= (double)trained_us);
    fault->at_us = next_us;
    if (config->every <= 0)
        at_us = (double)trained_us;
    if (config->heal_after != 0)
        fault->heals_before =
            (config->iteration != 0 ? config->iteration : iteration) + config->heal_after;
    if (config->heal_seconds > 0)
        fault->heals_us = at_us + config->heal_seconds * 1e6;
    fault->active = true;
    draw(network, fault, place);
}

bool gwtf_network_change(gwtf_network *network, uint32_t iteration, int64_t trained_us,
                         char text[GWTF_NETWORK_TEXT_MAX]) {
    for (size_t i = 0; i < network->faults_count; i++) {
        struct fault *fault = &network->faults[i];
        bool begins = !fault->active && iteration >= fault->config->iteration &&
                      fault->at_us >= 0 && (double)trained_us >= fault->at_us;
        bool heals =
            fault->active && ((fault->heals_before != 0 && iteration >= fault->heals_before) ||
                              (fault->heals_us > 0 && (double)trained_us >= fault->heals_us));
        if (!begins && !heals)
            continue;
        /* One that the run's start finds over begins and heals at once. */
        if (begins)
            begin(network, fault, iteration, trained_us);
        else
            fault->active = false;
        describe(fault, text);
        set_links(network);
        return true;
    }
    return false;
}
