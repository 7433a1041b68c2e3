#include "io/snapshot_files.h"

#include "io/config_reader.h"
#include "share/base/log.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX_BYTES ((size_t)1 << 20)

/* What a directory's name begins with; the step follows in six digits or more. */
static const char step_prefix[] = "step-", rest_prefix[] = "rest-";

static gwtf_status directory_of(const char *snapshots, const char *prefix, uint64_t step,
                                char path[GWTF_SNAPSHOT_PATH_MAX], struct gwtf_error *error) {
    int length = snprintf(path, GWTF_SNAPSHOT_PATH_MAX, "%s/%s%06" PRIu64, snapshots, prefix, step);
    return length < GWTF_SNAPSHOT_PATH_MAX
               ? GWTF_OK
               : gwtf_file_error(error, "open", snapshots, ENAMETOOLONG);
}

gwtf_status gwtf_snapshot_directory(const char *snapshots, uint64_t step,
                                    char path[GWTF_SNAPSHOT_PATH_MAX], struct gwtf_error *error) {
    return directory_of(snapshots, step_prefix, step, path, error);
}

gwtf_status gwtf_snapshot_rest_directory(const char *snapshots, uint64_t step,
                                         char path[GWTF_SNAPSHOT_PATH_MAX],
                                         struct gwtf_error *error) {
    return directory_of(snapshots, rest_prefix, step, path, error);
}

void gwtf_snapshot_stage_path(const char *directory, uint32_t stage,
                              char path[GWTF_FILE_PATH_MAX]) {
    snprintf(path, GWTF_FILE_PATH_MAX, "%.*s/stage-%02" PRIu32 ".h5", GWTF_SNAPSHOT_PATH_MAX,
             directory, stage);
}

void gwtf_snapshot_manifest_path(const char *directory, char path[GWTF_FILE_PATH_MAX]) {
    snprintf(path, GWTF_FILE_PATH_MAX, "%.*s/manifest.cfg", GWTF_SNAPSHOT_PATH_MAX, directory);
}

gwtf_status gwtf_manifest_text(const struct gwtf_manifest *manifest, char **text) {
    char *bytes = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&bytes, &size);
    if (stream == NULL)
        return GWTF_ERROR_MEMORY;
    fprintf(stream,
            "# Written last: the snapshot is whole when every file has this size and SHA-256.\n"
            "format = \"%s\";\nversion = %d;\nstep = %" PRIu64 "%s;\nstages = %" PRIu32
            ";\nfiles = (\n",
            GWTF_SNAPSHOT_FORMAT, GWTF_SNAPSHOT_VERSION, manifest->step,
            manifest->step > INT32_MAX ? "L" : "", manifest->stages);
    for (uint32_t i = 0; i <= manifest->stages; i++)
        fprintf(
            stream,
            "    { name = \"stage-%02" PRIu32 ".h5\"; size = %" PRIu64 "%s; sha256 = \"%s\"; }%s\n",
            i, manifest->files[i].size_bytes, manifest->files[i].size_bytes > INT32_MAX ? "L" : "",
            manifest->files[i].sha256, i < manifest->stages ? "," : "");
    fputs(");\n", stream);
    /* What stands above, so that damage to the manifest is not taken for damage to a stage. */
    struct gwtf_sha256 *sha256 = fflush(stream) == 0 ? gwtf_sha256_create() : NULL;
    int failed = sha256 == NULL || ferror(stream);
    if (sha256 != NULL) {
        char digest[GWTF_FILE_SHA256_MAX];
        gwtf_sha256_add(sha256, bytes, size);
        gwtf_sha256_finish(sha256, digest);
        fprintf(stream, "sha256 = \"%s\";\n", digest);
    }
    failed = failed || ferror(stream);
    if (fclose(stream) != 0 || failed) {
        free(bytes);
        return GWTF_ERROR_MEMORY;
    }
    *text = bytes;
    return GWTF_OK;
}

static int64_t whole_of(const config_setting_t *parent, const char *name) {
    const config_setting_t *setting = config_setting_get_member(parent, name);
    if (setting == NULL || (config_setting_type(setting) != CONFIG_TYPE_INT &&
                            config_setting_type(setting) != CONFIG_TYPE_INT64))
        return -1;
    return config_setting_get_int64(setting);
}

/* "" when it is not there. */
static const char *string_of(const config_setting_t *parent, const char *name) {
    const config_setting_t *setting = config_setting_get_member(parent, name);
    return setting != NULL && config_setting_type(setting) == CONFIG_TYPE_STRING
               ? config_setting_get_string(setting)
               : "";
}

/* What is wrong is found by writing the manifest again and comparing: here nothing may crash. */
static gwtf_status take_manifest(const config_setting_t *root, struct gwtf_manifest *manifest) {
    int64_t step = whole_of(root, "step"), stages = whole_of(root, "stages");
    const config_setting_t *files = config_setting_get_member(root, "files");
    if (step < 0 || stages < 1 || stages > GWTF_SNAPSHOT_STAGES_MAX || files == NULL ||
        !config_setting_is_list(files) || config_setting_length(files) != (int)stages + 1)
        return GWTF_ERROR_CORRUPT;
    manifest->step = (uint64_t)step;
    manifest->stages = (uint32_t)stages;
    manifest->files = calloc((size_t)stages + 1, sizeof *manifest->files);
    if (manifest->files == NULL)
        return GWTF_ERROR_MEMORY;
    for (unsigned i = 0; i <= manifest->stages; i++) {
        const config_setting_t *entry = config_setting_get_elem(files, i);
        if (!config_setting_is_group(entry))
            return GWTF_ERROR_CORRUPT;
        manifest->files[i].size_bytes = (uint64_t)whole_of(entry, "size");
        snprintf(manifest->files[i].sha256, sizeof manifest->files[i].sha256, "%s",
                 string_of(entry, "sha256"));
    }
    return GWTF_OK;
}

