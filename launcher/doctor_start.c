/* What starts processes: Open MPI, Slurm. */
#include "launcher/doctor.h"

#include "launcher/program.h"
#include "launcher/slurm.h"
#include "launcher/supervise.h"
#include "launcher/temporary.h"
#include "worker/runtime/clock.h"

#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_SECONDS_MOST 30

static void check_mpi(struct gwtf_doctor *doctor) {
    struct gwtf_error error = {""};
    if (gwtf_mpirun_find(&doctor->mpirun, &error) != GWTF_OK) {
        struct gwtf_doctor_finding *finding =
            gwtf_doctor_find(doctor, "mpi", GWTF_DOCTOR_ERROR, "%s", error.text);
        gwtf_doctor_advise(finding, "gwtf train --local needs no MPI");
        return;
    }
    doctor->has_mpirun = true;
    gwtf_doctor_find(doctor, "mpi", GWTF_DOCTOR_OK, "Open MPI %s, %s", doctor->mpirun.version,
                     doctor->mpirun.path);
    if (doctor->mpirun.ulfm)
        gwtf_doctor_find(doctor, "losses", GWTF_DOCTOR_OK,
                         "ULFM: a lost process is survived; after a lost node the run starts again "
                         "from its newest snapshot");
    else
        gwtf_doctor_find(doctor, "losses", GWTF_DOCTOR_OK,
                         "no ULFM, own heartbeats: a lost process and a lost node are survived");
}

static void check_programs(struct gwtf_doctor *doctor) {
    static const char *const names[] = {"gwtf-bootstrap", "gwtf-worker"};
    char self[sizeof doctor->self], path[sizeof self + 32];
    memcpy(self, doctor->self, sizeof self);
    const char *directory = dirname(self);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        if (access(path, X_OK) == 0)
            continue;
        struct gwtf_doctor_finding *finding =
            gwtf_doctor_find(doctor, "programs", GWTF_DOCTOR_ERROR, "'%s' is not there", path);
        gwtf_doctor_advise(finding, "build GWTF with MPI, or use --local");
        return;
    }
    gwtf_doctor_find(doctor, "programs", GWTF_DOCTOR_OK, "%s", directory);
}

