#include "io/safetensors.h"

#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The format's own limit. */
#define HEADER_BYTES_MAX ((uint64_t)100000000)
#define PIECE_NUMBERS ((size_t)1 << 18)
#define ADVICE "get the file anew"

struct gwtf_safetensors {
    int descriptor;
    char path[GWTF_FILE_PATH_MAX];
    json_t *header; /* names live in it */
    struct gwtf_safetensors_tensor *tensors;
    size_t count;
};

static size_t size_of_type(const char *type) {
    static const struct {
        const char *type;
        size_t size;
    } types[] = {{"F64", 8},     {"I64", 8},     {"U64", 8},  {"F32", 4}, {"I32", 4},
                 {"U32", 4},     {"F16", 2},     {"BF16", 2}, {"I16", 2}, {"U16", 2},
                 {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I8", 1},   {"U8", 1},  {"BOOL", 1}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(type, types[i].type) == 0)
            return types[i].size;
    return 0;
}

static bool take_number(const json_t *value, uint64_t *number) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

/* ENTRY as a tensor; false when it makes no sense in a file with DATA_BYTES of tensors. */
static bool take_tensor(const char *name, const json_t *entry, uint64_t data_start,
                        uint64_t data_bytes, struct gwtf_safetensors_tensor *tensor) {
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    size_t rank = json_array_size(shape);
    uint64_t from = 0, to = 0, bytes = 0;
    if (type == NULL || strlen(type) >= sizeof tensor->type || size_of_type(type) == 0 ||
        !json_is_array(shape) || rank > GWTF_SAFETENSORS_RANK_MAX || json_array_size(offsets) != 2)
        return false;
    *tensor = (struct gwtf_safetensors_tensor){.name = name, .rank = (uint32_t)rank, .count = 1};
    memcpy(tensor->type, type, strlen(type) + 1);
    for (size_t i = 0; i < rank; i++)
        if (!take_number(json_array_get(shape, i), &tensor->dims[i]) ||
            __builtin_mul_overflow(tensor->count, tensor->dims[i], &tensor->count))
            return false;
    if (!take_number(json_array_get(offsets, 0), &from) ||
        !take_number(json_array_get(offsets, 1), &to) || from > to || to > data_bytes ||
        __builtin_mul_overflow(tensor->count, size_of_type(type), &bytes) || bytes != to - from)
        return false;
    tensor->start = data_start + from;
    tensor->size_bytes = bytes;
    return true;
}

static gwtf_status take_tensors(struct gwtf_safetensors *file, uint64_t data_start,
                                uint64_t data_bytes, struct gwtf_error *error) {
    const char *name;
    json_t *entry;
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (file->tensors == NULL)
        return gwtf_file_error(error, "read", file->path, ENOMEM);
    json_object_foreach(file->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (!take_tensor(name, entry, data_start, data_bytes, &file->tensors[file->count]))
            return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                  "the tensor %.200s of '%.600s' does not fit the file: " ADVICE,
                                  name, file->path);
        file->count++;
    }
    return GWTF_OK;
}

static gwtf_status read_at(const struct gwtf_safetensors *file, void *bytes, size_t size_bytes,
                           uint64_t offset, struct gwtf_error *error) {
    if (lseek(file->descriptor, (off_t)offset, SEEK_SET) < 0)
        return gwtf_file_error(error, "read", file->path, errno);
    int64_t found = gwtf_file_read_some(file->descriptor, bytes, size_bytes);
    if (found < 0)
        return gwtf_file_error(error, "read", file->path, errno);
    if ((size_t)found != size_bytes)
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT, "'%s' is cut: " ADVICE, file->path);
    return GWTF_OK;
}

