#include "io/snapshot.h"

#include "io/hdf.h"
#include "io/snapshot_files.h"
#include "share/base/assert.h"
#include "share/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Floats in a chunk: 1 MiB, which is HDF5's chunk cache. */
#define CHUNK_FLOATS ((uint64_t)1 << 18)

static void chunk_of(const struct gwtf_snapshot_tensor *tensor, hsize_t dims[2], hsize_t chunk[2]) {
    GWTF_ASSERT(tensor->rank == 1 || tensor->rank == 2);
    uint64_t room = CHUNK_FLOATS;
    for (uint32_t i = tensor->rank; i-- > 0;) {
        GWTF_ASSERT(tensor->dims[i] > 0);
        dims[i] = tensor->dims[i];
        chunk[i] = dims[i] < room ? dims[i] : room;
        room = room / chunk[i] > 0 ? room / chunk[i] : 1;
    }
}

/* More than the file will take: chunks are stored whole, and each dataset has a header and an
 * index. */
static uint64_t space_for(const struct gwtf_snapshot_stage *stage) {
    uint64_t bytes = ((uint64_t)1 << 20) + strlen(stage->config);
    bytes += stage->kept != NULL ? gwtf_hdf_kept_space(stage->kept) : 0;
    for (size_t i = 0; i < stage->tensors_count; i++) {
        hsize_t dims[2] = {1, 1}, chunk[2] = {1, 1};
        chunk_of(&stage->tensors[i], dims, chunk);
        uint64_t chunks =
            ((dims[0] + chunk[0] - 1) / chunk[0]) * ((dims[1] + chunk[1] - 1) / chunk[1]);
        bytes += 3 * (chunks * (4 * chunk[0] * chunk[1] + 256) + 16384);
    }
    return bytes;
}

static bool write_attributes(hid_t file, const struct gwtf_snapshot_stage *stage) {
    char now[32];
    gwtf_file_utc_now(now);
    const struct {
        const char *name, *text;
    } texts[] = {{"format", GWTF_SNAPSHOT_FORMAT}, {"run", stage->run},
                 {"family", stage->family},        {"precision", stage->precision},
                 {"config", stage->config},        {"written_at", now}};
    const struct {
        const char *name;
        uint64_t number;
    } numbers[] = {{"version", GWTF_SNAPSHOT_VERSION},
                   {"step", stage->step},
                   {"stage", stage->stage},
                   {"stages", stage->stages},
                   {"first_layer", stage->first_layer},
                   {"layers", stage->layers},
                   {"width", stage->width},
                   {"heads", stage->heads},
                   {"context", stage->context},
                   {"vocabulary", stage->vocabulary},
                   {"tied_head", stage->tied_head},
                   {"key_value_heads", stage->key_value_heads},
                   {"hidden", stage->hidden}};
    bool good = true;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && good; i++)
        good = gwtf_hdf_write_text(file, texts[i].name, texts[i].text);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && good; i++)
        good = gwtf_hdf_write_number(file, numbers[i].name, numbers[i].number);
    good = good && gwtf_hdf_write_real(file, "rope_theta", stage->rope_theta) &&
           gwtf_hdf_write_real(file, "norm_epsilon", stage->norm_epsilon);
    if (good && stage->tokenizer != NULL && *stage->tokenizer != '\0')
        good = gwtf_hdf_write_text(file, "tokenizer", stage->tokenizer);
    if (good && stage->kept != NULL)
        good = gwtf_hdf_write_kept(file, stage->kept);
    if (good && stage->sequence != GWTF_SNAPSHOT_SEQUENCE_UNKNOWN)
        good = gwtf_hdf_write_number(file, "sequence", stage->sequence);
    if (good && stage->of_rest)
        good = gwtf_hdf_write_real(file, "gradient_norm", stage->gradient_norm);
    return good;
}

static bool write_tensor(hid_t group, const struct gwtf_snapshot_tensor *tensor,
                         const float *values) {
    hsize_t dims[2], chunk[2];
    chunk_of(tensor, dims, chunk);
    hid_t space = H5Screate_simple((int)tensor->rank, dims, NULL);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, (int)tensor->rank, chunk);
    H5Pset_fletcher32(creation);
    H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
    hid_t dataset =
        H5Dcreate2(group, tensor->name, H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    bool good = dataset >= 0 &&
                H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
    if (dataset >= 0 && H5Dclose(dataset) < 0)
        good = false;
    H5Pclose(creation);
    H5Sclose(space);
    return good;
}

