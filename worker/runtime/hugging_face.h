/*
 * The texts that stand beside a model's weights in a directory of Hugging Face's transformers:
 * config.json and generation_config.json, and of a tokenizer that takes bytes, tokenizer.json and
 * tokenizer_config.json. All are the caller's to free, NULL without memory.
 */
#ifndef GWTF_WORKER_RUNTIME_HUGGING_FACE_H
#define GWTF_WORKER_RUNTIME_HUGGING_FACE_H

#include "model/model.h"

/* The classes that read vocab.json and merges.txt, tokenizer.model, and tokenizer.json. */
#define GWTF_HUGGING_FACE_GPT2 "GPT2Tokenizer"
#define GWTF_HUGGING_FACE_LLAMA "LlamaTokenizer"
#define GWTF_HUGGING_FACE_FAST "PreTrainedTokenizerFast"

/* MODEL as resolved. Token ids that begin, end or fill a text are null: training knows none. */
char *gwtf_hugging_face_config(const struct gwtf_model_shape *model);
char *gwtf_hugging_face_generation(const struct gwtf_model_shape *model);

/*
 * Every byte is the token of its number. Bytes stand for characters as in GPT-2's tokenizer: those
 * that are printable in Latin-1 for themselves, the others for the characters from U+0100 on.
 */
char *gwtf_hugging_face_tokenizer(void);

/*
 * CLASS is the class of transformers that reads the tokenizer's files; SPECIAL is the token for
 * what begins, ends or is not known, NULL: there is none.
 */
char *gwtf_hugging_face_tokenizer_config(const struct gwtf_model_shape *model, const char *class,
                                         const char *special);

#endif
