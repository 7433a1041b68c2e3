/*
 * The configuration of a run: a libconfig file, checked whole before anything starts.
 *
 * Every error is one line "FILE:LINE: what is wrong: what to do", with the nearest known key for an
 * unknown one. Values that a user may leave out have defaults; a loaded configuration is complete,
 * and writing it gives a file that loads to the same.
 */
#ifndef GWTF_IO_CONFIG_H
#define GWTF_IO_CONFIG_H

#include "flow/flow.h"
#include "io/corpus.h"
#include "share/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define GWTF_CONFIG_PATH_MAX 1024
#define GWTF_CONFIG_TEXTS_MAX 16384 /* of a list of texts together */
#define GWTF_CONFIG_WORD_MAX 64
#define GWTF_CONFIG_NODES_MAX 256      /* entries of `nodes`, each with a count */
#define GWTF_CONFIG_LINK_FAULTS_MAX 64 /* entries of `link_faults` */
#define GWTF_CONFIG_DRAW_MAX 64        /* links that one of them draws */
#define GWTF_CONFIG_CRASHES_MAX 64     /* entries of `crashes` */
#define GWTF_CONFIG_ANY_NODE UINT32_MAX

enum gwtf_config_family { GWTF_CONFIG_FAMILY_GPT2, GWTF_CONFIG_FAMILY_LLAMA };
/* Known models; the others are in io/model_preset.c. */
enum gwtf_config_preset { GWTF_CONFIG_PRESET_NONE };
/* What becomes of a run that has lost the last node of a stage. */
enum gwtf_config_stage_loss {
    GWTF_CONFIG_STAGE_LOSS_SNAPSHOT,
    GWTF_CONFIG_STAGE_LOSS_NEIGHBOURS,
    GWTF_CONFIG_STAGE_LOSS_HALT
};
enum gwtf_config_role { GWTF_CONFIG_ROLE_DATA, GWTF_CONFIG_ROLE_RELAY };
enum gwtf_config_decay {
    GWTF_CONFIG_DECAY_NONE,
    GWTF_CONFIG_DECAY_LINEAR,
    GWTF_CONFIG_DECAY_COSINE
};
/* AUTO: a GPU where a worker sees one. */
enum gwtf_config_device {
    GWTF_CONFIG_DEVICE_AUTO,
    GWTF_CONFIG_DEVICE_CPU,
    GWTF_CONFIG_DEVICE_CUDA
};
/* Of boundary tensors on their way. */
enum gwtf_config_compress {
    GWTF_CONFIG_COMPRESS_NONE,
    GWTF_CONFIG_COMPRESS_BFLOAT16,
    GWTF_CONFIG_COMPRESS_INT8
};
enum gwtf_config_precision {
    GWTF_CONFIG_PRECISION_FLOAT32,
    GWTF_CONFIG_PRECISION_BFLOAT16,
    GWTF_CONFIG_PRECISION_TFLOAT32
};
/* What the backward pass computes again, in place of keeping it. */
enum gwtf_config_recompute { GWTF_CONFIG_RECOMPUTE_NONE, GWTF_CONFIG_RECOMPUTE_BLOCKS };
enum gwtf_config_kernels { GWTF_CONFIG_KERNELS_ONEDNN, GWTF_CONFIG_KERNELS_REFERENCE };
enum gwtf_config_detector {
    GWTF_CONFIG_DETECTOR_AUTO,
    GWTF_CONFIG_DETECTOR_HEARTBEAT,
    GWTF_CONFIG_DETECTOR_OFF
};
/* The batch of an iteration when data nodes come or go. */
enum gwtf_config_global { GWTF_CONFIG_GLOBAL_CONSTANT, GWTF_CONFIG_GLOBAL_PER_DATA_NODE };

enum gwtf_config_repair {
    GWTF_CONFIG_REPAIR_EXACT,
    GWTF_CONFIG_REPAIR_DROP,
    GWTF_CONFIG_REPAIR_RESTART
};
enum gwtf_config_link_fault_kind {
    GWTF_CONFIG_LINK_SLOW,
    GWTF_CONFIG_LINK_CUT,
    GWTF_CONFIG_LINK_LOSSY
};
enum gwtf_config_crash_kind { GWTF_CONFIG_CRASH_KILL, GWTF_CONFIG_CRASH_STOP };
/* What a node does when it crashes. */
enum gwtf_config_phase {
    GWTF_CONFIG_PHASE_ANY,
    GWTF_CONFIG_PHASE_FORWARD,
    GWTF_CONFIG_PHASE_BACKWARD,
    GWTF_CONFIG_PHASE_AGGREGATION,
    GWTF_CONFIG_PHASE_SNAPSHOT,
    GWTF_CONFIG_PHASE_REPAIR
};

