/*
 * gwtf-bootstrap: the one process that mpirun starts. Checks everything that can be checked before
 * a node is touched, spawns the workers, hands each its charter, and from then on only watches: it
 * may be killed, training goes on.
 */
#include "io/join.h"
#include "io/run.h"
#include "share/base/log.h"
#include "worker/runtime/charter.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/network.h"
#include "worker/runtime/setup.h"
#include "worker/runtime/spread.h"

#include <getopt.h>
#include <libgen.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* Workers on slow file systems take their time to load libraries. */
#define ARRIVAL_WAIT_US 180000000
#define SPAWN_WAIT_S 240
#define CHARTER_WAIT_US 60000000

struct bootstrap {
    struct gwtf_setup setup;
    struct gwtf_allocation allocation; /* of the job that this runs in, or empty */
    char *topology;                    /* text, of the emulated network; NULL: none */
    char worker[4096];
    const char *config_path;
    const char *snapshot; /* "" for fresh weights */
    uint32_t first_iteration;
    uint32_t count; /* workers */
    struct gwtf_placement *placements;
    struct gwtf_arrived *arrived; /* by rank */
    uint32_t *node_of_rank;
    MPI_Comm workers;
};

static void nap(void) {
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static gwtf_status parse_options(int argc, char **argv, struct bootstrap *bootstrap,
                                 struct gwtf_error *error) {
    static const struct option options[] = {
        {"snapshot", required_argument, NULL, 's'}, {"first", required_argument, NULL, 'f'}, {0}};
    int option;
    bootstrap->snapshot = "";
    bootstrap->first_iteration = 1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            bootstrap->snapshot = optarg;
        else if (option == 'f')
            bootstrap->first_iteration = (uint32_t)strtoul(optarg, NULL, 10);
        else
            return gwtf_error_set(error, GWTF_ERROR_USAGE,
                                  "gwtf-bootstrap is started by `gwtf train`: run that");
    }
    /* Mpirun says it; Slurm's srun does not, and its PMIx cannot spawn. */
    if (getenv("OMPI_COMM_WORLD_SIZE") == NULL && getenv("SLURM_STEP_ID") != NULL)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "srun cannot start gwtf-bootstrap, as Slurm's PMIx does not spawn "
                              "workers: run `gwtf train` in the batch script, which needs no ssh");
    if (optind != argc - 1)
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "gwtf-bootstrap is started by `gwtf train`: run that");
    bootstrap->config_path = argv[optind];
    return GWTF_OK;
}

/* The worker stands beside this program. */
static gwtf_status find_worker(struct bootstrap *bootstrap, struct gwtf_error *error) {
    char self[3072];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0)
        return gwtf_error_set(error, GWTF_ERROR_IO,
                              "cannot read /proc/self/exe: is /proc mounted?");
    self[length] = '\0';
    snprintf(bootstrap->worker, sizeof bootstrap->worker, "%s/gwtf-worker", dirname(self));
    if (access(bootstrap->worker, X_OK) != 0)
        return gwtf_error_set(error, GWTF_ERROR_MISSING,
                              "'%s' is not there: build GWTF again with MPI", bootstrap->worker);
    return GWTF_OK;
}

