#include "worker/runtime/node_state.h"

#include "share/base/assert.h"
#include "share/base/log.h"
#include "worker/runtime/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEARTBEAT_INTERVAL_US 100000
#define HEARTBEAT_PEERS 128 /* with more the interval grows: 1280 frames a second at most */
#define HEARTBEAT_SILENCE_LEAST_US 1000000
#define HEARTBEAT_SILENCE_INTERVALS 6
#define HEARTBEAT_SILENCE_MOST_US 15000000
#define HEARTBEAT_FIRST_SILENCE_US 120000000
#define READY_LOOK_US 20000 /* while threads get ready */
#define PROBES_MAX 8        /* of links, under way */
#define GPUS_MAX 64         /* of one machine, that nodes are counted on */

static void find_replicas(struct node *node) {
    const struct gwtf_charter *charter = node->charter;
    for (uint32_t i = 0; i < charter->members_count; i++)
        if (charter->members[i].node == charter->self)
            node->stage = charter->members[i].stage;
    for (uint32_t i = 0; i < charter->members_count; i++)
        if (charter->members[i].stage == node->stage) {
            node->replicas++;
        }
}

/* Nobody was spawned for member I. */
static bool is_place(const struct gwtf_charter *charter, uint32_t i) {
    return charter->members[i].node >= charter->first_place;
}

