#include "io/snapshot.h"

#include "io/hdf.h"
#include "io/snapshot_stage.h"
#include "share/base/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADVICE "use another snapshot, and remove this one"

static gwtf_status corrupt(struct gwtf_error *error, const char *path, const char *what) {
    return gwtf_error_set(error, GWTF_ERROR_CORRUPT, "'%s' %s: " ADVICE, path, what);
}

static gwtf_status read_header(hid_t file, const char *path, struct gwtf_stage_header *header,
                               struct gwtf_error *error) {
    const struct {
        const char *name;
        char *text;
    } texts[] = {
        {"format", header->format}, {"family", header->family}, {"precision", header->precision}};
    const struct {
        const char *name;
        uint64_t *number;
    } numbers[] = {{"version", &header->version},
                   {"step", &header->step},
                   {"stage", &header->stage},
                   {"stages", &header->stages},
                   {"first_layer", &header->first_layer},
                   {"layers", &header->layers},
                   {"width", &header->width},
                   {"heads", &header->heads},
                   {"context", &header->context},
                   {"vocabulary", &header->vocabulary},
                   {"tied_head", &header->tied_head}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!gwtf_hdf_read_text(file, texts[i].name, texts[i].text, sizeof header->format))
            return gwtf_error_set(
                error, GWTF_ERROR_CORRUPT,
                "'%s' is no stage of a snapshot, the attribute %s is missing: " ADVICE, path,
                texts[i].name);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!gwtf_hdf_read_number(file, numbers[i].name, numbers[i].number) ||
            *numbers[i].number > INT64_MAX)
            return gwtf_error_set(
                error, GWTF_ERROR_CORRUPT,
                "'%s' is no stage of a snapshot, the attribute %s is missing: " ADVICE, path,
                numbers[i].name);
    header->key_value_heads = header->hidden = 0;
    header->rope_theta = header->norm_epsilon = 0;
    (void)gwtf_hdf_read_number(file, "key_value_heads", &header->key_value_heads);
    (void)gwtf_hdf_read_number(file, "hidden", &header->hidden);
    header->sequence = GWTF_SNAPSHOT_SEQUENCE_UNKNOWN;
    (void)gwtf_hdf_read_number(file, "sequence", &header->sequence);
    (void)gwtf_hdf_read_real(file, "rope_theta", &header->rope_theta);
    (void)gwtf_hdf_read_real(file, "norm_epsilon", &header->norm_epsilon);
    if (strcmp(header->format, GWTF_SNAPSHOT_FORMAT) != 0)
        return corrupt(error, path, "is no stage of a snapshot, its format is another one");
    if (header->version != GWTF_SNAPSHOT_VERSION)
        return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                              "'%s' has version %" PRIu64
                              ", and this program knows version %d: use "
                              "a newer program",
                              path, header->version, GWTF_SNAPSHOT_VERSION);
    if (!gwtf_hdf_read_text(file, "tokenizer", header->tokenizer, sizeof header->tokenizer))
        header->tokenizer[0] = '\0';
    return GWTF_OK;
}

gwtf_status gwtf_snapshot_open_stage(const char *directory, uint32_t stage, hid_t *file,
                                     struct gwtf_stage_header *header,
                                     char path[GWTF_FILE_PATH_MAX], struct gwtf_error *error) {
    gwtf_snapshot_stage_path(directory, stage, path);
    gwtf_status status = gwtf_hdf_open(path, file, error);
    if (status != GWTF_OK)
        return status;
    status = read_header(*file, path, header, error);
    if (status != GWTF_OK)
        H5Fclose(*file);
    return status;
}

