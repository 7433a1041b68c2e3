/* What gwtf doctor finds out: a list of checks, each with a verdict. */
#ifndef GWTF_LAUNCHER_DOCTOR_H
#define GWTF_LAUNCHER_DOCTOR_H

#include "launcher/job.h"

#define GWTF_DOCTOR_FINDINGS_MAX 40

enum gwtf_doctor_verdict { GWTF_DOCTOR_OK, GWTF_DOCTOR_WARNING, GWTF_DOCTOR_ERROR };

struct gwtf_doctor_finding {
    const char *check; /* a word */
    enum gwtf_doctor_verdict verdict;
    char found[512];
    char advice[512]; /* "" when all is well */
};

struct gwtf_doctor {
    const char *config_path; /* NULL: no run is asked for */
    const char *const *overrides;
    size_t overrides_count;
    char self[3072];
    bool has_setup; /* the configuration and its data are good */
    struct gwtf_setup setup;
    struct gwtf_job job;
    bool job_is_good; /* or there is none */
    bool has_mpirun;
    struct gwtf_mpirun mpirun;
    struct gwtf_doctor_finding findings[GWTF_DOCTOR_FINDINGS_MAX];
    size_t count;
};

/* Adds a finding; its text comes next. */
struct gwtf_doctor_finding *gwtf_doctor_find(struct gwtf_doctor *doctor, const char *check,
                                             enum gwtf_doctor_verdict verdict, const char *format,
                                             ...) __attribute__((format(printf, 4, 5)));
void gwtf_doctor_advise(struct gwtf_doctor_finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The run: its configuration, data, directory. */
void gwtf_doctor_check_run(struct gwtf_doctor *doctor);

/* What starts processes: Open MPI, Slurm. */
void gwtf_doctor_check_start(struct gwtf_doctor *doctor);

/* The machine: processors, memory, networks. */
void gwtf_doctor_check_machine(struct gwtf_doctor *doctor);

#endif
