#include "worker/runtime/strays.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <mpi.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections that may be uncounted before none is believed to be left. */
#define CONNECTIONS_MORE 65536

void gwtf_strays_keep_looking(void) {
    /* No part of MPI's interface, so it may be missing. POSIX gives functions as void *. */
    union {
        void *object;
        void (*function)(void);
    } count = {dlsym(RTLD_DEFAULT, "opal_progress_event_users_increment")};
    for (int i = 0; count.object != NULL && i < CONNECTIONS_MORE; i++)
        count.function();
}

#if defined(OMPI_MAJOR_VERSION) && OMPI_MAJOR_VERSION == 4

/* Of libevent, as Open MPI passes them on: leave after one round, and do not wait for it. */
#define LOOP_ONCE 0x01
#define LOOP_NONBLOCK 0x02

void gwtf_strays_bound_loop(void) {
    union {
        void *object;
        int (*function)(int flag);
    } set = {dlsym(RTLD_DEFAULT, "opal_progress_set_event_flag")};
    if (set.object != NULL)
        set.function(LOOP_ONCE | LOOP_NONBLOCK);
}

static bool is_stray(int fd, bool half_open) {
    int domain = 0, listens = 0;
    struct tcp_info info;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
        (domain != AF_INET && domain != AF_INET6))
        return false;
    size = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens)
        return false;
    size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return false;
    return info.tcpi_state == TCP_CLOSE || (half_open && info.tcpi_state == TCP_CLOSE_WAIT);
}

void gwtf_strays_remove(bool half_open) {
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || !is_stray(fd, half_open))
            continue;
        /* The number stays taken: MPI believes that it is its own, and may close it later. */
        int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (nothing < 0)
            continue;
        dup3(nothing, fd, O_CLOEXEC);
        close(nothing);
    }
    closedir(directory);
}

#else

void gwtf_strays_bound_loop(void) {
}

void gwtf_strays_remove(bool half_open) {
    (void)half_open;
}

#endif