/* RUN: as backend.device says. */
enum gwtf_config_node_device {
    GWTF_CONFIG_NODE_DEVICE_RUN,
    GWTF_CONFIG_NODE_DEVICE_AUTO,
    GWTF_CONFIG_NODE_DEVICE_CPU,
    GWTF_CONFIG_NODE_DEVICE_CUDA
};

struct gwtf_config_node {
    enum gwtf_config_role role;
    uint32_t count;                  /* default 1 */
    uint32_t capacity;               /* microbatches held at one time; 0: from free memory */
    uint32_t stage;                  /* relays: 1..stages, 0: spread evenly over the stages */
    char host[GWTF_CONFIG_PATH_MAX]; /* where its workers are spawned; "": where mpirun puts them */
    char partition[GWTF_CONFIG_PATH_MAX]; /* of a Slurm job; "": data nodes in the first, relays in
                                           * all */
    char region[GWTF_CONFIG_PATH_MAX]; /* of network.emulate's topology; "": one after the other */
    enum gwtf_config_node_device device; /* default "run" */
};

/*
 * What becomes of emulated links from a moment on. They are those between a node that NODE and
 * REGION allow and one that PEER and PEER_REGION allow, in both directions; or DRAW of them, drawn
 * from SEED. With EVERY it happens again and again, each time to others that are drawn.
 */
struct gwtf_config_link_fault {
    uint32_t iteration;                /* when it begins; 0: at once */
    double seconds;                    /* since training began: not before either */
    uint32_t heal_after;               /* iterations; 0: never */
    double heal_seconds;               /* after it began; 0: never */
    uint32_t node;                     /* or GWTF_CONFIG_ANY_NODE */
    uint32_t peer;                     /* or GWTF_CONFIG_ANY_NODE */
    char region[GWTF_CONFIG_PATH_MAX]; /* "": any */
    char peer_region[GWTF_CONFIG_PATH_MAX];
    enum gwtf_config_link_fault_kind kind;
    double factor;         /* SLOW: bandwidth is divided, latency multiplied by it */
    double loss;           /* LOSSY: probability that a message or piece has to be sent again */
    double latency_ms;     /* in place of the topology's, by factor; below 0: that one */
    double bandwidth_mbit; /* in place of the topology's, by factor; 0: that one */
    uint32_t draw;         /* links; 0: all */
    double every;          /* seconds; 0: once */
    bool random;           /* as of crashes */
    uint64_t seed;
};

/*
 * A worker that kills or stops itself, to show what becomes of a run. With EVERY it happens again
 * and again; a node that is not named is then drawn anew each time, from SEED, among the relays
 * whose stage keeps another.
 */
struct gwtf_config_crash {
    enum gwtf_config_crash_kind kind; /* STOP: SIGSTOP, and SIGCONT after STOPPED_SECONDS */
    uint32_t node;                    /* or GWTF_CONFIG_ANY_NODE */
    uint32_t iteration;               /* not before */
    double seconds;                   /* since training began: not before either */
    enum gwtf_config_phase phase;
    double every; /* seconds; 0: once */
    bool random;  /* moments are drawn, EVERY seconds being the mean of the pauses */
    double stopped_seconds;
    uint64_t seed;
};

