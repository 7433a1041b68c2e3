#include "worker/runtime/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUP_PATH_MAX 4096

/* The number in a one-line file such as the control group's, UINT64_MAX when there is none or it
 * says "max". */
static uint64_t read_number(const char *path) {
    unsigned long long value = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return UINT64_MAX;
    int got = fscanf(file, "%llu", &value);
    fclose(file);
    return got == 1 ? value : UINT64_MAX;
}

/* The bytes in a file's line "KEY: number kB", 0 when there is none. */
static uint64_t read_kib(const char *path, const char *key) {
    char line[256];
    uint64_t kib = 0;
    size_t length = strlen(key);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            kib = strtoull(line + length + 1, NULL, 10);
            break;
        }
    if (file != NULL)
        fclose(file);
    return kib << 10;
}

static uint64_t available_bytes(void) {
    uint64_t bytes = read_kib("/proc/meminfo", "MemAvailable");
    return bytes != 0 ? bytes : (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t gwtf_machine_data_bytes(void) {
    return read_kib("/proc/self/status", "VmData");
}

uint64_t gwtf_machine_resident_bytes(void) {
    return read_kib("/proc/self/status", "VmRSS");
}

uint64_t gwtf_machine_resident_peak_bytes(void) {
    return read_kib("/proc/self/status", "VmHWM");
}

/* The value behind KEY in a file of "key value" lines, 0 when there is none. */
static uint64_t read_value(const char *path, const char *key) {
    char line[256];
    unsigned long long value = 0;
    size_t length = strlen(key);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            value = strtoull(line + length, NULL, 10);
            break;
        }
    if (file != NULL)
        fclose(file);
    return value;
}

/* Files that were read count as used, but the kernel drops them when memory is asked for. */
static uint64_t left_in_group(const char *group) {
    char path[GROUP_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/memory.max", group);
    uint64_t limit = read_number(path);
    snprintf(path, sizeof path, "%s/memory.current", group);
    uint64_t used = read_number(path);
    snprintf(path, sizeof path, "%s/memory.stat", group);
    uint64_t files = read_value(path, "inactive_file");
    if (limit == UINT64_MAX || used == UINT64_MAX)
        return UINT64_MAX;
    used -= files < used ? files : used;
    return limit > used ? limit - used : 0;
}

uint64_t gwtf_machine_group_bytes(const char *root, const char *group) {
    char path[GROUP_PATH_MAX];
    uint64_t least = UINT64_MAX;
    size_t root_length = strlen(root);
    int length = snprintf(path, sizeof path, "%s%s", root, group);
    if (length < 0 || (size_t)length >= sizeof path)
        return UINT64_MAX;
    for (;;) {
        uint64_t left = left_in_group(path);
        least = left < least ? left : least;
        char *slash = strrchr(path, '/');
        if (slash == NULL || (size_t)(slash - path) < root_length)
            return least;
        *slash = '\0';
    }
}

/* Where this process stands in the (unified) tree of control groups, "" when it cannot be told. */
static void find_group(char *group, size_t group_bytes) {
    char line[GROUP_PATH_MAX];
    FILE *file = fopen("/proc/self/cgroup", "r");
    group[0] = '\0';
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "0::", 3) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(group, group_bytes, "%s", line + 3);
        }
    if (file != NULL)
        fclose(file);
}

/* A positive number in the environment, else 0. */
static uint64_t number_of(const char *name) {
    const char *text = getenv(name);
    long long value = text == NULL ? 0 : strtoll(text, NULL, 10);
    return value > 0 ? (uint64_t)value : 0;
}

/* The job's memory on this machine, which clusters without control groups enforce by ending the
 * job. Slurm counts in megabytes, and says 0 for all. */
static uint64_t job_bytes(void) {
    uint64_t megabytes = number_of("SLURM_MEM_PER_NODE");
    if (megabytes == 0)
        megabytes = number_of("SLURM_MEM_PER_CPU") * number_of("SLURM_CPUS_ON_NODE");
    return megabytes == 0 || megabytes > UINT64_MAX >> 20 ? UINT64_MAX : megabytes << 20;
}

static uint64_t lesser(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t gwtf_machine_free_bytes(void) {
    char group[GROUP_PATH_MAX];
    find_group(group, sizeof group);
    uint64_t left = gwtf_machine_group_bytes("/sys/fs/cgroup", group);
    return lesser(lesser(left, job_bytes()), available_bytes());
}

uint32_t gwtf_machine_cores(void) {
    cpu_set_t set;
    uint64_t cores = 1, of_job = number_of("SLURM_CPUS_ON_NODE");
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        cores = (uint64_t)CPU_COUNT(&set);
    return (uint32_t)(of_job > 0 ? lesser(cores, of_job) : cores);
}

void gwtf_machine_name(char *name, size_t name_bytes) {
    const char *of_job = getenv("SLURMD_NODENAME");
    memset(name, 0, name_bytes);
    if (of_job != NULL && of_job[0] != '\0')
        snprintf(name, name_bytes, "%s", of_job);
    else
        gethostname(name, name_bytes - 1);
}
