/* A directory of its own for a test, removed at the end. */
#ifndef GWTF_TESTS_SUPPORT_TEMPORARY_H
#define GWTF_TESTS_SUPPORT_TEMPORARY_H

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static char temporary_directory[512];

static inline int temporary_make(void) {
    const char *base = getenv("TMPDIR");
    snprintf(temporary_directory, sizeof temporary_directory, "%s/gwtf-test-XXXXXX",
             base != NULL && *base != '\0' ? base : "/tmp");
    return mkdtemp(temporary_directory) == NULL;
}

static inline int temporary_remove_one(const char *path, const struct stat *facts, int type,
                                       struct FTW *walk) {
    (void)facts;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline int temporary_remove_tree(const char *directory) {
    return nftw(directory, temporary_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline int temporary_remove(void) {
    return temporary_remove_tree(temporary_directory);
}

/* DIRECTORY/NAME. The text lives until the process ends. */
static inline const char *temporary_below(const char *directory, const char *name) {
    /* Kept reachable, so that it is no leak. */
    struct kept {
        struct kept *next;
        char *text;
    };
    static struct kept *all;
    struct kept *kept = malloc(sizeof *kept);
    if (kept == NULL || asprintf(&kept->text, "%s/%s", directory, name) < 0)
        abort();
    kept->next = all;
    all = kept;
    return kept->text;
}

/* NAME in the test's own directory. */
static inline const char *temporary_path(const char *name) {
    return temporary_below(temporary_directory, name);
}

/* fork, for a child that must not outlive the test. */
static inline pid_t temporary_fork(void) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

/* Writes a file; true when it is there whole. */
static inline int temporary_write(const char *path, const void *bytes, size_t size) {
    FILE *stream = fopen(path, "wb");
    if (stream == NULL)
        return 0;
    size_t put = fwrite(bytes, 1, size, stream);
    return fclose(stream) == 0 && put == size;
}

/* Reads a file whole; the caller frees. NULL when it cannot. */
static inline char *temporary_read(const char *path, size_t *size) {
    FILE *stream = fopen(path, "rb");
    if (stream == NULL)
        return NULL;
    char *bytes = NULL;
    fseek(stream, 0, SEEK_END);
    long length = ftell(stream);
    rewind(stream);
    if (length >= 0 && (bytes = malloc((size_t)length + 1)) != NULL) {
        *size = fread(bytes, 1, (size_t)length, stream);
        bytes[*size] = '\0';
    }
    fclose(stream);
    return bytes;
}

/* Entries of a directory, without . and ..; -1 when there is none. */
static inline int temporary_entries(const char *path) {
    char command[1600];
    snprintf(command, sizeof command, "ls -A '%s' 2>/dev/null | wc -l", path);
    FILE *pipe = popen(command, "r");
    int count = -1;
    if (pipe == NULL || fscanf(pipe, "%d", &count) != 1)
        count = -1;
    if (pipe != NULL)
        pclose(pipe);
    return count;
}

#endif
