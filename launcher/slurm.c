#include "launcher/slurm.h"

#include "launcher/program.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

uint32_t gwtf_slurm_cpus(const char *text, uint32_t index) {
    while (*text != '\0') {
        char *end;
        unsigned long cpus = strtoul(text, &end, 10), times = 1;
        if (end == text)
            return 1;
        if (strncmp(end, "(x", 2) == 0)
            times = strtoul(end + 2, &end, 10);
        if (index < times)
            return cpus > 0 ? (uint32_t)cpus : 1;
        index -= (uint32_t)times;
        text = end + strspn(end, "),");
    }
    return 1;
}

/* Up to three numbers with colons between them; 0 when TEXT is something else. */
static int read_numbers(const char *text, long numbers[3]) {
    int count = 0;
    while (count < 3 && isdigit((unsigned char)*text) && strspn(text, "0123456789") < 10) {
        char *end;
        numbers[count++] = strtol(text, &end, 10);
        if (*end == '\0')
            return count;
        if (*end != ':')
            return 0;
        text = end + 1;
    }
    return 0;
}

bool gwtf_slurm_seconds(const char *text, long *seconds) {
    static const char *const unlimited[] = {"infinite", "unlimited"};
    for (size_t i = 0; i < sizeof unlimited / sizeof unlimited[0]; i++)
        if (strcasecmp(text, unlimited[i]) == 0) {
            *seconds = GWTF_SLURM_UNLIMITED;
            return true;
        }
    long numbers[3] = {0}, days = 0;
    const char *dash = strchr(text, '-');
    if (dash != NULL) {
        size_t digits = strspn(text, "0123456789");
        if (digits == 0 || digits > 6 || text + digits != dash)
            return false;
        days = strtol(text, NULL, 10);
    }
    int count = read_numbers(dash != NULL ? dash + 1 : text, numbers);
    if (count == 0)
        return false;
    long unit = dash != NULL || count == 3 ? 3600 : 60;
    *seconds = 86400 * days;
    for (int i = 0; i < count; i++, unit /= 60)
        *seconds += numbers[i] * unit;
    if (*seconds == 0)
        *seconds = GWTF_SLURM_UNLIMITED;
    return true;
}

/* The variable NAME of component COMPONENT of a heterogeneous job, or of the job when it is none;
 * "" when it is not set. */
static const char *variable(const char *name, int component) {
    char full[128];
    if (component < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "%s_HET_GROUP_%d", name, component);
    const char *text = getenv(full);
    return text == NULL ? "" : text;
}

/* COMPONENT: below 0 for a job that is not heterogeneous. */
static gwtf_status add_component(struct gwtf_allocation *allocation, int component,
                                 struct gwtf_error *error) {
    static char hosts[1 << 18];
    uint32_t number = allocation->components_count++;
    struct gwtf_allocation_component *part = &allocation->components[number];
    snprintf(part->job, sizeof part->job, "%s", variable("SLURM_JOB_ID", component));
    snprintf(part->partition, sizeof part->partition, "%s",
             variable("SLURM_JOB_PARTITION", component));
    const char *nodes = variable("SLURM_JOB_NODELIST", component);
    snprintf(part->nodes, sizeof part->nodes, "%s", nodes);
    const char *command[] = {"scontrol", "show", "hostnames", nodes, NULL};
    if (gwtf_program_run(command, hosts, sizeof hosts) != 0)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "scontrol cannot list the nodes '%s' of job %s (%.200s): is Slurm's "
                              "scontrol in PATH on this node?",
                              nodes, part->job, hosts);
    char *rest = NULL;
    uint32_t index = 0;
    gwtf_status status = GWTF_OK;
    for (char *host = strtok_r(hosts, "\n", &rest); host != NULL && status == GWTF_OK;
         host = strtok_r(NULL, "\n", &rest), index++)
        status = gwtf_allocation_add(
            allocation, host,
            gwtf_slurm_cpus(variable("SLURM_JOB_CPUS_PER_NODE", component), index), number, error);
    return status;
}

/* In a step, which keeps its processors from the steps of Open MPI's daemons. The batch script and
 * the shell of salloc are in none, or in one with a number of these. */
static bool is_in_step(void) {
    static const unsigned long special = 0xfffffff0;
    const char *step = getenv("SLURM_STEP_ID");
    return step != NULL && strtoul(step, NULL, 10) < special;
}

gwtf_status gwtf_slurm_read(struct gwtf_allocation *allocation, struct gwtf_error *error) {
    memset(allocation, 0, sizeof *allocation);
    const char *size = getenv("SLURM_HET_SIZE"), *job = variable("SLURM_JOB_ID", -1);
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    int components = size == NULL ? 0 : atoi(size);
    if (job[0] == '\0' || (components == 0 && variable("SLURM_JOB_NODELIST", -1)[0] == '\0'))
        return GWTF_OK;
    if (is_in_step())
        return gwtf_error_set(error, GWTF_ERROR_USAGE,
                              "srun has started this, %s time(s): run gwtf without srun, in the "
                              "batch script or under salloc; it uses all nodes by itself",
                              tasks != NULL ? tasks : "1");
    if (components > GWTF_ALLOCATION_COMPONENTS_MAX)
        return gwtf_error_set(error, GWTF_ERROR_LIMIT,
                              "the job has %d components, more than %d: ask for fewer", components,
                              GWTF_ALLOCATION_COMPONENTS_MAX);
    snprintf(allocation->job, sizeof allocation->job, "%s", job);
    gwtf_status status = GWTF_OK;
    if (components == 0)
        status = add_component(allocation, -1, error);
    for (int i = 0; i < components && status == GWTF_OK; i++)
        status = add_component(allocation, i, error);
    if (status != GWTF_OK)
        gwtf_allocation_deinit(allocation);
    return status;
}

bool gwtf_slurm_requeue(const char *job, char *why, size_t why_bytes) {
    char text[4096];
    const char *ask[] = {"squeue", "-h", "-j", job, "-o", "%T", NULL};
    const char *requeue[] = {"scontrol", "requeue", job, NULL};
    if (gwtf_program_run(ask, text, sizeof text) != 0 || strncmp(text, "RUNNING", 7) != 0) {
        text[strcspn(text, "\n")] = '\0';
        snprintf(why, why_bytes, "its state is %.100s", text);
        return false;
    }
    if (gwtf_program_run(requeue, text, sizeof text) == 0)
        return true;
    text[strcspn(text, "\n")] = '\0';
    snprintf(why, why_bytes, "scontrol says: %.200s", text);
    return false;
}