static float *array_of(const struct gwtf_snapshot_tensor *tensor, int which) {
    return which == 0   ? tensor->weights
           : which == 1 ? tensor->first_moments
                        : tensor->second_moments;
}

/* /weights, /optimizer/m and /optimizer/v, each in the model's order, which the group remembers. */
static bool write_tensors(const struct gwtf_hdf_new *made,
                          const struct gwtf_snapshot_stage *stage) {
    static const char *const groups[] = {"weights", "optimizer/m", "optimizer/v"};
    hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    bool good = true;
    for (int which = 0; which < 3 && good; which++) {
        hid_t group = H5Gcreate2(made->file, groups[which], links, creation, H5P_DEFAULT);
        good = group >= 0;
        for (size_t i = 0; i < stage->tensors_count && good; i++) {
            good = write_tensor(group, &stage->tensors[i], array_of(&stage->tensors[i], which));
            /* The disk works while the next tensor gets its checksums; the sync at the end, which
             * is what counts, finds less to do. */
            sync_file_range(made->descriptor, 0, 0, SYNC_FILE_RANGE_WRITE);
        }
        if (group >= 0 && H5Gclose(group) < 0)
            good = false;
    }
    H5Pclose(creation);
    H5Pclose(links);
    return good;
}

static void check_stage(const struct gwtf_snapshot_stage *stage) {
    GWTF_ASSERT(stage->stage <= stage->stages && stage->stages >= 1 &&
                stage->stages <= GWTF_SNAPSHOT_STAGES_MAX);
    for (size_t i = 0; i < stage->tensors_count; i++) {
        const struct gwtf_snapshot_tensor *tensor = &stage->tensors[i];
        GWTF_ASSERT(*tensor->name != '\0' && strchr(tensor->name, '/') == NULL);
        GWTF_ASSERT(tensor->weights != NULL && tensor->first_moments != NULL &&
                    tensor->second_moments != NULL);
    }
}

/* The manifest came while this stage was written: somebody else has written it too, and the
 * snapshot stays as it is. */
static bool is_whole_already(const char *directory, const struct gwtf_snapshot_stage *stage,
                             struct gwtf_snapshot_file *file) {
    struct gwtf_manifest manifest;
    if (gwtf_manifest_read(directory, &manifest, NULL) != GWTF_OK)
        return false;
    bool same = manifest.step == stage->step && manifest.stages == stage->stages;
    if (same)
        *file = manifest.files[stage->stage];
    gwtf_manifest_deinit(&manifest);
    return same;
}

gwtf_status gwtf_snapshot_write_stage(const char *snapshots,
                                      const struct gwtf_snapshot_stage *stage,
                                      struct gwtf_snapshot_file *file, struct gwtf_error *error) {
    check_stage(stage);
    char directory[GWTF_SNAPSHOT_PATH_MAX], path[GWTF_FILE_PATH_MAX], manifest[GWTF_FILE_PATH_MAX];
    gwtf_status status =
        stage->of_rest ? gwtf_snapshot_rest_directory(snapshots, stage->step, directory, error)
                       : gwtf_snapshot_directory(snapshots, stage->step, directory, error);
    if (status == GWTF_OK)
        status = gwtf_file_make_directories(directory, error);
    if (status != GWTF_OK)
        return status == GWTF_ERROR_MISSING ? GWTF_ERROR_IO : status;
    gwtf_snapshot_stage_path(directory, stage->stage, path);
    gwtf_snapshot_manifest_path(directory, manifest);
    if (unlink(manifest) != 0 && errno != ENOENT)
        return gwtf_file_error(error, "remove", manifest, errno);

    struct gwtf_hdf_new made;
    status = gwtf_hdf_create(path, space_for(stage), &made, error);
    if (status != GWTF_OK)
        return status == GWTF_ERROR_MISSING ? GWTF_ERROR_IO : status;
    if (!write_attributes(made.file, stage) || !write_tensors(&made, stage))
        status = gwtf_hdf_error(error, GWTF_ERROR_IO, "write", path, NULL);
    struct gwtf_snapshot_file written;
    if (status == GWTF_OK)
        status = gwtf_hdf_close(&made, path, error);
    if (status == GWTF_OK)
        status = gwtf_file_sha256(made.temporary, &written.size_bytes, written.sha256, error);
    if (status == GWTF_OK && is_whole_already(directory, stage, &written))
        gwtf_hdf_abandon(&made);
    else if (status == GWTF_OK)
        status = gwtf_hdf_publish(&made, path, error);
    if (status == GWTF_OK)
        *file = written;
    else
        gwtf_hdf_abandon(&made);
    return status;
}

