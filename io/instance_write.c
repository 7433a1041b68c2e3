/* A flow instance as a libconfig file. */
#include "io/config_reader.h"
#include "io/file.h"
#include "io/instance.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static void write_name(FILE *stream, const char *name) {
    fputs("  name = ", stream);
    gwtf_config_write_string(stream, name);
    fputs(";\n", stream);
}

static void write_members(FILE *stream, const gwtf_flow_instance *instance, uint32_t stage) {
    uint32_t count = 0;
    const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, stage, &count);
    for (uint32_t i = 0; i < count; i++)
        fprintf(stream, "%s%" PRIu32, i > 0 ? ", " : "[ ", nodes[i]);
    fputs(" ]", stream);
}

static void write_matrix(FILE *stream, const gwtf_flow_instance *instance) {
    uint32_t nodes = gwtf_flow_instance_nodes(instance);
    fputs("  cost = (\n", stream);
    for (gwtf_node_id i = 0; i < nodes; i++) {
        fputs("    [ ", stream);
        for (gwtf_node_id j = 0; j < nodes; j++)
            fprintf(stream, "%s%" PRId32, j > 0 ? ", " : "",
                    gwtf_flow_instance_cost(instance, i, j));
        fputs(i + 1 < nodes ? " ],\n" : " ]\n", stream);
    }
    fputs("  );\n", stream);
}

static void write_links(FILE *stream, const gwtf_flow_instance *instance, bool back) {
    uint32_t stages = gwtf_flow_instance_stages(instance);
    fprintf(stream, "  %s = (\n", back ? "links_back" : "links");
    for (uint32_t s = 0; s <= stages; s++) {
        uint32_t count = 0, next_count = 0;
        const gwtf_node_id *nodes = gwtf_flow_instance_stage_nodes(instance, s, &count);
        const gwtf_node_id *next = gwtf_flow_instance_stage_nodes(
            instance, gwtf_flow_instance_next_stage(instance, s), &next_count);
        fputs("    (\n", stream);
        for (uint32_t i = 0; i < count; i++) {
            fputs("      \"", stream);
            for (uint32_t j = 0; j < next_count; j++)
                fprintf(stream, "%s%" PRId32, j > 0 ? " " : "",
                        back ? gwtf_flow_instance_cost(instance, next[j], nodes[i])
                             : gwtf_flow_instance_cost(instance, nodes[i], next[j]));
            fputs(i + 1 < count ? "\",\n" : "\"\n", stream);
        }
        fputs(s < stages ? "    ),\n" : "    )\n", stream);
    }
    fputs("  );\n", stream);
}

static void write_all(FILE *stream, const gwtf_flow_instance *instance,
                      const struct gwtf_instance_facts *facts) {
    uint32_t stages = gwtf_flow_instance_stages(instance);
    uint32_t nodes = gwtf_flow_instance_nodes(instance);
    fputs("instance = {\n", stream);
    if (facts != NULL && facts->name[0] != '\0')
        write_name(stream, facts->name);
    fputs("  data_nodes = ", stream);
    write_members(stream, instance, 0);
    fputs(";\n  stages = (\n", stream);
    for (uint32_t s = 1; s <= stages; s++) {
        fputs("    ", stream);
        write_members(stream, instance, s);
        fputs(s < stages ? ",\n" : "\n", stream);
    }
    fputs("  );\n  capacity = [ ", stream);
    for (gwtf_node_id i = 0; i < nodes; i++)
        fprintf(stream, "%s%" PRIu32, i > 0 ? ", " : "", gwtf_flow_instance_capacity(instance, i));
    fputs(" ];\n", stream);
    if (nodes <= GWTF_INSTANCE_MATRIX_NODES)
        write_matrix(stream, instance);
    else
        write_links(stream, instance, false);
    if (nodes > GWTF_INSTANCE_MATRIX_NODES && gwtf_flow_instance_has_back(instance))
        write_links(stream, instance, true);
    if (facts != NULL && facts->has_optimum)
        fprintf(stream, "  optimum = { flow = %" PRIu32 "; cost = %" PRId64 "%s; };\n",
                facts->optimum_flow, facts->optimum_cost,
                facts->optimum_cost > INT32_MAX ? "L" : "");
    fputs("};\n", stream);
}

gwtf_status gwtf_instance_write(const char *path, const gwtf_flow_instance *instance,
                                const struct gwtf_instance_facts *facts, struct gwtf_error *error) {
    char *bytes = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&bytes, &size);
    bool failed = stream == NULL;
    if (stream != NULL) {
        write_all(stream, instance, facts);
        failed = ferror(stream) != 0;
        failed = fclose(stream) != 0 || failed;
    }
    gwtf_status status =
        failed ? gwtf_error_set(error, GWTF_ERROR_MEMORY, "%s: no memory: free some", path)
               : gwtf_file_replace(path, bytes, size, false, error);
    free(bytes);
    return status;
}
