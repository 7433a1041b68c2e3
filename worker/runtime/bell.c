#include "worker/runtime/bell.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* MPI has one set for its sockets and its helpers have a few. */
#define SETS_MAX 15

struct gwtf_bell {
    struct pollfd watched[1 + SETS_MAX]; /* the ring, then the sets */
    nfds_t watched_count;
};

gwtf_status gwtf_bell_create(gwtf_bell **bell) {
    struct gwtf_bell *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->watched_count = 1;
    made->watched[0].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    made->watched[0].events = POLLIN;
    if (made->watched[0].fd < 0) {
        free(made);
        return GWTF_ERROR_MEMORY;
    }
    *bell = made;
    return GWTF_OK;
}

void gwtf_bell_destroy(gwtf_bell *bell) {
    if (bell == NULL)
        return;
    close(bell->watched[0].fd);
    free(bell);
}

void gwtf_bell_ring(gwtf_bell *bell) {
    uint64_t one = 1;
    /* Fails only where it has rung 2^64 - 2 times unheard, and a ring is a ring. */
    if (write(bell->watched[0].fd, &one, sizeof one) < 0)
        return;
}

static bool is_set(const char *descriptor) {
    char path[sizeof "/proc/self/fd/" + 20], meaning[32];
    snprintf(path, sizeof path, "/proc/self/fd/%.20s", descriptor);
    ssize_t length = readlink(path, meaning, sizeof meaning - 1);
    if (length < 0)
        return false;
    meaning[length] = '\0';
    return strcmp(meaning, "anon_inode:[eventpoll]") == 0;
}

bool gwtf_bell_find_sets(gwtf_bell *bell) {
    bell->watched_count = 1;
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        return false;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (bell->watched_count <= SETS_MAX && is_set(entry->d_name))
            bell->watched[bell->watched_count++] =
                (struct pollfd){.fd = atoi(entry->d_name), .events = POLLIN};
    closedir(directory);
    return bell->watched_count > 1;
}

static bool has_rung(struct gwtf_bell *bell) {
    uint64_t times;
    return read(bell->watched[0].fd, &times, sizeof times) == (ssize_t)sizeof times;
}

static enum gwtf_wake wait_for(struct gwtf_bell *bell, nfds_t count, int64_t timeout_us) {
    struct timespec timeout = {.tv_sec = (time_t)(timeout_us / 1000000),
                               .tv_nsec = (long)(timeout_us % 1000000) * 1000};
    int ready = ppoll(bell->watched, count, &timeout, NULL);
    if (ready <= 0)
        return GWTF_WAKE_TIME;
    if (has_rung(bell))
        return GWTF_WAKE_RUNG;
    enum gwtf_wake wake = GWTF_WAKE_TIME;
    for (nfds_t i = 1; i < count; i++) {
        if (bell->watched[i].revents & POLLIN)
            wake = GWTF_WAKE_SOCKET;
        else if (bell->watched[i].revents != 0)
            bell->watched[i].fd = -1; /* closed meanwhile: no longer watched */
    }
    return wake;
}

bool gwtf_bell_wait(gwtf_bell *bell, int64_t timeout_us) {
    return wait_for(bell, 1, timeout_us) == GWTF_WAKE_RUNG;
}

enum gwtf_wake gwtf_bell_listen(gwtf_bell *bell, int64_t timeout_us) {
    return wait_for(bell, bell->watched_count, timeout_us);
}