/* What a killed writer left in a directory whose snapshot is whole now. */
static void remove_temporaries(const char *directory) {
    DIR *listing = opendir(directory);
    if (listing == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;)
        if (gwtf_file_is_temporary(entry->d_name))
            unlinkat(dirfd(listing), entry->d_name, 0);
    closedir(listing);
}

/* The manifest first: a snapshot that is half removed must not look whole. */
static void remove_snapshot(const char *directory) {
    char path[GWTF_FILE_PATH_MAX];
    struct gwtf_error error;
    gwtf_snapshot_manifest_path(directory, path);
    unlink(path);
    if (gwtf_file_remove_directory(directory, &error) != GWTF_OK)
        gwtf_log(GWTF_LOG_WARNING, "an old snapshot stays: %s", error.text);
}

/* Failing to remove an old snapshot does not spoil the new one: a warning says so. */
static void prune(const char *snapshots, uint64_t step, uint32_t keep) {
    uint64_t *steps = NULL;
    size_t count = 0;
    if (gwtf_snapshot_steps(snapshots, &steps, &count, NULL) != GWTF_OK)
        return;
    uint32_t whole = 0;
    for (size_t i = 0; i < count; i++) {
        char directory[GWTF_SNAPSHOT_PATH_MAX];
        struct gwtf_manifest manifest;
        if (steps[i] > step ||
            gwtf_snapshot_directory(snapshots, steps[i], directory, NULL) != GWTF_OK)
            continue;
        if (gwtf_manifest_read(directory, &manifest, NULL) == GWTF_OK) {
            gwtf_manifest_deinit(&manifest);
            whole++;
            if (keep > 0 && whole > keep)
                remove_snapshot(directory);
        } else if (steps[i] < step) {
            remove_snapshot(directory);
        }
    }
    free(steps);
}

gwtf_status gwtf_snapshot_write_manifest(const char *snapshots, uint64_t step, uint32_t stages,
                                         const struct gwtf_snapshot_file *files, uint32_t keep,
                                         struct gwtf_error *error) {
    char directory[GWTF_SNAPSHOT_PATH_MAX], path[GWTF_FILE_PATH_MAX];
    gwtf_status status = gwtf_snapshot_directory(snapshots, step, directory, error);
    if (status != GWTF_OK)
        return status;
    for (uint32_t i = 0; i <= stages; i++) {
        struct stat facts;
        gwtf_snapshot_stage_path(directory, i, path);
        if (stat(path, &facts) != 0)
            return gwtf_file_error(error, "finish the snapshot without", path, errno);
        if ((uint64_t)facts.st_size != files[i].size_bytes)
            return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                  "'%s' has %lld bytes instead of %" PRIu64
                                  ": write the stage again",
                                  path, (long long)facts.st_size, files[i].size_bytes);
    }
    struct gwtf_manifest manifest = {.step = step, .stages = stages};
    char *text = NULL;
    manifest.files = malloc(((size_t)stages + 1) * sizeof *manifest.files);
    gwtf_snapshot_manifest_path(directory, path);
    if (manifest.files != NULL) {
        memcpy(manifest.files, files, ((size_t)stages + 1) * sizeof *files);
        status = gwtf_manifest_text(&manifest, &text);
    } else {
        status = GWTF_ERROR_MEMORY;
    }
    gwtf_manifest_deinit(&manifest);
    if (status == GWTF_ERROR_MEMORY)
        return gwtf_file_error(error, "write", path, ENOMEM);
    status = gwtf_file_replace(path, text, strlen(text), true, error);
    free(text);
    /* The snapshot's own entry among the others must survive a power cut too. */
    if (status == GWTF_OK)
        status = gwtf_file_sync_directory(snapshots, error);
    if (status != GWTF_OK)
        return status;
    remove_temporaries(directory);
    prune(snapshots, step, keep);
    return GWTF_OK;
}