/* Size and hash of a file as the manifest has them. */
static gwtf_status check_file(const char *path, const struct gwtf_snapshot_file *expected,
                              struct gwtf_error *error) {
    struct gwtf_snapshot_file found;
    struct stat facts;
    if (stat(path, &facts) != 0)
        return errno == ENOENT ? gwtf_error_set(error, GWTF_ERROR_MISSING,
                                                "'%s' is missing from its snapshot: " ADVICE, path)
                               : gwtf_file_error(error, "open", path, errno);
    if ((uint64_t)facts.st_size != expected->size_bytes)
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "'%s' has %lld bytes instead of %" PRIu64 ": " ADVICE, path,
                              (long long)facts.st_size, expected->size_bytes);
    gwtf_status status = gwtf_file_sha256(path, &found.size_bytes, found.sha256, error);
    if (status == GWTF_OK && strcmp(found.sha256, expected->sha256) != 0)
        return corrupt(error, path, "is damaged, its SHA-256 is not the manifest's");
    return status;
}

/* The stages must be parts of one model, in order. */
static gwtf_status check_header(const char *path, const struct gwtf_stage_header *header,
                                const struct gwtf_stage_header *first,
                                const struct gwtf_manifest *manifest, uint32_t stage,
                                uint64_t layers_before, struct gwtf_error *error) {
    bool same = header->width == first->width && header->heads == first->heads &&
                header->context == first->context && header->vocabulary == first->vocabulary &&
                header->tied_head == first->tied_head &&
                header->key_value_heads == first->key_value_heads &&
                header->hidden == first->hidden && header->rope_theta == first->rope_theta &&
                header->norm_epsilon == first->norm_epsilon &&
                strcmp(header->family, first->family) == 0 &&
                strcmp(header->precision, first->precision) == 0;
    if (header->step != manifest->step || header->stages != manifest->stages ||
        header->stage != stage)
        return corrupt(error, path, "is another step or stage than the manifest says");
    if (!same || header->width > UINT32_MAX || header->heads > UINT32_MAX ||
        header->context > UINT32_MAX || header->vocabulary > UINT32_MAX ||
        header->key_value_heads > UINT32_MAX || header->hidden > UINT32_MAX)
        return corrupt(error, path, "belongs to another model than the stages before it");
    if (stage == 0 ? header->layers != 0 : header->first_layer != layers_before)
        return corrupt(error, path, "does not go on with the layer that the stage before ends at");
    return GWTF_OK;
}

static gwtf_status verify_files(const char *path, const struct gwtf_manifest *manifest,
                                struct gwtf_snapshot_info *info, struct gwtf_error *error) {
    struct gwtf_stage_header first = {0}, header = {0};
    uint64_t layers = 0;
    for (uint32_t stage = 0; stage <= manifest->stages; stage++) {
        char file_path[GWTF_FILE_PATH_MAX];
        hid_t file;
        gwtf_snapshot_stage_path(path, stage, file_path);
        gwtf_status status = check_file(file_path, &manifest->files[stage], error);
        if (status == GWTF_OK)
            status = gwtf_snapshot_open_stage(path, stage, &file, &header, file_path, error);
        if (status != GWTF_OK)
            return status;
        H5Fclose(file);
        if (stage == 0)
            first = header;
        status = check_header(file_path, &header, &first, manifest, stage, layers, error);
        if (status != GWTF_OK)
            return status;
        layers += header.layers;
    }
    struct gwtf_snapshot_info found = {.step = manifest->step,
                                       .stages = manifest->stages,
                                       .layers = (uint32_t)layers,
                                       .width = (uint32_t)first.width,
                                       .heads = (uint32_t)first.heads,
                                       .key_value_heads = (uint32_t)first.key_value_heads,
                                       .hidden = (uint32_t)first.hidden,
                                       .rope_theta = first.rope_theta,
                                       .norm_epsilon = first.norm_epsilon,
                                       .context = (uint32_t)first.context,
                                       .vocabulary = (uint32_t)first.vocabulary,
                                       .tied_head = first.tied_head != 0};
    snprintf(found.path, sizeof found.path, "%s", path);
    snprintf(found.family, sizeof found.family, "%s", first.family);
    snprintf(found.tokenizer, sizeof found.tokenizer, "%s", first.tokenizer);
    *info = found;
    return GWTF_OK;
}

