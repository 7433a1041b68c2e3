/*
 * Which place a node that joins gets, and which node had better be in another stage: the recorder
 * decides of both by what its reports say, and by flow/arrival.h. Pure.
 */
#ifndef GWTF_WORKER_PROTOCOL_PLACE_H
#define GWTF_WORKER_PROTOCOL_PLACE_H

#include "worker/protocol/protocol.h"

#define GWTF_PLACE_DATA_NODE UINT32_MAX

struct gwtf_place_run {
    const struct gwtf_member_view *members; /* by id */
    uint32_t members_count;
    uint32_t first_place; /* members from this id on may be taken */
    /* Index 0: stage 1. Nodes that its microbatches keep busy all the time, by the last reports: of
     * two that are busy for half of it each, one. 0: not known. */
    const double *stage_busy;
    uint32_t waiting; /* nodes that want a place, this one first; the first others are thought of */
    /* How much a node does in a second, in one unit for all; NULL or 0: as the mean of the others.
     */
    const double *stage_pace;   /* index 0: stage 1; the mean of its nodes */
    const double *waiting_pace; /* [waiting] */
    const double *member_pace;  /* by id */
};

struct gwtf_place_choice {
    gwtf_node_id node;    /* GWTF_NODE_NONE: there is none */
    uint32_t stage;       /* 0: a data node */
    uint32_t incarnation; /* that its place is in, in which it enters */
    uint32_t nodes;       /* that the stage has so far */
    double load;          /* share of the time for which they are busy; 0: not known */
    double speed;         /* of who comes, in that of the mean of those nodes; 0: not known */
    uint32_t stages;      /* of the run */
};

/*
 * STAGE: wished for, GWTF_PLACE_DATA_NODE: as a data node; 0: where the time per microbatch falls
 * most, as flow/arrival.h says, when all that wait come. Before there are figures, the stage with
 * the fewest nodes. Places that nobody has had come first.
 */
struct gwtf_place_choice gwtf_place_choose(const struct gwtf_place_run *run, uint32_t stage);

/*
 * A node of an over-full stage moves to the one that holds the others up: it leaves, and joins
 * again. What it saves is guessed from how busy stages are, and not all nodes are as fast; so when
 * iterations take longer afterwards, it goes back. That none goes to and fro, the same move must be
 * the best one for some reports in a row, and save a good part of the iteration; after any change
 * of the members nobody moves for some iterations; and a stage that a node has gone to gives none
 * away, nor the reverse, and one from which a node has come back does neither, until nodes came or
 * went for another reason, or for GWTF_PLACE_FORGET iterations and GWTF_PLACE_FORGET_US.
 */
#define GWTF_PLACE_REPORTS 3u          /* in a row */
#define GWTF_PLACE_GAIN 0.1            /* of the iteration's time */
#define GWTF_PLACE_MEAN 10u            /* reports, as long as the members stay */
#define GWTF_PLACE_CALM 5u             /* iterations after a change, and */
#define GWTF_PLACE_CALM_US 5000000     /* so long */
#define GWTF_PLACE_MOVE 20u            /* iterations that a move may take, or */
#define GWTF_PLACE_MOVE_US 120000000   /* so long, whichever is more */
#define GWTF_PLACE_LOSS 0.02           /* of the iteration's time: it was a mistake */
#define GWTF_PLACE_FORGET 200u         /* iterations, and */
#define GWTF_PLACE_FORGET_US 600000000 /* so long, and twice as long after each mistake */

struct gwtf_place_moves {
    struct {
        uint32_t iteration;
        gwtf_time_us us;
    } changed,         /* the members did, last */
        moved;         /* a node was told to */
    uint32_t advised;  /* reports in a row that say the same */
    uint32_t from, to; /* what they say; of a move that is under way, it */
    bool is_back;      /* of a move that is under way, or of the last one: see below */
    bool is_under_way; /* a node has been told to move, and is neither there nor given up */
    bool has_left;     /* it */
    bool is_tried;     /* the last move is done, and no mistake so far */
    uint32_t mistakes;
    int64_t before_us;                    /* what an iteration took before it */
    uint32_t living[GWTF_STAGES_MAX + 1]; /* at the last report; all 0 before the first */
    double busy[GWTF_STAGES_MAX];         /* as stage_busy, over the reports since the change */
    double mean_us;                       /* of an iteration, over the same reports */
    uint32_t seen;                        /* of them, at most GWTF_PLACE_MEAN */
    bool has_given[GWTF_STAGES_MAX + 1], has_got[GWTF_STAGES_MAX + 1];
};

struct gwtf_place_move {
    gwtf_node_id node;
    uint32_t from, to;
    bool is_back; /* it was a mistake that one went the other way */
    double saves; /* share of the iteration's time */
};

struct gwtf_place_report {
    uint32_t iteration;
    gwtf_time_us now_us;
    int64_t duration_us;  /* of the iteration */
    const bool *may_move; /* by id */
};

/* To be asked once for each report; MOVES is zero at first. True: MOVE is to be carried out. */
bool gwtf_place_advise(struct gwtf_place_moves *moves, const struct gwtf_place_run *run,
                       const struct gwtf_place_report *report, struct gwtf_place_move *move);

#endif