static gwtf_status prepare(struct bootstrap *bootstrap, struct gwtf_error *error) {
    struct gwtf_config *config = calloc(1, sizeof *config);
    if (config == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    gwtf_status status = gwtf_config_load(bootstrap->config_path, NULL, 0, config, error);
    if (status == GWTF_OK)
        status = gwtf_setup_open(config, &bootstrap->setup, error);
    free(config);
    if (status == GWTF_OK)
        status = gwtf_setup_place(&bootstrap->setup, &bootstrap->placements, error);
    if (status == GWTF_OK)
        status = gwtf_network_read(&bootstrap->setup, &bootstrap->topology, error);
    if (status == GWTF_OK)
        status = find_worker(bootstrap, error);
    if (status != GWTF_OK)
        return status;
    bootstrap->count = bootstrap->setup.data_nodes + bootstrap->setup.relays;
    status =
        gwtf_allocation_read(bootstrap->setup.config.run.directory, &bootstrap->allocation, error);
    if (status == GWTF_OK)
        status =
            gwtf_spread(&bootstrap->allocation, bootstrap->placements, bootstrap->count, error);
    if (status != GWTF_OK)
        return status;
    bootstrap->arrived = calloc(bootstrap->count, sizeof *bootstrap->arrived);
    bootstrap->node_of_rank = calloc(bootstrap->count, sizeof *bootstrap->node_of_rank);
    if (bootstrap->arrived == NULL || bootstrap->node_of_rank == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    return GWTF_OK;
}

/* One entry of the spawn: workers on one host. */
struct entry {
    const char *host;
    int count;
};

/* Workers host by host, in the order in which the configuration names the hosts. Returns how many
 * entries. */
static int group_by_host(const struct bootstrap *bootstrap, struct entry *entries) {
    int used = 0;
    for (uint32_t i = 0; i < bootstrap->count; i++) {
        int at = 0;
        while (at < used && strcmp(entries[at].host, bootstrap->placements[i].host) != 0)
            at++;
        if (at == used)
            entries[used++] = (struct entry){.host = bootstrap->placements[i].host};
        entries[at].count++;
    }
    return used;
}

static bool spawns_one_entry_only(void) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length, major = 0;
    MPI_Get_library_version(version, &length);
    /* Open MPI 5.0's mpirun dies of a segmentation fault when a spawn has more than one entry. */
    return sscanf(version, "Open MPI v%d", &major) == 1 && major >= 5;
}

/* "a:2,b:4": one entry for all hosts. */
static void join_hosts(const struct entry *entries, int count, char *list, size_t list_bytes) {
    size_t used = 0;
    list[0] = '\0';
    for (int i = 0; i < count && used < list_bytes; i++)
        if (entries[i].host[0] != '\0')
            used += (size_t)snprintf(list + used, list_bytes - used, "%s%s:%d", used > 0 ? "," : "",
                                     entries[i].host, entries[i].count);
}

/* By slots: Open MPI 5.0 would start all workers on the first of several hosts otherwise, since it
 * may give a host more than it has slots. */
static MPI_Info host_info(const char *host, bool by_slots) {
    MPI_Info info = MPI_INFO_NULL;
    if (host[0] != '\0') {
        MPI_Info_create(&info);
        MPI_Info_set(info, "host", host);
        if (by_slots) {
            MPI_Info_set(info, "map_by", "slot");
            MPI_Info_set(info, "bind_to", "none");
        }
    }
    return info;
}

static gwtf_status spawn(struct bootstrap *bootstrap, struct gwtf_error *error) {
    struct entry *entries = calloc(bootstrap->count, sizeof *entries);
    char **commands = calloc(bootstrap->count, sizeof *commands);
    int *counts = calloc(bootstrap->count, sizeof *counts),
        *codes = calloc(bootstrap->count, sizeof *codes);
    MPI_Info *infos = calloc(bootstrap->count, sizeof(MPI_Info));
    size_t list_bytes = bootstrap->count * (GWTF_CONFIG_PATH_MAX + 12u);
    char *list = calloc(1, list_bytes);
    gwtf_status status = GWTF_OK;
    if (entries == NULL || commands == NULL || counts == NULL || codes == NULL || infos == NULL ||
        list == NULL) {
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    } else {
        int used = group_by_host(bootstrap, entries);
        join_hosts(entries, used, list, list_bytes);
        bool merge = used > 1 && spawns_one_entry_only();
        int made = merge ? 1 : used;
        for (int i = 0; i < made; i++) {
            commands[i] = bootstrap->worker;
            counts[i] = merge ? (int)bootstrap->count : entries[i].count;
            infos[i] = host_info(merge ? list : entries[i].host, merge);
        }
        int result = MPI_Comm_spawn_multiple(made, commands, MPI_ARGVS_NULL, counts, infos, 0,
                                             MPI_COMM_SELF, &bootstrap->workers, codes);
        if (result != MPI_SUCCESS && merge) { /* a resource manager has fewer slots there */
            infos[0] = host_info(list, false);
            result = MPI_Comm_spawn_multiple(made, commands, MPI_ARGVS_NULL, counts, infos, 0,
                                             MPI_COMM_SELF, &bootstrap->workers, codes);
        }
        if (result != MPI_SUCCESS)
            status = gwtf_error_set(
                error, GWTF_ERROR_RUN,
                "mpirun could not start %u workers: check the hosts in `nodes` and the run's log",
                bootstrap->count);
        else
            MPI_Comm_set_errhandler(bootstrap->workers, MPI_ERRORS_RETURN);
    }
    free(entries);
    free(commands);
    free(counts);
    free(codes);
    free(infos);
    free(list);
    return status;
}

static gwtf_status await_arrivals(struct bootstrap *bootstrap, struct gwtf_error *error) {
    gwtf_time_us start_us = gwtf_clock_now_us();
    for (uint32_t got = 0; got < bootstrap->count;) {
        int present = 0;
        MPI_Status status;
        MPI_Iprobe(MPI_ANY_SOURCE, GWTF_TAG_ARRIVED, bootstrap->workers, &present, &status);
        if (present) {
            struct gwtf_arrived *arrived = &bootstrap->arrived[status.MPI_SOURCE];
            MPI_Recv(arrived, (int)sizeof *arrived, MPI_BYTE, status.MPI_SOURCE, GWTF_TAG_ARRIVED,
                     bootstrap->workers, MPI_STATUS_IGNORE);
            arrived->host[sizeof arrived->host - 1] = '\0';
            got++;
        } else if (gwtf_clock_now_us() - start_us > ARRIVAL_WAIT_US) {
            return gwtf_error_set(error, GWTF_ERROR_RUN,
                                  "%u of %u workers did not come up: see the run's log",
                                  bootstrap->count - got, bootstrap->count);
        } else {
            nap();
        }
    }
    return GWTF_OK;
}

static uint32_t take_rank(const struct bootstrap *bootstrap, bool *taken, const char *host) {
    uint32_t first_free = bootstrap->count;
    for (uint32_t rank = 0; rank < bootstrap->count; rank++) {
        if (taken[rank])
            continue;
        if (host[0] != '\0' && gwtf_spread_same_host(host, bootstrap->arrived[rank].host))
            return rank;
        if (first_free == bootstrap->count)
            first_free = rank;
    }
    return first_free;
}

/* Gives each node a worker: those that wish for a host first. */
static gwtf_status assign_ranks(struct bootstrap *bootstrap, struct gwtf_charter_member *members,
                                struct gwtf_error *error) {
    bool *taken = calloc(bootstrap->count, sizeof *taken);
    if (taken == NULL)
        return gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < bootstrap->count; i++) {
            const struct gwtf_placement *placement = &bootstrap->placements[i];
            if ((placement->host[0] == '\0') != (pass == 1))
                continue;
            uint32_t rank = take_rank(bootstrap, taken, placement->host);
            taken[rank] = true;
            bootstrap->node_of_rank[rank] = placement->node;
            members[i] = (struct gwtf_charter_member){
                .node = placement->node, .stage = placement->stage, .rank = (int32_t)rank};
        }
    free(taken);
    return GWTF_OK;
}