/* RUN/logs/node-0003.log; a node that does not see the run's directory has none. */
static void open_log(const struct node *node) {
    char path[GWTF_RUN_PATH_MAX];
    snprintf(path, sizeof path, "%s/logs/node-%04u.log", node->directory, node->state.node);
    gwtf_log_set_file(open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
}

/* What the configuration says of this node alone. */
static gwtf_status take_device(struct node *node, struct gwtf_error *error) {
    struct gwtf_placement *placements = NULL;
    gwtf_status status = gwtf_setup_place(&node->setup, &placements, error);
    if (status == GWTF_OK)
        gwtf_config_set_device(&node->setup.config, placements[node->charter->self].device);
    free(placements);
    return status;
}

static gwtf_status open_setup(struct node *node, struct gwtf_error *error) {
    struct gwtf_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status =
        gwtf_config_parse(node->charter->config, "charter", NULL, 0, config, error);
    if (status == GWTF_OK) {
        /* From now on whoever watches the run knows of this process. */
        snprintf(node->directory, sizeof node->directory, "%s", config->run.directory);
        gwtf_run_write_node(node->directory, &node->state, NULL);
        open_log(node);
        if (node->token != NULL)
            gwtf_config_set_device(config, node->device);
        if (node->stage > 0)
            status = gwtf_setup_open_relay(config, &node->setup, error);
        else if (node->token)
            status = gwtf_setup_open_joined(config, node->own_data, &node->setup, error);
        else
            status = gwtf_setup_open(config, &node->setup, error);
    }
    node->setup_open = status == GWTF_OK;
    if (status == GWTF_OK && node->token == NULL)
        status = take_device(node, error);
    if (status == GWTF_OK && node->charter->snapshot[0] != '\0')
        gwtf_setup_keep_tokenizer(&node->setup, node->charter->snapshot);
    free(config);
    return status;
}

/* The node's memory, made and filled beside the thread that owns MPI, which has its heartbeats to
 * send meanwhile. */
struct loading {
    struct gwtf_memory_options options;
    bool may_shrink; /* fewer slots will do */
    gwtf_memory *memory;
    gwtf_bell *bell;
    struct gwtf_error error;
    gwtf_status status;
    atomic_bool done;
};

static void *load(void *argument) {
    struct loading *loading = argument;
    loading->status = gwtf_memory_create(&loading->options, &loading->memory, &loading->error);
    /* A GPU has others who take of it, too. */
    while (loading->status == GWTF_ERROR_MEMORY && loading->may_shrink &&
           loading->options.slots > 1) {
        loading->options.slots /= 2;
        loading->status = gwtf_memory_create(&loading->options, &loading->memory, &loading->error);
    }
    atomic_store(&loading->done, true);
    gwtf_bell_ring(loading->bell);
    return NULL;
}

/* What the thread that owns MPI does while others get ready: it is heard, and hears nothing yet. */
static void keep_beating(struct node *node) {
    gwtf_transport_push_on(node->transport);
    node_send_heartbeats(node, gwtf_clock_now_us());
    gwtf_bell_wait(node->bell, READY_LOOK_US);
}

static gwtf_status make_memory(struct node *node, const struct gwtf_memory_options *options,
                               struct gwtf_error *error) {
    bool on_gpu = gwtf_setup_backend(&node->setup) == GWTF_BACKEND_CUDA;
    struct loading loading = {.options = *options,
                              .may_shrink = on_gpu && node->charter->capacity == 0,
                              .bell = node->bell};
    pthread_t thread;
    if (pthread_create(&thread, NULL, load, &loading) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start a thread");
    while (!atomic_load(&loading.done))
        keep_beating(node);
    pthread_join(thread, NULL);
    node->memory = loading.memory;
    node->capacity = loading.options.slots;
    node->state.capacity = node->capacity;
    if (loading.status != GWTF_OK)
        *error = loading.error;
    return loading.status;
}

static struct gwtf_memory_options memory_options(const struct node *node) {
    return (struct gwtf_memory_options){
        .setup = &node->setup,
        .stage = node->stage,
        .slots = 1,
        .threads = node->charter->threads,
        .replicas = node->replicas,
        .snapshot = node->charter->enters > 0 ? NULL : node->charter->snapshot,
    };
}

static gwtf_status make_transport(struct node *node, struct gwtf_error *error) {
    const struct gwtf_charter *charter = node->charter;
    if (charter->topology[0] != '\0') {
        gwtf_status read = gwtf_network_create(&node->setup, charter->topology, charter->self,
                                               &node->network, error);
        if (read != GWTF_OK)
            return read;
    }
    int *ranks = calloc(charter->members_count, sizeof *ranks);
    node->lost = calloc(charter->members_count, sizeof *node->lost);
    for (uint32_t i = 0; node->lost != NULL && i < charter->members_count; i++)
        node->lost[i].is_forgotten = is_place(charter, i) || charter->enters > 0;
    gwtf_status status = ranks == NULL || node->lost == NULL ? GWTF_ERROR_MEMORY : GWTF_OK;
    for (uint32_t i = 0; status == GWTF_OK && i < charter->members_count; i++)
        ranks[charter->members[i].node] = charter->members[i].rank;
    struct gwtf_transport_config transport = {
        .nodes = charter->members_count,
        .self = charter->self,
        .rank_of_node = ranks,
        /* A slot's input or gradient, and up to four sends of its output and of its input's
         * gradient: what was refused or lost may still be leaving. To and from each replica:
         * contributions and shares. */
        .payloads_max =
            (size_t)9 * (node->capacity + node->retained) + (size_t)4 * node->replicas + PROBES_MAX,
        .incarnation = charter->incarnation,
        .links = node->network != NULL ? gwtf_network_links(node->network) : NULL,
    };
    if (status == GWTF_OK)
        status = gwtf_transport_create(&transport, &node->transport);
    free(ranks);
    for (uint32_t i = 0; status == GWTF_OK && node->worlds && i < charter->members_count; i++)
        if (node->worlds[i] != MPI_COMM_NULL)
            gwtf_transport_connect(node->transport, i, node->worlds[i], 0);
    int64_t interval_us = HEARTBEAT_INTERVAL_US;
    if (charter->first_place > HEARTBEAT_PEERS)
        interval_us = interval_us * charter->first_place / HEARTBEAT_PEERS;
    int64_t silence_us = HEARTBEAT_SILENCE_INTERVALS * interval_us;
    struct gwtf_heartbeat_config heartbeat = {
        .peers = charter->members_count,
        .interval_us = interval_us,
        .silence_least_us =
            silence_us > HEARTBEAT_SILENCE_LEAST_US ? silence_us : HEARTBEAT_SILENCE_LEAST_US,
        .silence_most_us = HEARTBEAT_SILENCE_MOST_US,
        .first_silence_us = HEARTBEAT_FIRST_SILENCE_US,
    };
    if (status == GWTF_OK)
        status = gwtf_heartbeat_create(&heartbeat, gwtf_clock_now_us(), &node->heartbeat);
    if (status != GWTF_OK)
        return gwtf_error_set(error, status, "cannot start the transport: %s",
                              gwtf_status_name(status));
    enum gwtf_config_detector detector = node->setup.config.faults.detector;
    for (uint32_t i = 0; i < charter->members_count; i++)
        if (i == charter->self || is_place(charter, i) || charter->enters > 0 ||
            detector == GWTF_CONFIG_DETECTOR_OFF)
            gwtf_heartbeat_forget(node->heartbeat, i);
    status = gwtf_pidwatch_create(charter->members_count, &node->pidwatch);
    for (uint32_t i = 0; status == GWTF_OK && i < charter->members_count; i++)
        if (detector == GWTF_CONFIG_DETECTOR_AUTO && charter->members[i].pid != 0 &&
            charter->members[i].node != charter->self)
            gwtf_pidwatch_add(node->pidwatch, charter->members[i].node,
                              (pid_t)charter->members[i].pid);
    if (status != GWTF_OK)
        return gwtf_error_set(error, status, "out of memory");
    return GWTF_OK;
}

static gwtf_status make_crashes(struct node *node, struct gwtf_error *error) {
    const struct gwtf_charter *charter = node->charter;
    if (node->setup.config.crashes_count == 0 || charter->enters > 0)
        return GWTF_OK;
    uint32_t *stages = calloc(charter->members_count, sizeof *stages);
    gwtf_status status = stages == NULL ? GWTF_ERROR_MEMORY : GWTF_OK;
    for (uint32_t i = 0; status == GWTF_OK && i < charter->members_count; i++)
        stages[charter->members[i].node] = charter->members[i].stage;
    if (status == GWTF_OK)
        status = gwtf_crashes_create(&node->setup.config, stages, charter->first_place,
                                     charter->self, &node->crashes);
    free(stages);
    return status == GWTF_OK ? GWTF_OK : gwtf_error_set(error, status, "out of memory");
}

gwtf_status node_make_protocol(struct node *node, uint32_t incarnation, struct gwtf_error *error) {
    const struct gwtf_charter *charter = node->charter;
    const struct gwtf_config *config = &node->setup.config;
    struct gwtf_member *members = calloc(charter->members_count, sizeof *members);
    if (members == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    for (uint32_t i = 0; i < charter->members_count; i++)
        members[i] = (struct gwtf_member){.node = charter->members[i].node,
                                          .stage = charter->members[i].stage,
                                          .is_free = is_place(charter, i)};
    struct gwtf_protocol_config protocol = {
        .self = charter->self,
        .members = members,
        .members_count = charter->members_count,
        .stages = config->pipeline.stages,
        .capacity = node->capacity,
        .compute_us = gwtf_compute_probed_us(node->compute),
        .first_iteration = charter->first_iteration,
        .last_iteration = config->run.iterations,
        .microbatches = config->batch.microbatches,
        .batch = node->setup.data_nodes * config->batch.microbatches,
        .batch_is_constant = config->batch.global == GWTF_CONFIG_GLOBAL_CONSTANT,
        .sequences = config->batch.microbatch,
        .place = gwtf_setup_place_of(&node->setup, charter->first_iteration),
        .own_data = node->own_data[0] != '\0',
        .own_place = node->own_place,
        .validation_microbatches =
            node->stage == 0 ? gwtf_setup_validation_share(&node->setup, charter->self) : 0,
        .validates = config->data.validation[0] != '\0',
        .validate_every = config->data.validate_every,
        .snapshot_every = config->snapshot.every,
        .boundary_bytes = gwtf_memory_boundary_bytes(&node->setup),
        .gradient_floats = gwtf_memory_gradient_floats(node->memory),
        .policy = config->flow.policy,
        .objective = config->flow.objective,
        .view = config->flow.view,
        .recovery = config->faults.repair == GWTF_CONFIG_REPAIR_DROP ? GWTF_RECOVERY_DROP
                                                                     : GWTF_RECOVERY_EXACT,
        .retained = node->retained,
        .enters = incarnation > 0,
        .incarnation = incarnation,
        .seed = config->run.seed,
    };
    gwtf_status status = gwtf_protocol_create(&protocol, &node->protocol);
    node->update.actions_max = gwtf_protocol_actions_max(&protocol);
    node->update.deadline_us = GWTF_TIME_NEVER;
    if (status == GWTF_OK) {
        node->update.actions = calloc(node->update.actions_max, sizeof *node->update.actions);
        if (node->update.actions == NULL)
            status = GWTF_ERROR_MEMORY;
    }
    free(members);
    if (status != GWTF_OK)
        gwtf_error_set(error, status, "cannot start the protocol: %s", gwtf_status_name(status));
    return status;
}

/* The compute thread's first deed is to measure itself. */
static void await_probe(struct node *node) {
    while (gwtf_compute_probed_us(node->compute) == 0)
        keep_beating(node);
}

static gwtf_status make_door(struct node *node, struct gwtf_error *error) {
    struct gwtf_door_config config = {
        .directory = node->directory,
        .charter = node->charter,
        .run = &node->setup.config,
        .bell = node->bell,
        .token = node->token,
        .worlds = node->worlds,
    };
    if (node->charter->first_place == node->charter->members_count)
        return GWTF_OK;
    node->members = calloc(node->charter->members_count, sizeof *node->members);
    if (node->members == NULL || gwtf_door_create(&config, &node->door) != GWTF_OK)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start the thread of the door");
    return GWTF_OK;
}

/* The bootstrap tells those that it has spawned. */
static gwtf_status find_useful(const struct node *node, struct gwtf_memory_room *room,
                               struct gwtf_error *error) {
    struct gwtf_placement *placements = NULL;
    if (node->charter->enters == 0)
        return GWTF_OK;
    gwtf_status status = gwtf_setup_place(&node->setup, &placements, error);
    if (status == GWTF_OK)
        room->capacity_useful = placements[node->charter->self].capacity_useful;
    free(placements);
    return status;
}

/* Who joins takes the GPU of this machine, of COUNT, on which the fewest nodes compute. */
static uint32_t least_used_gpu(const struct node *node, uint32_t count) {
    uint32_t users[GPUS_MAX] = {0}, least = 0;
    struct gwtf_node_state *states = NULL;
    size_t states_count = 0;
    if (gwtf_run_read_nodes(node->directory, &states, &states_count, NULL) != GWTF_OK)
        return 0;
    for (size_t i = 0; i < states_count; i++)
        if (states[i].on_gpu && states[i].gpu < GPUS_MAX && !gwtf_node_has_ended(&states[i]) &&
            states[i].node != node->charter->self && strcmp(states[i].host, node->state.host) == 0)
            users[states[i].gpu]++;
    free(states);
    for (uint32_t i = 1; i < count && i < GPUS_MAX; i++)
        if (users[i] < users[least])
            least = i;
    return least;
}

/* This worker's share of its GPU: those of one machine take GPUs in turn. Errors:
 * GWTF_ERROR_UNSUPPORTED. */
static gwtf_status find_gpu(struct node *node, struct gwtf_memory_options *options,
                            struct gwtf_memory_room *room, struct gwtf_error *error) {
    const struct gwtf_charter *charter = node->charter;
    struct gwtf_gpu gpu;
    uint64_t free_bytes;
    uint32_t here = 0;
    options->place = 0;
    for (uint32_t i = 0; i < charter->members_count; i++) {
        bool beside = charter->members[i].pid != 0 || charter->members[i].node == charter->self;
        if (beside && charter->members[i].node < charter->self)
            options->place++;
        here += beside;
    }
    if (gwtf_setup_backend(&node->setup) != GWTF_BACKEND_CUDA)
        return GWTF_OK;
    if (node->token != NULL && node->directory[0] != '\0')
        options->place = least_used_gpu(node, gwtf_gpu_count());
    gwtf_status status = gwtf_gpu_look(options->place, &gpu, error);
    if (status == GWTF_OK)
        status = gwtf_gpu_free_bytes(options->place, &free_bytes, error);
    if (status != GWTF_OK)
        return status;
    node->state.on_gpu = true;
    node->state.gpu = gpu.number;
    snprintf(node->state.gpu_name, sizeof node->state.gpu_name, "%s", gpu.name);
    room->gpu_bytes = gwtf_memory_gpu_share(&gpu, free_bytes, here);
    gwtf_log(GWTF_LOG_DEBUG, "computes on GPU %u of %u, %s", gpu.number, gpu.count, gpu.name);
    return GWTF_OK;
}

/* Sets OPTIONS' slots and what else depends on memory. A GPU that nobody has asked for by name, and
 * that cannot be used or is too full, is left to others. */
static gwtf_status choose_memory(struct node *node, struct gwtf_memory_options *options,
                                 struct gwtf_memory_room *room, struct gwtf_error *error) {
    enum gwtf_config_device *device = &node->setup.config.backend.device;
    gwtf_status status = find_gpu(node, options, room, error);
    if (status == GWTF_OK)
        status = gwtf_memory_choose(options, room, error);
    if (status == GWTF_OK || *device != GWTF_CONFIG_DEVICE_AUTO ||
        gwtf_setup_backend(&node->setup) != GWTF_BACKEND_CUDA)
        return status;
    gwtf_log(GWTF_LOG_WARNING, "%s; it computes on processors instead", error->text);
    *device = GWTF_CONFIG_DEVICE_CPU;
    node->state.on_gpu = false;
    return gwtf_memory_choose(options, room, error);
}

gwtf_status node_make(struct node *node, struct gwtf_error *error) {
    find_replicas(node);
    node->state.stage = node->stage;
    gwtf_status status = open_setup(node, error);
    if (status == GWTF_OK)
        status = gwtf_bell_create(&node->bell);
    struct gwtf_memory_options options = memory_options(node);
    struct gwtf_memory_room room = {.free_bytes = node->charter->memory_bytes,
                                    .capacity = node->charter->capacity,
                                    .capacity_useful = node->charter->capacity_useful};
    if (status == GWTF_OK)
        status = find_useful(node, &room, error);
    if (status == GWTF_OK)
        room.retained_useful = gwtf_memory_useful_to_retain(&node->setup, node->stage);
    if (status == GWTF_OK)
        status = choose_memory(node, &options, &room, error);
    node->retained = options.retained;
    if (status == GWTF_OK)
        status = make_transport(node, error);
    if (status == GWTF_OK)
        status = make_memory(node, &options, error);
    if (status == GWTF_OK &&
        gwtf_writer_create(&node->setup, node->memory, node->bell, &node->writer) != GWTF_OK)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start the snapshot thread");
    if (status == GWTF_OK &&
        gwtf_compute_create(node->memory, node->bell, &node->compute) != GWTF_OK)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "cannot start the compute thread");
    if (status == GWTF_OK)
        status = make_crashes(node, error);
    if (status != GWTF_OK)
        return status;
    await_probe(node);
    status = make_door(node, error);
    if (status != GWTF_OK)
        return status;
    return node_make_protocol(node, node->charter->enters, error);
}

/* Says the end in the state file, directly: the writer has ended. */
static void write_last_state(struct node *node) {
    bool good = node->status == GWTF_OK || node->status == GWTF_ERROR_INTERRUPTED;
    bool left = node->leaves_now || (node->protocol && gwtf_protocol_get_view(node->protocol).left);
    node->state.phase = !good ? GWTF_NODE_FAILED : left ? GWTF_NODE_LEFT : GWTF_NODE_FINISHED;
    node->state.status = node->status;
    if (!good)
        snprintf(node->state.error, sizeof node->state.error, "%s", node->error->text);
    if (node->directory[0] != '\0')
        gwtf_run_write_node(node->directory, &node->state, NULL);
}

void node_unmake(struct node *node) {
    gwtf_compute_destroy(node->compute);
    gwtf_writer_destroy(node->writer);
    gwtf_door_destroy(node->door);
    free(node->members);
    write_last_state(node);
    gwtf_protocol_destroy(node->protocol);
    free(node->update.actions);
    free(node->lost);
    gwtf_heartbeat_destroy(node->heartbeat);
    gwtf_pidwatch_destroy(node->pidwatch);
    gwtf_network_destroy(node->network);
    gwtf_crashes_destroy(node->crashes);
    /* The transport's and the memory's buffers may still be with MPI: they go with the process. */
    gwtf_bell_destroy(node->bell);
    if (node->setup_open)
        gwtf_setup_close(&node->setup);
}
