/*
 * A batch script made from one of slurm/: lines "#SBATCH --NAME=VALUE" get other values, or come
 * besides, and the line "# (arguments)" becomes what this run needs.
 */
#ifndef GWTF_LAUNCHER_SCRIPT_H
#define GWTF_LAUNCHER_SCRIPT_H

#include "share/base/status.h"

#include <stddef.h>

#define GWTF_SCRIPT_OPTIONS_MAX 96

struct gwtf_script {
    const char *template_name;
    struct {
        size_t component; /* of a heterogeneous job; 0 otherwise */
        char name[32];    /* "" for one that only comes besides */
        char *line;       /* without "#SBATCH " */
        int used;
    } options[GWTF_SCRIPT_OPTIONS_MAX];
    size_t options_count;
    char *variables; /* lines of shell */
    char *arguments; /* quoted, each behind a blank */
    char *text;      /* once it is composed */
};

/* NAME is that of a file in slurm/, and lives as long as the script. */
void gwtf_script_init(struct gwtf_script *script, const char *name);
void gwtf_script_deinit(struct gwtf_script *script);

/* Component COMPONENT is asked for with --NAME=VALUE, in place of what the file has. VALUE is
 * quoted where it must be. */
void gwtf_script_option(struct gwtf_script *script, size_t component, const char *name,
                        const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Another option, as a shell would give it to sbatch: of the first component. */
void gwtf_script_line(struct gwtf_script *script, const char *option);

/* A variable of the shell, which gwtf_script_compose sets before anything is run. */
void gwtf_script_variable(struct gwtf_script *script, const char *name, const char *value);

/* An argument of gwtf train. */
void gwtf_script_argument(struct gwtf_script *script, const char *argument);

/* Makes script->text. Errors: GWTF_ERROR_MISSING when the file in slurm/ is not there;
 * GWTF_ERROR_USAGE when an option has a line break. */
gwtf_status gwtf_script_compose(struct gwtf_script *script, struct gwtf_error *error);

/* Writes it. Errors: GWTF_ERROR_IO. */
gwtf_status gwtf_script_write(const struct gwtf_script *script, const char *path,
                              struct gwtf_error *error);

#endif