static gwtf_status read_header(struct gwtf_safetensors *file, struct gwtf_error *error) {
    struct stat facts;
    unsigned char length_bytes[8];
    uint64_t length = 0;
    if (fstat(file->descriptor, &facts) != 0)
        return gwtf_file_error(error, "read", file->path, errno);
    if (!S_ISREG(facts.st_mode))
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT, "'%s' is not a file: " ADVICE, file->path);
    gwtf_status status = read_at(file, length_bytes, 8, 0, error);
    if (status != GWTF_OK)
        return status;
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)length_bytes[i] << (8 * i);
    if (length > HEADER_BYTES_MAX || length > (uint64_t)facts.st_size - 8)
        return gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                              "'%s' is no safetensors file, or it is cut: " ADVICE, file->path);
    char *text = malloc(length + 1);
    if (text == NULL)
        return gwtf_file_error(error, "read", file->path, ENOMEM);
    status = read_at(file, text, length, 8, error);
    if (status == GWTF_OK) {
        file->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(file->header))
            status = gwtf_error_set(error, GWTF_ERROR_CORRUPT,
                                    "'%s' is no safetensors file, its header is no JSON: " ADVICE,
                                    file->path);
        else
            status = take_tensors(file, 8 + length, (uint64_t)facts.st_size - 8 - length, error);
    }
    free(text);
    return status;
}

gwtf_status gwtf_safetensors_open(const char *path, struct gwtf_safetensors **file,
                                  struct gwtf_error *error) {
    if (strlen(path) >= GWTF_FILE_PATH_MAX)
        return gwtf_file_error(error, "open", path, ENAMETOOLONG);
    struct gwtf_safetensors *made = calloc(1, sizeof *made);
    if (made == NULL)
        return gwtf_file_error(error, "open", path, ENOMEM);
    memcpy(made->path, path, strlen(path) + 1);
    made->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    gwtf_status status = made->descriptor < 0 ? gwtf_file_error(error, "open", path, errno)
                                              : read_header(made, error);
    if (status == GWTF_OK)
        *file = made;
    else
        gwtf_safetensors_close(made);
    return status;
}

void gwtf_safetensors_close(struct gwtf_safetensors *file) {
    if (file == NULL)
        return;
    if (file->descriptor >= 0)
        close(file->descriptor);
    json_decref(file->header);
    free(file->tensors);
    free(file);
}

size_t gwtf_safetensors_count(const struct gwtf_safetensors *file) {
    return file->count;
}

const struct gwtf_safetensors_tensor *gwtf_safetensors_at(const struct gwtf_safetensors *file,
                                                          size_t index) {
    return &file->tensors[index];
}

const struct gwtf_safetensors_tensor *gwtf_safetensors_find(const struct gwtf_safetensors *file,
                                                            const char *name) {
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* IEEE 754 binary16; numbers too small for its normal ones are multiples of 2^-24. */
static float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 0x1fu,
             fraction = half & 0x3ffu;
    if (exponent == 0) {
        float value = (float)fraction * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    if (exponent == 0x1f)
        return from_bits(sign | 0x7f800000u | fraction << 13);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static gwtf_status read_halves(const struct gwtf_safetensors *file,
                               const struct gwtf_safetensors_tensor *tensor, float *values,
                               struct gwtf_error *error) {
    bool brain = strcmp(tensor->type, "BF16") == 0;
    uint16_t *piece = malloc(PIECE_NUMBERS * sizeof *piece);
    gwtf_status status =
        piece != NULL ? GWTF_OK : gwtf_file_error(error, "read", file->path, ENOMEM);
    for (uint64_t done = 0; done < tensor->count && status == GWTF_OK;) {
        uint64_t left = tensor->count - done;
        size_t count = left < PIECE_NUMBERS ? (size_t)left : PIECE_NUMBERS;
        status = read_at(file, piece, count * sizeof *piece, tensor->start + done * sizeof *piece,
                         error);
        for (size_t i = 0; i < count && status == GWTF_OK; i++)
            values[done + i] = brain ? from_bits((uint32_t)piece[i] << 16) : from_half(piece[i]);
        done += count;
    }
    free(piece);
    return status;
}

gwtf_status gwtf_safetensors_read(const struct gwtf_safetensors *file,
                                  const struct gwtf_safetensors_tensor *tensor, float *values,
                                  struct gwtf_error *error) {
    if (strcmp(tensor->type, "F32") == 0)
        return read_at(file, values, tensor->size_bytes, tensor->start, error);
    if (strcmp(tensor->type, "F16") == 0 || strcmp(tensor->type, "BF16") == 0)
        return read_halves(file, tensor, values, error);
    return gwtf_error_set(error, GWTF_ERROR_UNSUPPORTED,
                          "the tensor %.200s of '%.600s' has the type %s: give F32, F16 or BF16",
                          tensor->name, file->path, tensor->type);
}
