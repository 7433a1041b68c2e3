#include "worker/runtime/pidwatch.h"

#include "share/base/assert.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct gwtf_pidwatch {
    size_t peers;
    size_t count;       /* watched */
    size_t *peer_of;    /* by place */
    struct pollfd *fds; /* by place */
};

gwtf_status gwtf_pidwatch_create(size_t peers, gwtf_pidwatch **watch) {
    gwtf_pidwatch *made = calloc(1, sizeof *made);
    if (made == NULL)
        return GWTF_ERROR_MEMORY;
    made->peers = peers;
    made->peer_of = calloc(peers, sizeof *made->peer_of);
    made->fds = calloc(peers, sizeof *made->fds);
    if (made->peer_of == NULL || made->fds == NULL) {
        gwtf_pidwatch_destroy(made);
        return GWTF_ERROR_MEMORY;
    }
    *watch = made;
    return GWTF_OK;
}

void gwtf_pidwatch_destroy(gwtf_pidwatch *watch) {
    if (watch == NULL)
        return;
    for (size_t i = 0; i < watch->count; i++)
        close(watch->fds[i].fd);
    free(watch->peer_of);
    free(watch->fds);
    free(watch);
}

static bool runs_this_program(pid_t pid) {
    char path[64];
    struct stat mine, its;
    snprintf(path, sizeof path, "/proc/%ld/exe", (long)pid);
    return stat("/proc/self/exe", &mine) == 0 && stat(path, &its) == 0 &&
           mine.st_dev == its.st_dev && mine.st_ino == its.st_ino;
}

static int open_process(pid_t pid) {
#ifdef SYS_pidfd_open
    return (int)syscall(SYS_pidfd_open, pid, 0);
#else
    (void)pid;
    return -1;
#endif
}

void gwtf_pidwatch_add(gwtf_pidwatch *watch, size_t peer, pid_t pid) {
    GWTF_ASSERT(peer < watch->peers && watch->count < watch->peers);
    int fd = open_process(pid);
    if (fd < 0)
        return;
    /* Looked at after it was opened, so that it is about the same process. */
    if (!runs_this_program(pid)) {
        close(fd);
        return;
    }
    watch->peer_of[watch->count] = peer;
    watch->fds[watch->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

bool gwtf_pidwatch_next(gwtf_pidwatch *watch, size_t *peer) {
    if (watch->count == 0 || poll(watch->fds, (nfds_t)watch->count, 0) <= 0)
        return false;
    for (size_t i = 0; i < watch->count; i++) {
        if (watch->fds[i].revents == 0)
            continue;
        *peer = watch->peer_of[i];
        close(watch->fds[i].fd);
        watch->count--;
        watch->fds[i] = watch->fds[watch->count];
        watch->peer_of[i] = watch->peer_of[watch->count];
        return true;
    }
    return false;
}