static uint32_t workers_on(const struct bootstrap *bootstrap, const char *host) {
    uint32_t count = 0;
    for (uint32_t rank = 0; rank < bootstrap->count; rank++)
        count += strcmp(bootstrap->arrived[rank].host, host) == 0;
    return count;
}

static gwtf_status send_charter(const struct bootstrap *bootstrap,
                                const struct gwtf_charter *charter, int rank) {
    void *bytes = NULL;
    size_t size_bytes;
    MPI_Request request;
    int done = 0;
    gwtf_status status = gwtf_charter_pack(charter, &bytes, &size_bytes);
    if (status != GWTF_OK)
        return status;
    gwtf_time_us start_us = gwtf_clock_now_us();
    if (MPI_Isend(bytes, (int)size_bytes, MPI_BYTE, rank, GWTF_TAG_CHARTER, bootstrap->workers,
                  &request) != MPI_SUCCESS)
        done = -1;
    while (done == 0) {
        if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS ||
            gwtf_clock_now_us() - start_us > CHARTER_WAIT_US)
            done = -1;
        else if (!done)
            nap();
    }
    if (done == 1)
        free(bytes); /* else MPI may still read it */
    return done == 1 ? GWTF_OK : GWTF_ERROR_PEER;
}

/* Workers of one host watch each other's processes. */
static void name_neighbours(const struct bootstrap *bootstrap, struct gwtf_charter_member *members,
                            const char *host) {
    for (uint32_t i = 0; i < bootstrap->count; i++) {
        const struct gwtf_arrived *arrived = &bootstrap->arrived[members[i].rank];
        members[i].pid = strcmp(arrived->host, host) == 0 ? arrived->pid : 0;
    }
}

