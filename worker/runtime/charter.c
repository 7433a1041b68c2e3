#include "worker/runtime/charter.h"

#include "share/base/hash.h"

#include <stdlib.h>
#include <string.h>

struct header {
    uint64_t hash; /* of everything behind it */
    struct gwtf_charter charter;
};

gwtf_status gwtf_charter_pack(const struct gwtf_charter *charter, void **bytes,
                              size_t *size_bytes) {
    size_t members_bytes = charter->members_count * sizeof *charter->members;
    size_t size =
        sizeof(struct header) + members_bytes + charter->config_bytes + charter->topology_bytes;
    char *packed = calloc(1, size);
    if (packed == NULL)
        return GWTF_ERROR_MEMORY;
    struct header header;
    memset(&header, 0, sizeof header);
    header.charter = *charter;
    header.charter.members = NULL;
    header.charter.config = NULL;
    header.charter.topology = NULL;
    memcpy(packed, &header, sizeof header);
    memcpy(packed + sizeof header, charter->members, members_bytes);
    memcpy(packed + sizeof header + members_bytes, charter->config, charter->config_bytes);
    memcpy(packed + size - charter->topology_bytes, charter->topology, charter->topology_bytes);
    uint64_t hash = gwtf_hash(packed + sizeof hash, size - sizeof hash);
    memcpy(packed, &hash, sizeof hash);
    *bytes = packed;
    *size_bytes = size;
    return GWTF_OK;
}

gwtf_status gwtf_charter_unpack(const void *bytes, size_t size_bytes,
                                struct gwtf_charter *charter) {
    struct header header;
    const char *packed = bytes;
    if (size_bytes < sizeof header)
        return GWTF_ERROR_CORRUPT;
    memcpy(&header, packed, sizeof header);
    if (header.hash != gwtf_hash(packed + sizeof header.hash, size_bytes - sizeof header.hash))
        return GWTF_ERROR_CORRUPT;
    struct gwtf_charter read = header.charter;
    size_t members_bytes = read.members_count * sizeof *read.members;
    if (read.config_bytes == 0 || read.topology_bytes == 0 ||
        size_bytes != sizeof header + members_bytes + read.config_bytes + read.topology_bytes)
        return GWTF_ERROR_CORRUPT;
    read.members = malloc(members_bytes + 1);
    read.config = malloc(read.config_bytes);
    read.topology = malloc(read.topology_bytes);
    if (read.members == NULL || read.config == NULL || read.topology == NULL) {
        gwtf_charter_deinit(&read);
        return GWTF_ERROR_MEMORY;
    }
    memcpy(read.members, packed + sizeof header, members_bytes);
    memcpy(read.config, packed + sizeof header + members_bytes, read.config_bytes);
    memcpy(read.topology, packed + size_bytes - read.topology_bytes, read.topology_bytes);
    read.config[read.config_bytes - 1] = '\0';
    read.topology[read.topology_bytes - 1] = '\0';
    read.snapshot[sizeof read.snapshot - 1] = '\0';
    *charter = read;
    return GWTF_OK;
}

void gwtf_charter_deinit(struct gwtf_charter *charter) {
    free(charter->members);
    free(charter->config);
    free(charter->topology);
    charter->members = NULL;
    charter->config = NULL;
    charter->topology = NULL;
}