struct gwtf_config {
    struct {
        char directory[GWTF_CONFIG_PATH_MAX]; /* required */
        uint64_t seed;                        /* default 1 */
        uint32_t iterations;                  /* required, at least 1 */
        uint32_t places; /* nodes of each stage that may join later; default 4 */
        bool rebalance;  /* nodes may move to another stage; default true */
    } run;
    struct {
        /* default "none"; else it says what is left out of those below, up to tied_head */
        enum gwtf_config_preset preset;
        enum gwtf_config_family family; /* default "gpt2" */
        uint32_t layers;                /* required */
        uint32_t width;                 /* required */
        uint32_t heads;                 /* required, divides width */
        uint32_t key_value_heads;       /* 0 or left out: as heads; divides heads */
        uint32_t hidden;                /* 0 or left out: the family's usual */
        uint32_t context;               /* required */
        uint32_t vocabulary;            /* 0 or left out: the data's */
        bool tied_head;                 /* default: true for gpt2, false for llama */
        double rope_theta;              /* of llama; default 10000 */
        double norm_epsilon;            /* default 1e-5 */
    } model;
    struct {
        char train[GWTF_CONFIG_TEXTS_MAX]; /* files or patterns of them, one a line; required */
        enum gwtf_corpus_order order;      /* default "shuffled" */
        /* Where a resumed run is in that order: iteration START_ITERATION + 1 begins with the
         * sequence at place START_SEQUENCE. Default 0 and 0. */
        uint32_t start_iteration;
        uint64_t start_sequence;
        char validation[GWTF_CONFIG_PATH_MAX]; /* "": no validation */
        uint32_t validate_every; /* iterations; 0: after the last one only. Default 0 */
        /* spread evenly over the file; 0: as many as fit without overlap. Default 256 */
        uint32_t validation_sequences;
    } data;
    struct {
        uint32_t microbatch;            /* sequences in one; required */
        uint32_t microbatches;          /* per data node and iteration; required */
        enum gwtf_config_global global; /* default "constant" */
    } batch;
    struct {
        uint32_t stages; /* relay stages, 1..layers; required */
    } pipeline;
    struct gwtf_config_node nodes[GWTF_CONFIG_NODES_MAX];
    size_t nodes_count;
    struct {
        double learning_rate;         /* default 6e-4 */
        double minimum;               /* at the last iteration; default learning_rate / 10 */
        uint32_t warmup;              /* iterations; default 0 */
        enum gwtf_config_decay decay; /* default cosine */
        double weight_decay;          /* default 0.1 */
        double clip;                  /* global gradient norm; 0: none. Default 1.0 */
        double beta1;                 /* default 0.9 */
        double beta2;                 /* default 0.95 */
        double epsilon;               /* default 1e-8 */
    } optimizer;                      /* name "adamw", the only one */
    struct {
        enum gwtf_flow_policy policy;       /* default "gwtf" */
        enum gwtf_flow_objective objective; /* default "sum" */
        uint32_t view;                      /* of a neighbouring stage; default 32 */
    } flow;
    struct {
        enum gwtf_config_detector detector;     /* default "auto" */
        enum gwtf_config_repair repair;         /* default "exact" */
        enum gwtf_config_stage_loss stage_loss; /* default "snapshot" */
    } faults;
    struct {
        uint32_t every; /* iterations; 0: at the end only. Default 0 */
        uint32_t keep;  /* newest ones; 0: all. Default 3 */
    } snapshot;
    struct {
        enum gwtf_config_device device;       /* default "auto" */
        enum gwtf_config_kernels kernels;     /* "onednn" (default) or "reference" */
        enum gwtf_config_recompute recompute; /* "none" (default) or "blocks" */
        enum gwtf_config_precision precision; /* "float32" (default), "bfloat16" or "tfloat32" */
        uint32_t threads; /* per worker; 0: cores of the host / its workers. Default 0 */
    } backend;
    struct {
        char emulate[GWTF_CONFIG_PATH_MAX]; /* a topology file; "": the network as it is */
        enum gwtf_config_compress compress; /* "none" (default), "bfloat16" or "int8" */
    } network;
    struct gwtf_config_link_fault link_faults[GWTF_CONFIG_LINK_FAULTS_MAX];
    size_t link_faults_count;
    struct gwtf_config_crash crashes[GWTF_CONFIG_CRASHES_MAX];
    size_t crashes_count;
};

/* What a node computes on by a word that a person wrote: "run", "auto", "cpu" or "cuda". False, and
 * DEVICE untouched, for others. */
bool gwtf_config_read_device(const char *word, enum gwtf_config_node_device *device);

/* "auto", "cpu", "cuda". */
const char *gwtf_config_device_word(enum gwtf_config_device device);

/* Makes it what CONFIG says of the whole run. */
void gwtf_config_set_device(struct gwtf_config *config, enum gwtf_config_node_device device);

/*
 * Reads PATH, applies OVERRIDES one after the other, fills in defaults, and checks keys, types,
 * ranges and everything that can be checked without the data. Relative paths in the file are
 * relative to the working directory. The struct is large: keep it off small stacks.
 *
 * An override is a path, '=', and a libconfig value: "optimizer.learning_rate=1e-3",
 * "nodes.1.count=4" (entries count from 0). A string may stand without quotation marks. The path of
 * a section takes a group, of which the keys are set: "batch={ microbatch = 8; }"; "nodes=( ... )"
 * replaces the list. In messages "--set OVERRIDE" stands for the place then.
 *
 * Errors: GWTF_ERROR_USAGE with the line for the user, also for a file that cannot be read;
 * GWTF_ERROR_MEMORY. CONFIG is untouched then.
 */
gwtf_status gwtf_config_load(const char *path, const char *const *overrides, size_t overrides_count,
                             struct gwtf_config *config, struct gwtf_error *error);

/* The same from text; NAME stands in messages for the file. */
gwtf_status gwtf_config_parse(const char *text, const char *name, const char *const *overrides,
                              size_t overrides_count, struct gwtf_config *config,
                              struct gwtf_error *error);

/* The configuration as resolved, as libconfig text. *TEXT is the caller's to free. Errors:
 * GWTF_ERROR_MEMORY. */
gwtf_status gwtf_config_text(const struct gwtf_config *config, char **text);

/* Nodes of a role, over all entries. */
uint32_t gwtf_config_count(const struct gwtf_config *config, enum gwtf_config_role role);

#endif
