#include "worker/runtime/network.h"

#include "io/file.h"
#include "io/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)64 << 20)

/* Where links have faults and no network is emulated: they cost nothing else. */
static const char plain_topology[] =
    "topology = { regions = [ \"Here\" ]; links = ();"
    " within_region = { latency_ms = 0; bandwidth_mbit = 1e9; }; };";

struct fault {
    const struct gwtf_config_link_fault *config;
    bool begun;
    bool healed;
    uint32_t heals_before; /* this iteration; 0: never */
    double heals_us;       /* of training; 0: never */
};

struct gwtf_network {
    gwtf_topology *topology;
    gwtf_node_id self;
    uint32_t nodes_count;
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
            if (network->faults[i].begun && !network->faults[i].healed &&
                concerns(network, network->faults[i].config, network->self, peer))
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
    made->nodes_count = setup->data_nodes + setup->relays;
    made->regions = calloc(made->nodes_count, sizeof *made->regions);
    made->links = calloc(made->nodes_count, sizeof *made->links);
    made->faults_count = setup->config.link_faults_count;
    for (size_t i = 0; i < made->faults_count; i++)
        made->faults[i].config = &setup->config.link_faults[i];
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

static void describe(const struct fault *fault, char text[GWTF_NETWORK_TEXT_MAX]) {
    const struct gwtf_config_link_fault *config = fault->config;
    char a[64], b[64], how[64];
    describe_end(config->node, config->region, a, sizeof a);
    describe_end(config->peer, config->peer_region, b, sizeof b);
    if (fault->healed)
        snprintf(how, sizeof how, "healed");
    else if (config->kind == GWTF_CONFIG_LINK_CUT)
        snprintf(how, sizeof how, "cut");
    else if (config->kind == GWTF_CONFIG_LINK_LOSSY)
        snprintf(how, sizeof how, "%g %% is lost", config->loss * 100);
    else if (config->latency_ms >= 0 || config->bandwidth_mbit > 0)
        snprintf(how, sizeof how, "changed");
    else
        snprintf(how, sizeof how, "%g times slower", config->factor);
    snprintf(text, GWTF_NETWORK_TEXT_MAX, "links between %s and %s: %s", a, b, how);
}

bool gwtf_network_change(gwtf_network *network, uint32_t iteration, int64_t trained_us,
                         char text[GWTF_NETWORK_TEXT_MAX]) {
    for (size_t i = 0; i < network->faults_count; i++) {
        struct fault *fault = &network->faults[i];
        const struct gwtf_config_link_fault *config = fault->config;
        bool begins = !fault->begun && iteration >= config->iteration &&
                      (double)trained_us >= config->seconds * 1e6;
        bool heals = fault->begun && !fault->healed &&
                     ((fault->heals_before != 0 && iteration >= fault->heals_before) ||
                      (fault->heals_us > 0 && (double)trained_us >= fault->heals_us));
        if (!begins && !heals)
            continue;
        /* One that the run's start finds over begins and heals at once. */
        if (begins && config->heal_after != 0)
            fault->heals_before =
                (config->iteration != 0 ? config->iteration : iteration) + config->heal_after;
        if (begins && config->heal_seconds > 0)
            fault->heals_us = (double)trained_us + config->heal_seconds * 1e6;
        fault->begun = true;
        fault->healed = heals;
        describe(fault, text);
        set_links(network);
        return true;
    }
    return false;
}
