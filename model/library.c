/* The CUDA backend is a library that a program loads when it is first asked for: the same program
 * runs on machines that have none, and no command waits for what it does not use. */
#include "model/operations.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libgwtf_cuda.so"

struct loaded {
    const struct gwtf_operations *operations;
    char why[512]; /* there are none */
};

static struct loaded loaded;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Beside the program, and in the lib beside its bin. PATH is untouched when the program does not
 * know where it is. */
static void *open_beside_program(const char *between) {
    char program[PATH_MAX], path[PATH_MAX + 64];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return NULL;
    program[length] = '\0';
    snprintf(path, sizeof path, "%s/%s" LIBRARY, dirname(program), between);
    return access(path, R_OK) == 0 ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static void *open_library(void) {
    const char *named = getenv("GWTF_CUDA_LIBRARY");
    if (named != NULL && named[0] != '\0')
        return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    void *library = open_beside_program("");
    if (library == NULL)
        library = open_beside_program("../lib/gwtf/");
    return library != NULL ? library : dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
}

static void load(void) {
    typedef const struct gwtf_operations *(*lookup)(const char *);
    void *library = open_library();
    if (library == NULL) {
        const char *why = dlerror();
        snprintf(loaded.why, sizeof loaded.why, "%s", why != NULL ? why : LIBRARY " is not there");
        return;
    }
    lookup find;
    void *symbol = dlsym(library, "gwtf_cuda_operations");
    memcpy(&find, &symbol, sizeof find);
    loaded.operations = find != NULL ? find(GWTF_OPERATIONS_INTERFACE) : NULL;
    if (loaded.operations == NULL)
        snprintf(loaded.why, sizeof loaded.why, LIBRARY " is of another build than this program");
}

/* Before a library is loaded that looks for them: its own start takes time and memory. */
static bool may_have_gpus(void) {
    const char *named = getenv("GWTF_CUDA_LIBRARY");
    return (named != NULL && named[0] != '\0') || access("/dev/nvidiactl", F_OK) == 0 ||
           access("/dev/dxg", F_OK) == 0;
}

gwtf_status gwtf_gpu_look(uint32_t place, struct gwtf_gpu *gpu, struct gwtf_error *error) {
    const struct gwtf_operations *operations = NULL;
    if (!may_have_gpus())
        return gwtf_error_set(
            error, GWTF_ERROR_UNSUPPORTED,
            "no GPU of NVIDIA is seen here: see nvidia-smi, or make backend.device "
            "\"auto\"");
    gwtf_status status = gwtf_cuda_load(&operations, error);
    return status == GWTF_OK ? operations->device->look(place, gpu, error) : status;
}

gwtf_status gwtf_gpu_free_bytes(uint32_t place, uint64_t *free_bytes, struct gwtf_error *error) {
    const struct gwtf_operations *operations = NULL;
    gwtf_status status = gwtf_cuda_load(&operations, error);
    return status == GWTF_OK ? operations->device->free_bytes(place, free_bytes, error) : status;
}

struct gwtf_gpu_peak gwtf_gpu_peak(uint32_t place, enum gwtf_precision precision, uint32_t rounds) {
    const struct gwtf_operations *operations = NULL;
    if (gwtf_cuda_load(&operations, NULL) != GWTF_OK)
        return (struct gwtf_gpu_peak){0};
    return operations->device->peak(place, precision, rounds);
}

static uint32_t gpus;
static pthread_once_t counted = PTHREAD_ONCE_INIT;

static void count_gpus(void) {
    struct gwtf_gpu gpu;
    gpus = gwtf_gpu_look(0, &gpu, NULL) == GWTF_OK ? gpu.count : 0;
}

uint32_t gwtf_gpu_count(void) {
    pthread_once(&counted, count_gpus);
    return gpus;
}

gwtf_status gwtf_cuda_load(const struct gwtf_operations **operations, struct gwtf_error *error) {
    pthread_once(&once, load);
    if (loaded.operations == NULL)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "there is no CUDA backend here (%s): build with a CUDA toolkit, or "
                              "make backend.device \"cpu\"",
                              loaded.why);
    *operations = loaded.operations;
    return GWTF_OK;
}
