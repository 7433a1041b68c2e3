/* The `gwtf` command. */
#include "launcher/commands.h"
#include "share/base/log.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"train", gwtf_command_train},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    gwtf_log(GWTF_LOG_ERROR, "unknown command: see gwtf train --help");
    return 2;
}
