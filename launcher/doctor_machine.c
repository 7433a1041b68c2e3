/* The machine: processors, memory, networks. */
#include "launcher/doctor.h"

#include "worker/runtime/machine.h"
#include "worker/runtime/memory.h"
#include "worker/runtime/spread.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Each worker has a connection to each other, and files besides. */
#define FILES_LEAST 1024
#define PORTS_LEAST 1000

/* Workers of the run that this machine gets: all without a job. */
static uint32_t workers_here(const struct gwtf_doctor *doctor) {
    struct gwtf_placement *placements = NULL;
    char name[256];
    uint32_t count = doctor->setup.data_nodes + doctor->setup.relays, here = 0;
    gwtf_machine_name(name, sizeof name);
    if (doctor->job.allocation.hosts_count == 0)
        return count;
    if (gwtf_setup_place(&doctor->setup, &placements, NULL) == GWTF_OK &&
        gwtf_spread(&doctor->job.allocation, placements, count, NULL) == GWTF_OK)
        for (uint32_t i = 0; i < count; i++)
            here += gwtf_spread_same_host(placements[i].host, name);
    free(placements);
    return here;
}

static void check_processors(struct gwtf_doctor *doctor) {
    uint32_t cores = gwtf_machine_cores();
    uint32_t workers = doctor->has_setup ? workers_here(doctor) : 0;
    struct gwtf_doctor_finding *finding = gwtf_doctor_find(
        doctor, "processors", workers > cores ? GWTF_DOCTOR_WARNING : GWTF_DOCTOR_OK, "%u%s", cores,
        workers > cores ? "" : " for this process");
    if (workers > cores) {
        snprintf(finding->found, sizeof finding->found, "%u for %u workers", cores, workers);
        gwtf_doctor_advise(finding, "they share them: for speed, take more nodes or fewer relays");
    }
}

/* The fastest instruction set that /proc/cpuinfo names, of those that kernels are made for. */
static const char *instruction_set(bool *fast) {
    static const char *const names[] = {"amx_tile", "avx512f", "avx2", "asimd"};
    static const char *const words[] = {"AVX-512 and AMX", "AVX-512", "AVX2", "NEON"};
    static char line[8192];
    FILE *file = fopen("/proc/cpuinfo", "r");
    const char *found = "neither AVX2 nor AVX-512";
    *fast = false;
    while (file != NULL && !*fast && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0)
            for (size_t i = 0; i < sizeof names / sizeof names[0] && !*fast; i++)
                if (strstr(line, names[i]) != NULL) {
                    found = words[i];
                    *fast = true;
                }
    if (file != NULL)
        fclose(file);
    return found;
}

static void check_compute(struct gwtf_doctor *doctor) {
    bool fast, reference = doctor->has_setup &&
                           doctor->setup.config.backend.kernels == GWTF_CONFIG_KERNELS_REFERENCE;
    const char *words = instruction_set(&fast);
    struct gwtf_doctor_finding *finding = gwtf_doctor_find(
        doctor, "compute", reference || !fast ? GWTF_DOCTOR_WARNING : GWTF_DOCTOR_OK, "%s; %s",
        reference ? "the reference kernels" : "oneDNN", words);
    if (reference)
        gwtf_doctor_advise(finding, "they are slow: leave backend.kernels out");
    else if (!fast)
        gwtf_doctor_advise(finding, "training is slow here");
}

static void check_gpus(struct gwtf_doctor *doctor) {
    DIR *devices = opendir("/dev");
    unsigned count = 0;
    for (struct dirent *entry; devices != NULL && (entry = readdir(devices)) != NULL;)
        count += strncmp(entry->d_name, "nvidia", 6) == 0 && entry->d_name[6] >= '0' &&
                 entry->d_name[6] <= '9';
    if (devices != NULL)
        closedir(devices);
    bool wanted =
        doctor->has_setup && doctor->setup.config.backend.device == GWTF_CONFIG_DEVICE_CUDA;
    struct gwtf_gpu gpu;
    struct gwtf_error error = {0};
    if (gwtf_gpu_look(0, &gpu, &error) == GWTF_OK) {
        gwtf_doctor_find(doctor, "gpus", GWTF_DOCTOR_OK,
                         "%u that can be used; the first: %s, "
                         "%.1f GB, compute capability %u.%u",
                         gpu.count, gpu.name, (double)gpu.all_bytes * 1e-9, gpu.capability / 10,
                         gpu.capability % 10);
        return;
    }
    struct gwtf_doctor_finding *finding =
        gwtf_doctor_find(doctor, "gpus",
                         wanted      ? GWTF_DOCTOR_ERROR
                         : count > 0 ? GWTF_DOCTOR_WARNING
                                     : GWTF_DOCTOR_OK,
                         count > 0 ? "%u of NVIDIA, but none can be used" : "none", count);
    if (count > 0 || wanted)
        gwtf_doctor_advise(finding, "%s", error.text);
}