/* Behind those that are spawned. */
static void add_places(const struct bootstrap *bootstrap, struct gwtf_charter_member *members) {
    for (uint32_t i = bootstrap->count; i < bootstrap->count + bootstrap->setup.places; i++)
        members[i] = (struct gwtf_charter_member){.node = bootstrap->placements[i].node,
                                                  .stage = bootstrap->placements[i].stage,
                                                  .rank = -1};
}

/* For those that join later: nobody's ranks and processes are theirs. */
static gwtf_status publish_charter(const struct bootstrap *bootstrap,
                                   const struct gwtf_charter *charter, struct gwtf_error *error) {
    struct gwtf_charter published = *charter;
    const char *directory = bootstrap->setup.config.run.directory;
    void *bytes = NULL;
    size_t size_bytes;
    if (bootstrap->setup.places == 0)
        return GWTF_OK;
    for (uint32_t i = 0; i < published.members_count; i++) {
        published.members[i].rank = -1;
        published.members[i].pid = 0;
    }
    published.self = GWTF_NODE_NONE;
    gwtf_status status = GWTF_OK;
    if (gwtf_charter_pack(&published, &bytes, &size_bytes) != GWTF_OK)
        status = gwtf_error_set(error, GWTF_ERROR_MEMORY, "out of memory");
    if (status == GWTF_OK)
        status = gwtf_join_write_charter(directory, bytes, size_bytes, error);
    free(bytes);
    return status;
}

