/*
 * A node that is told to leave: by a signal, or by gwtf leave. The protocol goes when the others
 * need it no more. When its notice is over before, the machine is about to be taken away: the node
 * ends, and the others find it missing, and repair what it had, as for any that is lost.
 */
#include "io/join.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/node_state.h"

#include <mpi.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* To say that it ends. */
#define LAST_WORDS_S 0.5

static void set_end(struct node *node, double notice_s) {
    node->notice_s = notice_s;
    double left_s = notice_s > 2 * LAST_WORDS_S ? notice_s - LAST_WORDS_S : notice_s / 2;
    node->leave_until_us = gwtf_clock_now_us() + (int64_t)(left_s * 1e6);
}

bool node_begin_leaving(struct node *node, const struct gwtf_leave *leave, const char *why) {
    /* Who is about to move may be told to leave for good. */
    bool is_news = !node->leave_told || (node->moves_to != 0 && leave->stage == 0);
    if (!is_news)
        return false;
    node->moves_to = leave->stage;
    set_end(node, leave->notice_s);
    if (node->leave_told)
        return false;
    node->leave_told = true;
    node->leave_why = why;
    node->state.phase = GWTF_NODE_LEAVING;
    if (!node->is_fenced)
        return true;
    /* The others go on without it already. */
    node->leaves_now = true;
    node->finished = true;
    node->status = GWTF_OK;
    return false;
}

void node_see_off(struct node *node, const struct gwtf_incident *incident) {
    struct lost_peer *lost = &node->lost[incident->node];
    lost->is_forgotten = true;
    lost->is_doubted = false;
    lost->ended_us = 0;
    gwtf_log(GWTF_LOG_INFO, "node %u has left", incident->node);
    gwtf_heartbeat_forget(node->heartbeat, incident->node);
    gwtf_transport_forget(node->transport, incident->node);
    if (node_is_recorder(node))
        node_write_event(node, "left", incident->iteration, incident->node,
                         "it has left as it was told to; nothing is lost");
}

bool node_notice_is_over(const struct node *node, gwtf_time_us now_us) {
    return node->leave_told && !node->finished && now_us >= node->leave_until_us;
}

void node_end_leaving(struct node *node) {
    static const char text[] =
        "its notice is over before the others could let it go: it ends, and they repair";
    gwtf_log(GWTF_LOG_WARNING, "%s", text);
    gwtf_run_append_event(node->directory, "notice_over", (uint32_t)node->state.iteration + 1,
                          node->charter->self, text, NULL);
    node->leaves_now = true;
    node->finished = true;
    node->status = GWTF_OK;
}

/* By who runs `gwtf join`; under Open MPI 5, by a node of the run. */
void node_ask_for_other_stage(const struct node *node) {
    gwtf_log(GWTF_LOG_INFO, "it moves to stage %u", node->moves_to);
#if OMPI_MAJOR_VERSION >= 5
    struct gwtf_join_spawn spawn = {.stage = node->moves_to,
                                    .capacity = node->charter->capacity,
                                    .threads = node->charter->threads};
    snprintf(spawn.token, sizeof spawn.token, "node-%04u-%ld-%lld", node->charter->self,
             (long)getpid(), (long long)time(NULL));
    snprintf(spawn.host, sizeof spawn.host, "%s", node->state.host);
    snprintf(spawn.device, sizeof spawn.device, "%s",
             gwtf_config_device_word(node->setup.config.backend.device));
    if (gwtf_join_write_spawn(node->directory, &spawn, NULL) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "cannot ask for a place in stage %u: gwtf join brings one",
                 node->moves_to);
#else
    if (node->token != NULL)
        (void)gwtf_join_write_moves(node->directory, node->token, node->moves_to);
#endif
}
