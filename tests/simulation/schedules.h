/*
 * Random schedules of faults. Each function draws a cluster and its faults from SEED, runs it, says
 * on stderr what is wrong, and returns whether everything was right. The simulator itself checks
 * every step of every node: each microbatch counted once, replicas of the same weights.
 */
#pragma once

#include "tests/simulation/cluster.h"

/* What a schedule is drawn from. */
struct mix {
    bool crashes;
    bool suspicions;
    bool returns;                 /* those that were lost come back */
    bool longer;                  /* they may be lost again */
    bool joins;                   /* some are not there at first, and join at any moment */
    bool leaves;                  /* some are told to leave, at any moment */
    bool moves;                   /* joins and leaves: some of those that left join another stage */
    bool keeps_little;            /* some nodes keep few tensors of what is done, or none */
    bool pauses;                  /* nodes stand still for a while */
    bool stalls;                  /* before a node crashes, what it sends stays with it */
    bool quick;                   /* many iterations, each shorter than a message that is lost takes
                                   * to be sent again */
    bool has_policy;              /* else the random cluster's own */
    enum gwtf_flow_policy policy; /* has_policy */
    enum gwtf_recovery recovery;
};

/* make_cluster makes the one cluster that all use. */
extern struct cluster *cluster;
int make_cluster(void);
int free_cluster(void);

/* Clusters are also drawn with messages that are lost on their way, and clocks that differ. Those
 * of named seeds were found without. */
extern bool schedules_disorderly;

/* In half of the clusters data nodes share out a batch of one size, and half of the data nodes that
 * join have data of their own. */
extern bool schedules_share;

/* Of all runs with faults so far. */
extern uint64_t schedules_traces;
extern uint32_t schedules_returned; /* nodes */
extern uint32_t schedules_left;     /* nodes */
extern uint32_t schedules_moved;    /* came to another stage */
extern uint32_t schedules_stayed;   /* nodes, that were told to leave */

/* Nodes are lost as MIX says; the others train to the end. */
bool survives(uint64_t seed, const struct mix *mix);

/* A cut through the middle, at any moment: one side goes on at most. MIX is not looked at in this
 * one and the next three. */
bool one_side_goes_on(uint64_t seed, const struct mix *mix);

/* Nobody but those that are suspected ends, and they know why. */
bool fences_the_suspected(uint64_t seed, const struct mix *mix);

/* A few links break for a while, so that each end hears nothing of the other; or one end of one for
 * good. Whoever is lost by that, each stage keeps a node that trains to the end. */
bool breaks_links(uint64_t seed, const struct mix *mix);

/* A stage is lost with all its nodes: the others leave a file of every other stage. */
bool leaves_a_rest(uint64_t seed, const struct mix *mix);
