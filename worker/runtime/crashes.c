#include "worker/runtime/crashes.h"

#include "share/base/random.h"
#include "worker/runtime/moments.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Whoever goes on has been taken back by the others after so long. */
#define BACK_US 5e6

struct entry {
    const struct gwtf_config_crash *config;
    uint64_t drawn; /* how often it has happened to somebody */
    double at_us;   /* of training, when it happens next; below 0: never */
    uint64_t waits; /* how often it is this node's turn, in a phase to come */
};

struct gwtf_crashes {
    gwtf_node_id self;
    uint32_t nodes_count;
    uint32_t *stages; /* by node */
    bool *killed;     /* by node: as far as these crashes go */
    double *away_us;  /* by node: until when it is, having been stopped */
    struct entry entries[GWTF_CONFIG_CRASHES_MAX];
    size_t entries_count;
};

gwtf_status gwtf_crashes_create(const struct gwtf_config *config, const uint32_t *stages,
                                uint32_t nodes_count, gwtf_node_id self, gwtf_crashes **crashes) {
    gwtf_crashes *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->self = self;
    made->nodes_count = nodes_count;
    made->stages = calloc(nodes_count, sizeof *made->stages);
    made->killed = calloc(nodes_count, sizeof *made->killed);
    made->away_us = calloc(nodes_count, sizeof *made->away_us);
    if (made->stages == NULL || made->killed == NULL || made->away_us == NULL) {
        gwtf_crashes_destroy(made);
        return GWTF_ERROR_MEMORY;
    }
    memcpy(made->stages, stages, nodes_count * sizeof *stages);
    made->entries_count = config->crashes_count;
    for (size_t i = 0; i < made->entries_count; i++) {
        const struct gwtf_config_crash *crash = &config->crashes[i];
        made->entries[i] = (struct entry){.config = crash, .at_us = crash->seconds * 1e6};
        if (crash->random)
            made->entries[i].at_us += gwtf_moment_pause_us(crash->every, true, crash->seed, i, 0);
        /* Who is to die by name is no one's spare. */
        if (crash->kind == GWTF_CONFIG_CRASH_KILL && crash->node != GWTF_CONFIG_ANY_NODE)
            made->killed[crash->node] = true;
    }
    *crashes = made;
    return GWTF_OK;
}

void gwtf_crashes_destroy(gwtf_crashes *crashes) {
    if (crashes == NULL)
        return;
    free(crashes->stages);
    free(crashes->killed);
    free(crashes->away_us);
    free(crashes);
}

static bool is_here(const gwtf_crashes *crashes, gwtf_node_id node, double at_us) {
    return !crashes->killed[node] && crashes->away_us[node] <= at_us;
}

/* A relay that can be spared at AT_US: its stage keeps another. */
static bool is_spare(const gwtf_crashes *crashes, gwtf_node_id node, double at_us) {
    uint32_t left = 0;
    for (gwtf_node_id i = 0; i < crashes->nodes_count; i++)
        left += crashes->stages[i] == crashes->stages[node] && is_here(crashes, i, at_us);
    return crashes->stages[node] != 0 && is_here(crashes, node, at_us) && left > 1;
}

/* GWTF_NODE_NONE: nobody can be spared. */
static gwtf_node_id draw(const gwtf_crashes *crashes, const struct entry *entry, size_t place) {
    if (entry->config->node != GWTF_CONFIG_ANY_NODE)
        return entry->config->node;
    uint64_t spare = 0;
    for (gwtf_node_id i = 0; i < crashes->nodes_count; i++)
        spare += is_spare(crashes, i, entry->at_us);
    if (spare == 0)
        return GWTF_NODE_NONE;
    uint64_t key = gwtf_random_key(entry->config->seed, place);
    uint64_t pick = gwtf_random_at(key, entry->drawn) % spare;
    for (gwtf_node_id i = 0; i < crashes->nodes_count; i++)
        if (is_spare(crashes, i, entry->at_us) && pick-- == 0)
            return i;
    return GWTF_NODE_NONE;
}

/* The entry that happens first, of those whose time has come. */
static struct entry *first_due(gwtf_crashes *crashes, int64_t trained_us) {
    struct entry *first = NULL;
    for (size_t i = 0; i < crashes->entries_count; i++) {
        struct entry *entry = &crashes->entries[i];
        if (entry->at_us >= 0 && entry->at_us <= (double)trained_us &&
            (first == NULL || entry->at_us < first->at_us))
            first = entry;
    }
    return first;
}

/* Draws whoever's turn it has become meanwhile, in the order of time, as all others do. */
static void draw_all(gwtf_crashes *crashes, int64_t trained_us) {
    struct entry *entry;
    while ((entry = first_due(crashes, trained_us)) != NULL) {
        size_t place = (size_t)(entry - crashes->entries);
        gwtf_node_id victim = draw(crashes, entry, place);
        double at_us = entry->at_us;
        entry->drawn++;
        entry->at_us = -1;
        if (entry->config->every > 0)
            entry->at_us = at_us + gwtf_moment_pause_us(entry->config->every, entry->config->random,
                                                        entry->config->seed, place, entry->drawn);
        if (victim == GWTF_NODE_NONE)
            continue;
        if (entry->config->kind == GWTF_CONFIG_CRASH_KILL)
            crashes->killed[victim] = true;
        else
            crashes->away_us[victim] = at_us + entry->config->stopped_seconds * 1e6 + BACK_US;
        entry->waits += victim == crashes->self;
    }
}

static void describe(const struct entry *entry, uint32_t iteration, struct gwtf_crash *crash) {
    static const char *const names[] = {
        "", "forward of ", "backward of ", "aggregation of ", "snapshot of ", "repair in "};
    int length = snprintf(crash->text, sizeof crash->text, "kill -9");
    if (crash->stop)
        length =
            snprintf(crash->text, sizeof crash->text, "stopped for %g s", crash->stopped_seconds);
    snprintf(crash->text + length, sizeof crash->text - (size_t)length, " in %siteration %u",
             names[entry->config->phase], iteration);
}

bool gwtf_crashes_next(gwtf_crashes *crashes, uint32_t iteration, enum gwtf_config_phase phase,
                       int64_t trained_us, struct gwtf_crash *crash) {
    draw_all(crashes, trained_us);
    for (size_t i = 0; i < crashes->entries_count; i++) {
        struct entry *entry = &crashes->entries[i];
        if (entry->waits == 0 || iteration < entry->config->iteration ||
            (entry->config->phase != GWTF_CONFIG_PHASE_ANY && entry->config->phase != phase))
            continue;
        entry->waits--;
        crash->stop = entry->config->kind == GWTF_CONFIG_CRASH_STOP;
        crash->stopped_seconds = entry->config->stopped_seconds;
        describe(entry, iteration, crash);
        return true;
    }
    return false;
}

/* SIGSTOP, and SIGCONT by a timer of the system, which a stopped process still gets. */
static void stand_still(double seconds) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
    struct itimerspec wait = {.it_value.tv_sec = (time_t)seconds};
    timer_t timer;
    wait.it_value.tv_nsec = (long)((seconds - (double)wait.it_value.tv_sec) * 1e9);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        return;
    if (timer_settime(timer, 0, &wait, NULL) == 0)
        kill(getpid(), SIGSTOP);
    timer_delete(timer);
}

void gwtf_crash_now(const struct gwtf_crash *crash) {
    if (crash->stop)
        stand_still(crash->stopped_seconds);
    else
        kill(getpid(), SIGKILL);
}
