/* gwtf-worker: spawned by the bootstrap or started by `gwtf join`, never by hand. */
#include "io/join.h"
#include "share/base/log.h"
#include "worker/runtime/charter.h"
#include "worker/runtime/clock.h"
#include "worker/runtime/joiner.h"
#include "worker/runtime/machine.h"
#include "worker/runtime/node.h"
#include "worker/runtime/notice.h"
#include "worker/runtime/strays.h"

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* The bootstrap answers at once or is dead. */
#define CHARTER_WAIT_US 120000000
#define FAREWELL_WAIT_US 1000000

static void nap(void) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* True when REQUEST is done before the time is over. */
static bool await_request(MPI_Request *request, gwtf_time_us wait_us) {
    gwtf_time_us start_us = gwtf_clock_now_us();
    int done = 0;
    while (MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done) {
        if (gwtf_clock_now_us() - start_us > wait_us)
            return false;
        nap();
    }
    return done != 0;
}

static gwtf_status receive_charter(MPI_Comm parent, struct gwtf_charter *charter) {
    int present = 0, bytes = 0;
    MPI_Status status;
    gwtf_time_us start_us = gwtf_clock_now_us();
    while (MPI_Iprobe(0, GWTF_TAG_CHARTER, parent, &present, &status) == MPI_SUCCESS && !present) {
        if (gwtf_clock_now_us() - start_us > CHARTER_WAIT_US)
            return GWTF_ERROR_PEER;
        nap();
    }
    if (!present)
        return GWTF_ERROR_PEER;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    void *packed = malloc((size_t)bytes);
    if (packed == NULL)
        return GWTF_ERROR_MEMORY;
    gwtf_status result = GWTF_ERROR_PEER;
    if (MPI_Recv(packed, bytes, MPI_BYTE, 0, GWTF_TAG_CHARTER, parent, MPI_STATUS_IGNORE) ==
        MPI_SUCCESS)
        result = gwtf_charter_unpack(packed, (size_t)bytes, charter);
    free(packed);
    return result;
}

static struct gwtf_arrived describe_self(void) {
    struct gwtf_arrived arrived;
    memset(&arrived, 0, sizeof arrived);
    gwtf_machine_name(arrived.host, sizeof arrived.host);
    arrived.pid = getpid();
    arrived.cores = gwtf_machine_cores();
    arrived.free_bytes = gwtf_machine_free_bytes();
    return arrived;
}