static gwtf_status parse_manifest(const char *text, const char *path,
                                  struct gwtf_manifest *manifest, struct gwtf_error *error) {
    config_t tree;
    config_init(&tree);
    gwtf_status status = GWTF_ERROR_CORRUPT;
    int64_t version = -1;
    if (gwtf_config_read_text(text, path, &tree, NULL) == GWTF_OK) {
        const config_setting_t *root = config_root_setting(&tree);
        version = whole_of(root, "version");
        if (strcmp(string_of(root, "format"), GWTF_SNAPSHOT_FORMAT) == 0 &&
            version == GWTF_SNAPSHOT_VERSION)
            status = take_manifest(root, manifest);
        else if (version > GWTF_SNAPSHOT_VERSION)
            status = GWTF_ERROR_UNSUPPORTED;
    }
    config_destroy(&tree);
    char *again = NULL;
    if (status == GWTF_OK)
        status = gwtf_manifest_text(manifest, &again);
    if (status == GWTF_OK && strcmp(again, text) != 0)
        status = GWTF_ERROR_CORRUPT;
    free(again);
    if (status == GWTF_ERROR_UNSUPPORTED)
        gwtf_error_set(error, status,
                       "'%s' has version %" PRId64 ", and this program knows version %d: use a "
                       "newer program",
                       path, version, GWTF_SNAPSHOT_VERSION);
    else if (status == GWTF_ERROR_CORRUPT)
        gwtf_error_set(error, status,
                       "'%s' is cut or damaged: use another snapshot, and remove this one", path);
    else if (status == GWTF_ERROR_MEMORY)
        gwtf_file_error(error, "read", path, ENOMEM);
    return status;
}

gwtf_status gwtf_manifest_read(const char *directory, struct gwtf_manifest *manifest,
                               struct gwtf_error *error) {
    char path[GWTF_FILE_PATH_MAX];
    char *text = NULL;
    size_t size = 0;
    struct gwtf_manifest found = {0};
    gwtf_snapshot_manifest_path(directory, path);
    struct stat facts;
    if (stat(directory, &facts) != 0)
        return gwtf_file_error(error, "open", directory, errno);
    gwtf_status status = gwtf_file_read(path, MANIFEST_MAX_BYTES, &text, &size, error);
    if (status == GWTF_ERROR_MISSING)
        return gwtf_error_set(error, status,
                              "'%s' is not there, so the snapshot was never finished: use another "
                              "one",
                              path);
    if (status != GWTF_OK)
        return status;
    if (strlen(text) != size)
        status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                "'%s' is damaged: use another snapshot, and remove this one", path);
    else
        status = parse_manifest(text, path, &found, error);
    free(text);
    if (status == GWTF_OK)
        *manifest = found;
    else
        gwtf_manifest_deinit(&found);
    return status;
}

void gwtf_manifest_deinit(struct gwtf_manifest *manifest) {
    free(manifest->files);
    manifest->files = NULL;
}

static bool step_of(const char *name, const char *prefix, uint64_t *step) {
    if (strncmp(name, prefix, 5) != 0 || !isdigit((unsigned char)name[5]) ||
        strspn(name + 5, "0123456789") != strlen(name + 5) || strlen(name + 5) > 18)
        return false;
    *step = strtoull(name + 5, NULL, 10);
    char again[32];
    snprintf(again, sizeof again, "%s%06" PRIu64, prefix, *step);
    return strcmp(again, name) == 0;
}

static int newest_first(const void *a, const void *b) {
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return (one < other) - (one > other);
}

static gwtf_status list_steps(const char *snapshots, const char *prefix, uint64_t **steps,
                              size_t *steps_count, struct gwtf_error *error) {
    DIR *listing = opendir(snapshots);
    if (listing == NULL)
        return gwtf_file_error(error, "open", snapshots, errno);
    uint64_t *found = NULL;
    size_t count = 0, room = 0;
    gwtf_status status = GWTF_OK;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        uint64_t step;
        if (!step_of(entry->d_name, prefix, &step))
            continue;
        if (count == room) {
            room = room == 0 ? 16 : 2 * room;
            uint64_t *larger = realloc(found, room * sizeof *found);
            if (larger == NULL) {
                status = gwtf_file_error(error, "read", snapshots, ENOMEM);
                break;
            }
            found = larger;
        }
        found[count++] = step;
    }
    closedir(listing);
    if (status != GWTF_OK) {
        free(found);
        return status;
    }
    if (count > 0)
        qsort(found, count, sizeof *found, newest_first);
    *steps = found;
    *steps_count = count;
    return GWTF_OK;
}

gwtf_status gwtf_snapshot_steps(const char *snapshots, uint64_t **steps, size_t *steps_count,
                                struct gwtf_error *error) {
    return list_steps(snapshots, step_prefix, steps, steps_count, error);
}

gwtf_status gwtf_snapshot_rest_steps(const char *snapshots, uint64_t **steps, size_t *steps_count,
                                     struct gwtf_error *error) {
    return list_steps(snapshots, rest_prefix, steps, steps_count, error);
}
