#include "launcher/program.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool gwtf_program_find(const char *name, char *found, size_t found_bytes) {
    const char *at = getenv("PATH");
    while (at != NULL && *at != '\0') {
        size_t length = strcspn(at, ":");
        snprintf(found, found_bytes, "%.*s/%s", (int)length, at, name);
        if (length > 0 && access(found, X_OK) == 0)
            return true;
        at += length + (at[length] == ':');
    }
    return false;
}

int gwtf_program_run(const char *const *arguments, char *output, size_t output_bytes) {
    int ends[2], status = 0;
    size_t used = 0;
    output[0] = '\0';
    if (pipe(ends) != 0)
        return 127;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        /* execvp takes char *const *, but does not write. */
        execvp(arguments[0], (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(ends[1]);
    char piece[4096];
    ssize_t got;
    while ((got = read(ends[0], piece, sizeof piece)) > 0)
        for (ssize_t i = 0; i < got && used + 1 < output_bytes; i++)
            output[used++] = piece[i];
    output[used] = '\0';
    close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return 127;
    return WEXITSTATUS(status);
}