static void shield(void) {
    /* When mpirun or its daemon dies, so does what it started: no worker is left behind. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (getenv("SLURM_JOB_ID") == NULL) {
        gwtf_notice_watch();
        return;
    }
    /* A batch system that wants the machine back tells all processes of the job. The run is
     * stopped as a whole then (launcher/agent.c), and a snapshot comes first. */
    signal(SIGTERM, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
}

static gwtf_status live(const struct gwtf_node_options *options, struct gwtf_error *error) {
    char name[64];
    snprintf(name, sizeof name, "gwtf: node %u", options->charter->self);
    gwtf_log_set_name(name);
    gwtf_status status = gwtf_node_live(options, error);
    if (status != GWTF_OK && status != GWTF_ERROR_INTERRUPTED)
        gwtf_log(GWTF_LOG_ERROR, "%s", error->text);
    return status;
}

/* One that the bootstrap has spawned. */
static void live_as_spawned(MPI_Comm parent) {
    struct gwtf_arrived arrived = describe_self();
    struct gwtf_charter charter;
    struct gwtf_error error = {""};
    MPI_Request request;
    MPI_Isend(&arrived, (int)sizeof arrived, MPI_BYTE, 0, GWTF_TAG_ARRIVED, parent, &request);
    gwtf_status status = receive_charter(parent, &charter);
    if (status != GWTF_OK) {
        gwtf_log(GWTF_LOG_ERROR, "no charter came from the bootstrap (%s): start again",
                 gwtf_status_name(status));
        return;
    }
    struct gwtf_node_options options = {.charter = &charter, .host = arrived.host};
    status = live(&options, &error);
    uint32_t word = (uint32_t)status;
    if (MPI_Isend(&word, (int)sizeof word, MPI_BYTE, 0, GWTF_TAG_LEFT, parent, &request) ==
        MPI_SUCCESS)
        await_request(&request, FAREWELL_WAIT_US);
}

/* Words that a process gets that is to join. */
#define JOINED_WORDS 8

/* One that joins a run: the words after the program's name are DIRECTORY STAGE CAPACITY THREADS
 * stays|moves TOKEN DATA DEVICE, as `gwtf join` or the node that spawns it writes them. */
static gwtf_status live_as_joined(char **words, bool spawned, struct gwtf_error *error) {
    struct gwtf_joiner_options options = {.directory = words[0],
                                          .stage = (uint32_t)strtoul(words[1], NULL, 10),
                                          .capacity = (uint32_t)strtoul(words[2], NULL, 10),
                                          .threads = (uint32_t)strtoul(words[3], NULL, 10),
                                          .stays = strcmp(words[4], "stays") == 0,
                                          .token = words[5],
                                          .data = words[6]};
    if (!gwtf_config_read_device(words[7], &options.device))
        return gwtf_error_set(error, GWTF_ERROR_USAGE, "'%s' is no device: auto, cpu or cuda",
                              words[7]);
    struct gwtf_charter charter;
    MPI_Comm *worlds = NULL;
    if (spawned) /* whoever asked for it reads files; what is printed goes to the run's log */
        gwtf_log_set_level(GWTF_LOG_WARNING);
    gwtf_status status = gwtf_joiner_enter(&options, &charter, &worlds, error);
    if (status != GWTF_OK) {
        /* To the run that one of its nodes has spawned it for, it is no error. */
        gwtf_log(spawned ? GWTF_LOG_WARNING : GWTF_LOG_ERROR, "%s", error->text);
        return status;
    }
    struct gwtf_arrived arrived = describe_self();
    struct gwtf_node_options life = {.charter = &charter,
                                     .host = arrived.host,
                                     .worlds = worlds,
                                     .token = options.token,
                                     .own_data = gwtf_joiner_own_data(&options),
                                     .device = options.device};
    status = live(&life, error);
    gwtf_join_remove_member(options.directory, options.token);
    return status == GWTF_ERROR_INTERRUPTED ? GWTF_OK : status;
}

int main(int argc, char **argv) {
    shield();
    if (getenv("OMPI_COMM_WORLD_SIZE") == NULL && getenv("SLURM_STEP_ID") != NULL) {
        gwtf_log(GWTF_LOG_ERROR, "srun cannot start gwtf-worker: run `gwtf train` in the batch "
                                 "script, which starts it on all nodes and needs no ssh");
        return 2;
    }
    int provided;
    MPI_Comm parent = MPI_COMM_NULL;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    gwtf_strays_bound_loop();
    gwtf_strays_keep_looking();
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL)
        MPI_Comm_set_errhandler(parent, MPI_ERRORS_RETURN);
    if (argc == 1 + JOINED_WORDS) {
        struct gwtf_error error = {""};
        gwtf_status status = live_as_joined(argv + 1, parent != MPI_COMM_NULL, &error);
        gwtf_join_write_end(argv[1], argv[6], gwtf_status_exit_code(status),
                            status == GWTF_OK ? "" : error.text);
    } else if (parent != MPI_COMM_NULL) {
        live_as_spawned(parent);
    } else {
        gwtf_log(GWTF_LOG_ERROR, "gwtf-worker is started by `gwtf train` or `gwtf join`: run that");
        return 2;
    }
    /* MPI_Finalize waits for all that were ever connected, dead ones too. And a code other than 0
     * makes mpirun end the others: how it went stands in a file. */
    fflush(NULL);
    _exit(0);
}
