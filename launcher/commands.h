/* The subcommands of `gwtf`. argv[0] is the subcommand's name; the result is the exit code. */
#ifndef GWTF_LAUNCHER_COMMANDS_H
#define GWTF_LAUNCHER_COMMANDS_H

int gwtf_command_train(int argc, char **argv);

#endif