/* The most that one worker of each stage takes with one slot, all of this machine's together. */
static uint64_t needed_bytes(const struct gwtf_doctor *doctor, uint32_t workers) {
    const struct gwtf_setup *setup = &doctor->setup;
    uint64_t largest = 0;
    for (uint32_t stage = 0; stage <= setup->config.pipeline.stages; stage++) {
        uint64_t fixed = 0, slot = 0;
        struct gwtf_memory_options options = {.setup = setup,
                                              .stage = stage,
                                              .slots = 1,
                                              .threads = 1,
                                              .replicas = 2,
                                              .snapshot = ""};
        if (gwtf_memory_predict(&options, &fixed, &slot, NULL) == GWTF_OK && fixed + slot > largest)
            largest = fixed + slot;
    }
    return largest * workers;
}

static void check_memory(struct gwtf_doctor *doctor) {
    uint64_t left = gwtf_machine_free_bytes(), needed = 0;
    uint32_t workers = doctor->has_setup ? workers_here(doctor) : 0;
    if (doctor->has_setup)
        needed = needed_bytes(doctor, workers);
    struct gwtf_doctor_finding *finding =
        gwtf_doctor_find(doctor, "memory", needed > left ? GWTF_DOCTOR_ERROR : GWTF_DOCTOR_OK,
                         "%.1f GB free", (double)left * 1e-9);
    if (doctor->has_setup)
        snprintf(finding->found + strlen(finding->found),
                 sizeof finding->found - strlen(finding->found),
                 "; %u workers here need %.4g GB at least", workers, (double)needed * 1e-9);
    if (needed > left)
        gwtf_doctor_advise(finding, "take more nodes or more stages, or a smaller microbatch");
}

/* True when LIST, as Open MPI takes it, has NAME; an address range may hold it or not. */
static bool is_chosen(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; *at != '\0'; at += strcspn(at, ","), at += *at == ',') {
        size_t word = strcspn(at, ",");
        if ((word == length && strncmp(at, name, length) == 0) || memchr(at, '/', word) != NULL)
            return true;
    }
    return false;
}

static void check_network(struct gwtf_doctor *doctor) {
    const char *chosen = getenv("GWTF_INTERFACES");
    bool several = doctor->job.allocation.hosts_count > 1, usable = false;
    char list[256] = "";
    struct ifaddrs *interfaces = NULL;
    if (chosen != NULL && chosen[0] == '\0')
        chosen = NULL;
    if (getifaddrs(&interfaces) != 0)
        interfaces = NULL;
    for (const struct ifaddrs *i = interfaces; i != NULL; i = i->ifa_next) {
        char address[INET_ADDRSTRLEN] = "";
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
            i->ifa_flags & IFF_LOOPBACK)
            continue;
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr,
                  address, sizeof address);
        bool used = chosen == NULL || is_chosen(chosen, i->ifa_name);
        usable = usable || used;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s %s%s",
                 list[0] != '\0' ? ", " : "", i->ifa_name, address, used ? "" : " (not used)");
    }
    freeifaddrs(interfaces);
    struct gwtf_doctor_finding *finding = gwtf_doctor_find(
        doctor, "network", usable || !several ? GWTF_DOCTOR_OK : GWTF_DOCTOR_ERROR, "%s%s",
        list[0] != '\0' ? list : "lo alone", several ? "" : "; on one machine messages go over lo");
    if (several && !usable)
        gwtf_doctor_advise(finding, "name one that is there by GWTF_INTERFACES");
}

static void check_ports(struct gwtf_doctor *doctor) {
    unsigned first = 0, last = 0;
    struct rlimit files = {0};
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    if (file == NULL || fscanf(file, "%u %u", &first, &last) != 2)
        first = last = 0;
    if (file != NULL)
        fclose(file);
    struct sockaddr_in any = {.sin_family = AF_INET};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool listens = descriptor >= 0 &&
                   bind(descriptor, (const struct sockaddr *)&any, sizeof any) == 0 &&
                   listen(descriptor, 1) == 0;
    if (descriptor >= 0)
        close(descriptor);
    getrlimit(RLIMIT_NOFILE, &files);
    bool enough = last - first >= PORTS_LEAST && files.rlim_cur >= FILES_LEAST;
    struct gwtf_doctor_finding *finding = gwtf_doctor_find(
        doctor, "ports",
        !listens  ? GWTF_DOCTOR_ERROR
        : !enough ? GWTF_DOCTOR_WARNING
                  : GWTF_DOCTOR_OK,
        "%s on TCP ports %u to %u; %llu open files", listens ? "can listen" : "cannot listen",
        first, last, (unsigned long long)files.rlim_cur);
    if (!listens)
        gwtf_doctor_advise(finding, "workers talk over TCP: ask who runs this machine");
    else if (!enough)
        gwtf_doctor_advise(finding, "large runs need more: ulimit -n %d, and a wider port range",
                           FILES_LEAST);
}

void gwtf_doctor_check_machine(struct gwtf_doctor *doctor) {
    check_processors(doctor);
    check_memory(doctor);
    check_compute(doctor);
    check_gpus(doctor);
    check_network(doctor);
    check_ports(doctor);
}
