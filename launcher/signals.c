#include "launcher/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static atomic_int signals_count;
static atomic_bool noticed;
static int signals_last;
static const char *first_words;
static sigset_t watched, before;

/* Nobody reads what this process prints any more. It comes at each write: it counts once. */
static void on_broken_pipe(int number) {
    static atomic_flag counted = ATOMIC_FLAG_INIT;
    (void)number;
    if (!atomic_flag_test_and_set(&counted))
        atomic_fetch_add(&signals_count, 1);
}

static void *take_signals(void *argument) {
    (void)argument;
    for (;;) {
        int number;
        if (sigwait(&watched, &number) != 0)
            continue;
        if (number == SIGUSR1)
            atomic_store(&noticed, true);
        if ((number == SIGUSR1 || number == SIGTERM) && atomic_load(&signals_count) > 0)
            continue;
        int count = atomic_fetch_add(&signals_count, 1) + 1;
        if (count >= signals_last)
            _exit(1);
        if (count == 1 && first_words != NULL &&
            write(STDERR_FILENO, first_words, strlen(first_words)) < 0)
            first_words = NULL;
    }
    return NULL;
}

gwtf_status gwtf_signals_watch(int last, const char *words) {
    static bool watching;
    signals_last = last;
    first_words = words;
    if (watching)
        return GWTF_OK;
    pthread_t thread;
    sigemptyset(&watched);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGHUP);
    sigaddset(&watched, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &watched, &before);
    if (pthread_create(&thread, NULL, take_signals, NULL) != 0) {
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return GWTF_ERROR_MEMORY;
    }
    pthread_detach(thread);
    watching = true;
    struct sigaction pipe;
    if (sigaction(SIGPIPE, NULL, &pipe) == 0 && pipe.sa_handler == SIG_DFL)
        signal(SIGPIPE, on_broken_pipe);
    return GWTF_OK;
}

int gwtf_signals_count(void) {
    return atomic_load(&signals_count);
}

bool gwtf_signals_noticed(void) {
    return atomic_load(&noticed);
}

void gwtf_signals_restore(void) {
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