gwtf_status gwtf_snapshot_verify(const char *path, struct gwtf_snapshot_info *info,
                                 struct gwtf_error *error) {
    struct gwtf_manifest manifest;
    if (strlen(path) >= GWTF_SNAPSHOT_PATH_MAX)
        return gwtf_file_error(error, "open", path, ENAMETOOLONG);
    gwtf_status status = gwtf_manifest_read(path, &manifest, error);
    if (status != GWTF_OK)
        return status;
    status = verify_files(path, &manifest, info, error);
    gwtf_manifest_deinit(&manifest);
    return status;
}

/* The newest directory for which CHECK is happy. */
static gwtf_status find_newest(const char *snapshots, struct gwtf_snapshot_info *info,
                               gwtf_status (*check)(const char *path,
                                                    struct gwtf_snapshot_info *info,
                                                    struct gwtf_error *error),
                               void (*skipped)(void *context, const char *line), void *context,
                               struct gwtf_error *error) {
    uint64_t *steps = NULL;
    size_t count = 0;
    gwtf_status status = gwtf_snapshot_steps(snapshots, &steps, &count, error);
    if (status != GWTF_OK && status != GWTF_ERROR_MISSING)
        return status;
    status = gwtf_error_set(error, GWTF_ERROR_MISSING,
                            "there is no whole snapshot in '%s': start without one", snapshots);
    for (size_t i = 0; i < count; i++) {
        char path[GWTF_SNAPSHOT_PATH_MAX];
        struct gwtf_error why;
        struct gwtf_snapshot_info found;
        gwtf_status checked = gwtf_snapshot_directory(snapshots, steps[i], path, &why);
        if (checked == GWTF_OK)
            checked = check(path, &found, &why);
        if (checked == GWTF_OK && found.step != steps[i])
            checked = corrupt(&why, path, "has another step in its manifest than in its name");
        if (checked == GWTF_OK) {
            *info = found;
            status = GWTF_OK;
            if (error != NULL)
                error->text[0] = '\0';
            break;
        }
        if (skipped != NULL)
            skipped(context, why.text);
    }
    free(steps);
    return status;
}

bool gwtf_snapshot_was_whole(const char *snapshots) {
    uint64_t *steps = NULL;
    size_t count = 0;
    bool was = false;
    if (gwtf_snapshot_steps(snapshots, &steps, &count, NULL) != GWTF_OK)
        return false;
    for (size_t i = 0; i < count && !was; i++) {
        char path[GWTF_SNAPSHOT_PATH_MAX], manifest[GWTF_FILE_PATH_MAX];
        if (gwtf_snapshot_directory(snapshots, steps[i], path, NULL) != GWTF_OK)
            continue;
        gwtf_snapshot_manifest_path(path, manifest);
        was = access(manifest, F_OK) == 0;
    }
    free(steps);
    return was;
}

gwtf_status gwtf_snapshot_newest(const char *snapshots, struct gwtf_snapshot_info *info,
                                 void (*skipped)(void *context, const char *line), void *context,
                                 struct gwtf_error *error) {
    return find_newest(snapshots, info, gwtf_snapshot_verify, skipped, context, error);
}

static gwtf_status glance(const char *path, struct gwtf_snapshot_info *info,
                          struct gwtf_error *error) {
    struct gwtf_manifest manifest;
    gwtf_status status = gwtf_manifest_read(path, &manifest, error);
    if (status != GWTF_OK)
        return status;
    *info = (struct gwtf_snapshot_info){.step = manifest.step, .stages = manifest.stages};
    snprintf(info->path, sizeof info->path, "%s", path);
    gwtf_manifest_deinit(&manifest);
    return GWTF_OK;
}

gwtf_status gwtf_snapshot_glance(const char *snapshots, struct gwtf_snapshot_info *info,
                                 struct gwtf_error *error) {
    return find_newest(snapshots, info, glance, NULL, NULL, error);
}
