#include "worker/runtime/machine.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

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

static uint64_t available_bytes(void) {
    char line[256];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib != 0 ? (uint64_t)kib << 10
                    : (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t gwtf_machine_free_bytes(void) {
    uint64_t bytes = available_bytes();
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max");
    uint64_t used = read_number("/sys/fs/cgroup/memory.current");
    if (limit != UINT64_MAX && used != UINT64_MAX) {
        uint64_t left = limit > used ? limit - used : 0;
        if (left < bytes)
            bytes = left;
    }
    return bytes;
}

uint32_t gwtf_machine_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
    return 1;
}
