/*
 * Which stage a node that arrives does most good in, and of several that could come, which ones are
 * to be taken and where: so that the time per microbatch is least. From figures of each stage that
 * its own nodes know; no link of any node is asked for. Pure, without memory of its own.
 *
 * What is predicted, after N arrivals:
 *
 *     flow = what the stage of least capacity holds, at most flow_most
 *     cost = 2 * (sum over hops of the dearest link in use) + the dearest aggregation
 *     time = max(cost / flow, max over stages of work / speed)
 *
 * or 1 / flow where neither costs nor work are known. The cost is that of the authors' prototype.
 * An arrival takes over flows whose two links cost more than its own two, the dearest first, and
 * what its stage must carry beyond its nodes' capacity; a hop's dearest link is then the dearest of
 * those left, that of an arrival in use, and no cheaper than what lets the hop carry the flow.
 */
#ifndef GWTF_FLOW_ARRIVAL_H
#define GWTF_FLOW_ARRIVAL_H

#include <stdbool.h>
#include <stdint.h>

#define GWTF_ARRIVALS_MAX 16u    /* taken at once */
#define GWTF_CANDIDATES_MAX 256u /* to choose them from */
#define GWTF_ARRIVAL_STAGES_MAX 256u

/* Flows of a stage by what they cost on their way in and out of it. */
struct gwtf_arrival_pass {
    uint32_t in_cost, out_cost;
    uint32_t flows;
};

/* What the links of a hop that cost at most COST can carry between the nodes at its ends. To be
 * listed for each cost that links or candidates have: what lies between counts as the next one. */
struct gwtf_arrival_reach {
    uint32_t cost;
    uint32_t flows;
};

struct gwtf_arrival_stage {
    uint32_t capacity;                      /* of its nodes together, in microbatches at one time */
    uint32_t places;                        /* for arrivals */
    double work;                            /* time for a microbatch at speed 1; 0: not known */
    double speed;                           /* of its nodes together */
    const struct gwtf_arrival_pass *passes; /* falling in_cost + out_cost; may be NULL */
    uint32_t passes_count;
};

/* From a stage to the next one; the first and the last hop are those of the data nodes. */
struct gwtf_arrival_hop {
    uint32_t cost;                            /* of the dearest link in use */
    const struct gwtf_arrival_reach *reaches; /* rising; may be NULL */
    uint32_t reaches_count;
};

struct gwtf_arrival_run {
    uint32_t stages;
    const struct gwtf_arrival_stage *stage; /* [stages], index 0: stage 1 */
    const struct gwtf_arrival_hop *hops;    /* [stages + 1]; NULL: costs of links are not known */
    uint32_t flow_most;                     /* of the data nodes; 0: any */
    double aggregation_cost;                /* the dearest one, in the unit of links' costs */
};

struct gwtf_arrival_candidate {
    uint32_t capacity;
    uint32_t link_cost; /* to and from everybody */
    double aggregation_cost;
    double speed;
};

struct gwtf_arrival {
    uint32_t candidate;
    uint32_t stage; /* 1.. */
};

/* TIME decides; of choices that take as long, the one that loads stages most evenly is better. */
struct gwtf_arrival_value {
    double time;
    double load; /* sum over stages of the eighth power of their loads */
};

/*
 * Arrivals in their order. Link costs that are not known are left out of the sum. The run's stages
 * are at most GWTF_ARRIVAL_STAGES_MAX, COUNT at most GWTF_ARRIVALS_MAX.
 */
struct gwtf_arrival_value gwtf_arrival_predict(const struct gwtf_arrival_run *run,
                                               const struct gwtf_arrival_candidate *candidates,
                                               const struct gwtf_arrival *arrivals, uint32_t count);

/*
 * Chooses WANTED of CANDIDATES and their stages, all at once: where several stages are as tight, a
 * single arrival gains nothing and only all of them together do. Starts from several choices in
 * which the tightest stage gets the largest candidate, among those whose links cost at most so
 * much, and exchanges candidates, stages and pairs while that is predicted to be better. Of choices
 * as good the first one found is kept, so the same figures give the same choice. Fewer arrivals
 * where there are fewer places or candidates; returns how many.
 */
uint32_t gwtf_arrival_choose(const struct gwtf_arrival_run *run,
                             const struct gwtf_arrival_candidate *candidates,
                             uint32_t candidates_count, uint32_t wanted,
                             struct gwtf_arrival arrivals[GWTF_ARRIVALS_MAX]);

#endif
