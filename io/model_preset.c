#include "io/model_preset.h"

#define GPT2 .family = GWTF_CONFIG_FAMILY_GPT2
#define LLAMA .family = GWTF_CONFIG_FAMILY_LLAMA
/* Of GPT-2's tokenizer, and of the first LLaMA's. */
#define GPT2_TOKENS .vocabulary = 50257
#define LLAMA_TOKENS .vocabulary = 32000

/*
 * GPT-2's are OpenAI's four. llama-500m and llama-1.5b have the blocks, widths, heads and contexts
 * of CheckFree's experiments (arXiv 2506.15461); llama-124m is as large as GPT-2's smallest. These
 * three take GPT-2's tokenizer, and the hidden widths that give the parameters of their names.
 * llama-1b is TinyLlama's, llama-7b the first LLaMA's.
 */
/* clang-format off: a table reads as a table */
#define ROWS(ROW)                                                                                  \
    ROW("none", .tied_head = true)                                                                 \
    ROW("gpt2-124m", GPT2, 12, 768, 12, 12, 3072, 1024, GPT2_TOKENS, .tied_head = true)            \
    ROW("gpt2-355m", GPT2, 24, 1024, 16, 16, 4096, 1024, GPT2_TOKENS, .tied_head = true)           \
    ROW("gpt2-774m", GPT2, 36, 1280, 20, 20, 5120, 1024, GPT2_TOKENS, .tied_head = true)           \
    ROW("gpt2-1.5b", GPT2, 48, 1600, 25, 25, 6400, 1024, GPT2_TOKENS, .tied_head = true)           \
    ROW("llama-124m", LLAMA, 12, 768, 12, 12, 2048, 1024, GPT2_TOKENS, .tied_head = true)          \
    ROW("llama-300m", LLAMA, 24, 1024, 16, 16, 2816, 1024, LLAMA_TOKENS)                           \
    ROW("llama-500m", LLAMA, 24, 1024, 16, 16, 4096, 1024, GPT2_TOKENS)                            \
    ROW("llama-1b", LLAMA, 22, 2048, 32, 4, 5632, 2048, LLAMA_TOKENS)                              \
    ROW("llama-1.5b", LLAMA, 24, 2048, 16, 16, 6144, 4096, GPT2_TOKENS)                            \
    ROW("llama-7b", LLAMA, 32, 4096, 32, 32, 11008, 2048, LLAMA_TOKENS)                            \
    ROW("gpt2-small", GPT2, 12, 768, 12, 12, 3072, 1024, GPT2_TOKENS, .tied_head = true)           \
    ROW("gpt2-medium", GPT2, 24, 1024, 16, 16, 4096, 1024, GPT2_TOKENS, .tied_head = true)         \
    ROW("gpt2-large", GPT2, 36, 1280, 20, 20, 5120, 1024, GPT2_TOKENS, .tied_head = true)          \
    ROW("gpt2-xl", GPT2, 48, 1600, 25, 25, 6400, 1024, GPT2_TOKENS, .tied_head = true)

#define WORD(word, ...) word,
#define SIZES(word, ...) {__VA_ARGS__},
const char *const gwtf_model_preset_words[] = {ROWS(WORD) NULL};
const struct gwtf_model_preset gwtf_model_presets[] = {ROWS(SIZES)};
/* clang-format on */
