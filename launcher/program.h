/* Other programs: whether they are there, and what they say. */
#ifndef GWTF_LAUNCHER_PROGRAM_H
#define GWTF_LAUNCHER_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

/* The first executable NAME in PATH, as FOUND; false when there is none. */
bool gwtf_program_find(const char *name, char *found, size_t found_bytes);

/* Runs a program of PATH with ARGUMENTS (NULL-terminated, the first is its name), and puts what it
 * prints, to stderr too, into OUTPUT, cut at its end. Returns its exit code, 127 when it cannot be
 * run or was killed. */
int gwtf_program_run(const char *const *arguments, char *output, size_t output_bytes);

#endif