/* Slurm's words about itself, without the line break; "" when it has none. */
static void ask(const char *const *arguments, char *text, size_t text_bytes) {
    if (gwtf_program_run(arguments, text, text_bytes) != 0)
        text[0] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

static void find_job(struct gwtf_doctor *doctor) {
    const struct gwtf_allocation *allocation = &doctor->job.allocation;
    for (uint32_t i = 0; i < allocation->components_count; i++) {
        const struct gwtf_allocation_component *part = &allocation->components[i];
        uint32_t slots = 0;
        for (uint32_t h = 0; h < allocation->hosts_count; h++)
            slots += allocation->hosts[h].component == i ? allocation->hosts[h].slots : 0;
        gwtf_doctor_find(doctor, "job", GWTF_DOCTOR_OK, "%s: partition %s, %s, %u processors",
                         part->job, part->partition, part->nodes, slots);
    }
    if (allocation->job[0] == '\0')
        gwtf_doctor_find(doctor, "job", GWTF_DOCTOR_OK, "none: this machine alone");
}

static void check_job(struct gwtf_doctor *doctor) {
    struct gwtf_error error = {""};
    if ((doctor->has_setup ? gwtf_job_open(&doctor->job, &doctor->setup, doctor->self, &error)
                           : gwtf_slurm_read(&doctor->job.allocation, &error)) == GWTF_OK) {
        find_job(doctor);
        doctor->job_is_good = true;
        return;
    }
    struct gwtf_doctor_finding *finding =
        gwtf_doctor_find(doctor, "job", GWTF_DOCTOR_ERROR, "%s", error.text);
    gwtf_doctor_advise(finding, "see docs/slurm.md");
}

static void check_slurm(struct gwtf_doctor *doctor) {
    static const char *const version[] = {"sbatch", "--version", NULL};
    static const char *const ping[] = {"sinfo", "-h", "-o", "%R", NULL};
    char text[512], partitions[512], path[4096];
    ask(version, text, sizeof text);
    if (text[0] == '\0') {
        gwtf_doctor_find(doctor, "slurm", GWTF_DOCTOR_OK, "%s",
                         gwtf_program_find("sbatch", path, sizeof path)
                             ? "installed, but not set up on this machine"
                             : "not installed");
    } else if (gwtf_program_run(ping, partitions, sizeof partitions) != 0) {
        struct gwtf_doctor_finding *finding = gwtf_doctor_find(doctor, "slurm", GWTF_DOCTOR_WARNING,
                                                               "%s, but it does not answer", text);
        gwtf_doctor_advise(finding, "nothing can be submitted from here: ask the cluster's people");
    } else {
        for (char *c = partitions; *c != '\0'; c++)
            if (*c == '\n')
                *c = c[1] == '\0' ? '\0' : ' ';
        gwtf_doctor_find(doctor, "slurm", GWTF_DOCTOR_OK, "%s, partitions: %s", text, partitions);
    }
    check_job(doctor);
    if (doctor->job.allocation.job[0] != '\0' && !gwtf_program_find("srun", path, sizeof path)) {
        struct gwtf_doctor_finding *finding =
            gwtf_doctor_find(doctor, "srun", GWTF_DOCTOR_ERROR, "srun is not in PATH");
        gwtf_doctor_advise(finding, "it starts the daemons on the job's nodes: add it to PATH");
    }
}

/* Gwtf starts Open MPI's daemons by srun, without a PMI of Slurm's. */
static void check_pmix(struct gwtf_doctor *doctor) {
    static const char *const list[] = {"srun", "--mpi=list", NULL};
    char text[1024];
    if (gwtf_program_run(list, text, sizeof text) != 0)
        return;
    gwtf_doctor_find(doctor, "pmix", GWTF_DOCTOR_OK,
                     "Slurm's srun %s it; gwtf does not need that: mpirun brings its own",
                     strstr(text, "pmix") != NULL ? "has" : "does not have");
}

/* The command that a run would begin with, around a program that does nothing. */
static int try_mpirun(struct gwtf_doctor *doctor, const char *temporary, char *text,
                      size_t text_bytes) {
    char hosts[GWTF_TEMPORARY_MAX + 16], agent[sizeof doctor->job.agent];
    char limit[16];
    struct gwtf_mpirun_command command;
    struct gwtf_mpirun_job job = {
        .bootstrap = "/bin/true", .config = "nothing", .snapshot = "", .one_host = true};
    gwtf_job_describe(&doctor->job, &job);
    snprintf(agent, sizeof agent, "%s node-agent", doctor->self);
    snprintf(hosts, sizeof hosts, "%s/hosts", temporary);
    if (doctor->job.allocation.hosts_count > 0) {
        if (gwtf_allocation_write(temporary, &doctor->job.allocation, NULL) != GWTF_OK)
            return 1;
        job.one_host = doctor->job.allocation.hosts_count == 1;
        job.host_file = hosts;
        job.agent = agent;
    }
    gwtf_mpirun_build(&doctor->mpirun, &job, &command);
    gwtf_mpirun_set_environment(temporary);
    setenv(GWTF_SUPERVISE_RUN_VARIABLE, temporary, 1);
    const char *arguments[GWTF_MPIRUN_ARGUMENTS_MAX + 8] = {"timeout", "-k", "2", limit};
    snprintf(limit, sizeof limit, "%d", START_SECONDS_MOST);
    memcpy(arguments + 4, command.arguments, sizeof command.arguments);
    return gwtf_program_run(arguments, text, text_bytes);
}

static void check_mpirun(struct gwtf_doctor *doctor) {
    struct gwtf_temporary temporary;
    char text[2048];
    struct gwtf_error error = {""};
    const char *given = getenv("TMPDIR");
    if (gwtf_temporary_make(&temporary, &error) != GWTF_OK) {
        gwtf_doctor_advise(
            gwtf_doctor_find(doctor, "temporary", GWTF_DOCTOR_ERROR, "%s", error.text),
            "it must be a directory of each node's own, with a short path");
        return;
    }
    gwtf_doctor_find(doctor, "temporary", GWTF_DOCTOR_OK, "%s%s", temporary.path,
                     given != NULL && strlen(given) > 40
                         ? ": TMPDIR is too long a path for sockets, so not there"
                         : "");
    if (!doctor->has_mpirun || !doctor->job_is_good) {
        gwtf_temporary_remove(&temporary);
        return;
    }
    gwtf_time_us start_us = gwtf_clock_now_us();
    int code = try_mpirun(doctor, temporary.path, text, sizeof text);
    double seconds = (double)(gwtf_clock_now_us() - start_us) * 1e-6;
    gwtf_temporary_remove(&temporary);
    if (code == 0) {
        gwtf_doctor_find(
            doctor, "mpirun", GWTF_DOCTOR_OK, "reaches %u node(s) and starts a process, in %.1f s",
            doctor->job.allocation.hosts_count > 0 ? doctor->job.allocation.hosts_count : 1,
            seconds);
        return;
    }
    text[strcspn(text, "\n")] = '\0';
    struct gwtf_doctor_finding *finding = gwtf_doctor_find(
        doctor, "mpirun", GWTF_DOCTOR_ERROR, "it cannot start a process (exit code %d): %.200s",
        code, code == 124 ? "it does not come to an end" : text);
    gwtf_doctor_advise(finding, "%s",
                       doctor->job.allocation.hosts_count > 1
                           ? "can the nodes reach each other by TCP? See `network`, and name the "
                             "right interfaces by GWTF_INTERFACES"
                           : "try `mpirun -n 1 true`; is its module loaded?");
}

void gwtf_doctor_check_start(struct gwtf_doctor *doctor) {
    check_mpi(doctor);
    check_programs(doctor);
    check_slurm(doctor);
    check_pmix(doctor);
    check_mpirun(doctor);
}
