/* The command `gwtf`: finds the subcommand and runs it. */
#include "io/nearest.h"
#include "launcher/commands.h"
#include "launcher/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* NULL: not for people */
} commands[] = {
    {"tokenize", gwtf_command_tokenize, "make token files from a text"},
    {"train", gwtf_command_train, "train a model, on many machines or in one process"},
    {"join", gwtf_command_join, "join a run that trains, as one more node"},
    {"submit", gwtf_command_submit, "train as a Slurm job, which goes on after its time is over"},
    {"status", gwtf_command_status, "what a run does: progress, nodes, events"},
    {"top", gwtf_command_top, "the same, on a screen that follows the run"},
    {"leave", gwtf_command_leave, "take a node out of a run, which goes on without it"},
    {"route", gwtf_command_route, "how nodes find their flows on an instance, beside the optimum"},
    {"inspect", gwtf_command_inspect, "what a snapshot holds: stages and tensors"},
    {"eval", gwtf_command_eval, "how well a snapshot knows a token file: loss, perplexity"},
    {"generate", gwtf_command_generate, "let a snapshot go on after a prompt"},
    {"export", gwtf_command_export, "write a snapshot as other programs load it: safetensors"},
    {"import", gwtf_command_import, "make a run of such a model, to train on from it"},
    {"bench", gwtf_command_bench, "how fast this machine trains a model"},
    {"simulate", gwtf_command_simulate, "train in virtual time: what would these nodes give"},
    {"doctor", gwtf_command_doctor, "what this machine, job and MPI offer; would a run start"},
    {"node-agent", gwtf_command_node_agent, NULL},
};
#define COMMANDS_COUNT (sizeof commands / sizeof commands[0])

static void print_help(void) {
    printf("usage: gwtf COMMAND ARGUMENT...\n\n"
           "Trains language models together on machines that come and go.\n\n");
    for (size_t i = 0; i < COMMANDS_COUNT; i++)
        if (commands[i].summary != NULL)
            printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    printf("\n  --help     print this; after a command: its options and an example\n"
           "  --version  print the version\n\n"
           "example:\n"
           "  gwtf tokenize --help\n");
}

static int unknown(const char *name) {
    const char *nearest = commands[0].name;
    for (size_t i = 1; i < COMMANDS_COUNT; i++)
        if (commands[i].summary != NULL &&
            gwtf_nearest_distance(name, commands[i].name) < gwtf_nearest_distance(name, nearest))
            nearest = commands[i].name;
    if (gwtf_nearest_is_close(name, nearest))
        return gwtf_fail(GWTF_ERROR_USAGE, "unknown command '%s': did you mean 'gwtf %s'?", name,
                         nearest);
    return gwtf_fail(GWTF_ERROR_USAGE, "unknown command '%s': see gwtf --help", name);
}

static int run(int argc, char **argv) {
    if (argc < 2)
        return gwtf_fail(GWTF_ERROR_USAGE, "no command is given: see gwtf --help");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("gwtf %s\n", GWTF_VERSION);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    return unknown(argv[1]);
}

int main(int argc, char **argv) {
    int code = run(argc, argv);
    /* A script that asked for the output must learn that it is cut. */
    errno = 0;
    if ((ferror(stdout) || fclose(stdout) != 0) && code == 0)
        code = gwtf_fail(GWTF_ERROR_IO, "cannot write the output: %s: check where it goes",
                         errno == 0 ? "it failed before" : strerror(errno));
    return code;
}
