#include "worker/runtime/notice.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

static atomic_bool has_come;
static sigset_t notices;

static void *take_notices(void *argument) {
    (void)argument;
    for (;;) {
        int number;
        if (sigwait(&notices, &number) == 0)
            atomic_store(&has_come, true);
    }
    return NULL;
}

void gwtf_notice_watch(void) {
    sigset_t before;
    pthread_t thread;
    sigemptyset(&notices);
    sigaddset(&notices, SIGTERM);
    sigaddset(&notices, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &notices, &before);
    if (pthread_create(&thread, NULL, take_notices, NULL) != 0)
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    else
        pthread_detach(thread);
}

bool gwtf_notice_has_come(void) {
    return atomic_load(&has_come);
}
