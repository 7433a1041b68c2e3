/*
 * Flow instances as libconfig files, and the recipe of a random one as a text.
 *
 *     instance = {
 *       name = "small";                            # may be left out
 *       data_nodes = [ 0 ];
 *       stages = ( [ 1, 2 ], [ 3, 4 ] );           # relays of stage 1, 2, ...
 *       capacity = [ 4, 1, 2, 3, 1 ];              # flows that a node can carry
 *       cost = ( [ -1, 3, 2, -1, -1 ], ... );      # cost[i][j]: whole units, i to j; -1: no link
 *       optimum = { flow = 3; cost = 21; };        # may be left out
 *     };
 *
 * Nodes are numbered from 0. Of `cost` the links between neighbouring stages count, others are not
 * kept. Where a full matrix would be absurd, `links` stands in its place: a list of lines for each
 * stage, that of the data nodes first. Stage by stage a line for each node, in the order of their
 * ids, with its costs to all nodes of the next stage (of the data nodes after the last one):
 *
 *       links = ( ( "3 2" ), ( "4 -1", "2 2" ), ( "5", "1" ) );
 *       links_back = ( ( "3 3" ), ( "4 -1", "2 1" ), ( "5", "2" ) );    # may be left out
 *
 * links_back holds the same links against the flow, where they cost something else: in the place
 * of "from this node to that" stands "from that node to this". A flow never pays it.
 */
#ifndef GWTF_IO_INSTANCE_H
#define GWTF_IO_INSTANCE_H

#include "flow/generate.h"
#include "flow/instance.h"

#define GWTF_INSTANCE_NAME_MAX 64
#define GWTF_INSTANCE_NODES_MAX 200000u

/* What a file says besides. */
struct gwtf_instance_facts {
    char name[GWTF_INSTANCE_NAME_MAX]; /* may be empty */
    bool has_optimum;                  /* stated, not checked */
    uint32_t optimum_flow;
    int64_t optimum_cost;
};

/* Errors, with file and line in ERROR: GWTF_ERROR_USAGE for whatever is wrong with the file, an
 * instance without any way from a data node back to it too; GWTF_ERROR_MEMORY. *INSTANCE is the
 * caller's to destroy; FACTS may be NULL. */
gwtf_status gwtf_instance_read(const char *path, gwtf_flow_instance **instance,
                               struct gwtf_instance_facts *facts, struct gwtf_error *error);

/* With a full matrix up to GWTF_INSTANCE_MATRIX_NODES nodes, else with `links`. Replaces PATH.
 * FACTS may be NULL. Errors: GWTF_ERROR_IO, GWTF_ERROR_MEMORY. */
#define GWTF_INSTANCE_MATRIX_NODES 200u
gwtf_status gwtf_instance_write(const char *path, const gwtf_flow_instance *instance,
                                const struct gwtf_instance_facts *facts, struct gwtf_error *error);

/*
 * "relays=60,stages=6,capacity=1..20,cost=1..700,missing=0.1,asymmetric=true,seed=3" into a recipe;
 * what is left out stays as gwtf_flow_recipe_default says. Errors: GWTF_ERROR_USAGE with the line
 * for the user, which names OPTION; RECIPE untouched.
 */
gwtf_status gwtf_instance_parse_recipe(const char *text, const char *option,
                                       struct gwtf_flow_recipe *recipe, struct gwtf_error *error);

#endif
