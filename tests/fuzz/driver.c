/*
 * Damages files at random, the same way each time, and gives them to LLVMFuzzerTestOneInput.
 *
 * usage: fuzz_NAME COUNT SEED FILE...
 */
#include "share/base/random.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROOM_MORE 64

struct input {
    uint8_t *bytes;
    size_t size, room;
};

static int load(const char *path, struct input *input) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        return 0;
    long size = ftell(file);
    rewind(file);
    *input = (struct input){.size = (size_t)size, .room = (size_t)size + ROOM_MORE};
    input->bytes = malloc(input->room);
    int good = input->bytes != NULL && fread(input->bytes, 1, input->size, file) == input->size;
    fclose(file);
    return good;
}

/* A number that a format may trip over. */
static uint64_t odd_number(struct gwtf_random *random) {
    static const uint64_t numbers[] = {0,          1,          0x7f,       0x80,
                                       0xff,       0x100,      0xffff,     0x10000,
                                       0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX};
    return numbers[gwtf_random_below(random, sizeof numbers / sizeof numbers[0])];
}

/* One change to INPUT, which is not empty. */
static void change(struct gwtf_random *random, struct input *input) {
    static const char *const words[] = {
        "\"",      "{",     "}",    "[",  "]", ":",       ",",
        "-1",      "1e999", "null", "\n", " ", "\\u0000", "99999999999999999999",
        "#version"};
    size_t at = gwtf_random_below(random, input->size);
    size_t length = 1 + gwtf_random_below(random, 1 + gwtf_random_below(random, 200));
    uint64_t number = odd_number(random);
    const char *word = words[gwtf_random_below(random, sizeof words / sizeof words[0])];
    if (length > input->size - at)
        length = input->size - at;
    switch (gwtf_random_below(random, 7)) {
    case 0: /* a bit */
        input->bytes[at] ^= (uint8_t)(1u << gwtf_random_below(random, 8));
        break;
    case 1: /* a byte */
        input->bytes[at] = (uint8_t)gwtf_random_next(random);
        break;
    case 2: /* a number over what stands there */
        length = (size_t)1 << gwtf_random_below(random, 4);
        memcpy(input->bytes + at, &number, length < input->size - at ? length : input->size - at);
        break;
    case 3: /* the end is missing */
        input->size = at + 1;
        break;
    case 4: /* a piece is missing */
        memmove(input->bytes + at, input->bytes + at + length, input->size - at - length);
        input->size -= length;
        break;
    case 5: /* a piece from elsewhere */
        memmove(input->bytes + gwtf_random_below(random, input->size - length + 1),
                input->bytes + at, length);
        break;
    default: /* a word more */
        length = strlen(word);
        if (input->size + length > input->room)
            break;
        memmove(input->bytes + at + length, input->bytes + at, input->size - at);
        memcpy(input->bytes + at, word, length);
        input->size += length;
    }
    if (input->size == 0)
        input->size = 1;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: %s COUNT SEED FILE...\n", argv[0]);
        return 2;
    }
    unsigned long count = strtoul(argv[1], NULL, 10);
    uint64_t seed = strtoull(argv[2], NULL, 10);
    for (unsigned long i = 0; i < count; i++) {
        struct gwtf_random random;
        struct input input = {0};
        if (!load(argv[3 + i % (unsigned long)(argc - 3)], &input)) {
            fprintf(stderr, "cannot read '%s'\n", argv[3 + i % (unsigned long)(argc - 3)]);
            return 2;
        }
        gwtf_random_init(&random, gwtf_random_key(seed, i));
        /* The first of each file is whole. */
        if (i >= (unsigned long)(argc - 3))
            for (uint64_t left = 1 + gwtf_random_below(&random, 4); left > 0; left--)
                change(&random, &input);
        /* Exactly as long as it is, so that a sanitizer sees a byte too far. */
        uint8_t *exact = malloc(input.size);
        memcpy(exact, input.bytes, input.size);
        free(input.bytes);
        fflush(stdout);
        LLVMFuzzerTestOneInput(exact, input.size);
        free(exact);
    }
    printf("%lu files were taken or refused\n", count);
    return 0;
}
