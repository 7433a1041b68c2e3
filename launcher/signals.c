#include "launcher/signals.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t signals_count;

static void on_signal(int number) {
    (void)number;
    if (++signals_count > 2)
        _exit(1);
}

void gwtf_signals_watch(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

int gwtf_signals_count(void) {
    return signals_count;
}
