/* Ctrl+C and its kin, as counts that a loop looks at: the first asks, the second insists. */
#ifndef GWTF_LAUNCHER_SIGNALS_H
#define GWTF_LAUNCHER_SIGNALS_H

/* Counts SIGINT, SIGTERM and SIGHUP from now on. A third one ends this process at once. */
void gwtf_signals_watch(void);

/* How many have come. */
int gwtf_signals_count(void);

#endif
