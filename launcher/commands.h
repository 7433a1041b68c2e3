/*
 * The subcommands of `gwtf`. Each takes its own argument list, argv[0] being the subcommand's name,
 * prints its result to stdout and errors to stderr, and returns the exit code of the program: 0 on
 * success, 2 on bad usage or configuration, 1 otherwise. A new one is a function here, a line in
 * the table of main.c and a source in CMakeLists.txt.
 */
#ifndef GWTF_LAUNCHER_COMMANDS_H
#define GWTF_LAUNCHER_COMMANDS_H

int gwtf_command_train(int argc, char **argv);
int gwtf_command_tokenize(int argc, char **argv);
int gwtf_command_status(int argc, char **argv);
int gwtf_command_inspect(int argc, char **argv);
int gwtf_command_eval(int argc, char **argv);
int gwtf_command_generate(int argc, char **argv);
int gwtf_command_export(int argc, char **argv);
int gwtf_command_import(int argc, char **argv);
int gwtf_command_route(int argc, char **argv);
int gwtf_command_bench(int argc, char **argv);
int gwtf_command_simulate(int argc, char **argv);
int gwtf_command_submit(int argc, char **argv);
int gwtf_command_doctor(int argc, char **argv);
int gwtf_command_join(int argc, char **argv);
int gwtf_command_top(int argc, char **argv);
int gwtf_command_leave(int argc, char **argv);
int gwtf_command_node_agent(int argc, char **argv);

#endif