static gwtf_status send_charters(struct bootstrap *bootstrap, struct gwtf_error *error) {
    const struct gwtf_config *config = &bootstrap->setup.config;
    struct gwtf_charter charter = {
        .incarnation = (uint32_t)time(NULL),
        .first_iteration = bootstrap->first_iteration,
        .members_count = bootstrap->count + bootstrap->setup.places,
        .first_place = bootstrap->count,
    };
    snprintf(charter.snapshot, sizeof charter.snapshot, "%s", bootstrap->snapshot);
    charter.members = calloc(charter.members_count, sizeof *charter.members);
    charter.topology = strdup(bootstrap->topology != NULL ? bootstrap->topology : "");
    gwtf_status status = GWTF_ERROR_MEMORY;
    if (charter.members != NULL && charter.topology != NULL &&
        gwtf_config_text(config, &charter.config) == GWTF_OK)
        status = assign_ranks(bootstrap, charter.members, error);
    else
        gwtf_error_set(error, status, "out of memory");
    if (status == GWTF_OK)
        add_places(bootstrap, charter.members);
    if (status == GWTF_OK) {
        charter.config_bytes = strlen(charter.config) + 1;
        charter.topology_bytes = strlen(charter.topology) + 1;
    }
    for (uint32_t i = 0; i < bootstrap->count && status == GWTF_OK; i++) {
        const struct gwtf_arrived *arrived = &bootstrap->arrived[charter.members[i].rank];
        uint32_t workers = workers_on(bootstrap, arrived->host), threads = arrived->cores / workers;
        charter.self = charter.members[i].node;
        name_neighbours(bootstrap, charter.members, arrived->host);
        charter.memory_bytes = arrived->free_bytes / workers;
        charter.threads = config->backend.threads != 0 ? config->backend.threads
                          : threads > 0                ? threads
                                                       : 1;
        charter.capacity = bootstrap->placements[i].capacity;
        charter.capacity_useful = bootstrap->placements[i].capacity_useful;
        status = send_charter(bootstrap, &charter, charter.members[i].rank);
        if (status != GWTF_OK)
            gwtf_error_set(error, status, "node %u on %s took no charter: check that host",
                           charter.self, arrived->host);
    }
    if (status == GWTF_OK)
        status = publish_charter(bootstrap, &charter, error);
    gwtf_charter_deinit(&charter);
    return status;
}

/* Until the last worker has said how it ended. A worker that dies says nothing: `gwtf train`
 * notices and ends mpirun. */
static gwtf_status watch(struct bootstrap *bootstrap) {
    gwtf_status worst = GWTF_OK;
    for (uint32_t left = 0; left < bootstrap->count;) {
        int present = 0;
        MPI_Status status;
        if (MPI_Iprobe(MPI_ANY_SOURCE, GWTF_TAG_LEFT, bootstrap->workers, &present, &status) !=
                MPI_SUCCESS ||
            !present) {
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
            continue;
        }
        uint32_t word = 0;
        MPI_Recv(&word, (int)sizeof word, MPI_BYTE, status.MPI_SOURCE, GWTF_TAG_LEFT,
                 bootstrap->workers, MPI_STATUS_IGNORE);
        left++;
        if (word != GWTF_OK && word != GWTF_ERROR_INTERRUPTED)
            worst = (gwtf_status)word;
    }
    return worst;
}

/* A spawn whose workers die before they have met never returns. */
static void on_alarm(int number) {
    static const char words[] =
        "gwtf: the workers did not come up: see the run's log; are the hosts in `nodes` "
        "reachable from each other?\n";
    (void)number;
    ssize_t written = write(STDERR_FILENO, words, sizeof words - 1);
    (void)written;
    _exit(1);
}

int main(int argc, char **argv) {
    struct bootstrap *bootstrap = calloc(1, sizeof *bootstrap);
    struct gwtf_error error = {""};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getenv("SLURM_JOB_ID") != NULL) {
        signal(SIGTERM, SIG_IGN); /* as the workers do */
        signal(SIGUSR1, SIG_IGN);
    }
    if (bootstrap == NULL)
        return 1;
    gwtf_status status = parse_options(argc, argv, bootstrap, &error);
    if (status == GWTF_OK)
        status = prepare(bootstrap, &error);
    if (status != GWTF_OK) {
        gwtf_log(GWTF_LOG_ERROR, "%s", error.text);
        return gwtf_status_exit_code(status);
    }
    MPI_Init(NULL, NULL);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    signal(SIGALRM, on_alarm);
    alarm(SPAWN_WAIT_S);
    status = spawn(bootstrap, &error);
    alarm(0);
    if (status == GWTF_OK)
        status = await_arrivals(bootstrap, &error);
    if (status == GWTF_OK)
        status = send_charters(bootstrap, &error);
    if (status == GWTF_OK)
        status = watch(bootstrap);
    else
        gwtf_log(GWTF_LOG_ERROR, "%s", error.text);
    fflush(NULL);
    /* Not MPI_Finalize: it waits for all that were ever connected, dead workers too. */
    _exit(gwtf_status_exit_code(status));
}
