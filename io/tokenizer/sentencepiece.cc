#include "io/tokenizer/sentencepiece.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <sentencepiece_processor.h>

struct gwtf_sentencepiece {
    sentencepiece::SentencePieceProcessor processor;
};

struct gwtf_sentencepiece *gwtf_sentencepiece_create(const char *bytes, size_t size_bytes,
                                                     char *reason, size_t reason_bytes) {
    gwtf_sentencepiece *model = nullptr;
    try {
        model = new gwtf_sentencepiece;
        const auto status = model->processor.LoadFromSerializedProto({bytes, size_bytes});
        if (status.ok() && model->processor.GetPieceSize() > 0)
            return model;
        std::snprintf(reason, reason_bytes, "%s",
                      status.ok() ? "it has no tokens" : status.error_message());
    } catch (const std::exception &problem) {
        std::snprintf(reason, reason_bytes, "%s", problem.what());
    }
    delete model;
    return nullptr;
}

void gwtf_sentencepiece_destroy(struct gwtf_sentencepiece *model) {
    delete model;
}

uint32_t gwtf_sentencepiece_size(const struct gwtf_sentencepiece *model) {
    return static_cast<uint32_t>(model->processor.GetPieceSize());
}

int64_t gwtf_sentencepiece_encode(const struct gwtf_sentencepiece *model, const char *text,
                                  size_t size_bytes, uint32_t **ids) {
    try {
        std::vector<int> made;
        if (!model->processor.Encode({text, size_bytes}, &made).ok())
            return -1;
        auto *copy = static_cast<uint32_t *>(std::malloc((made.size() + 1) * sizeof(uint32_t)));
        if (copy == nullptr)
            return -1;
        for (size_t i = 0; i < made.size(); i++)
            copy[i] = static_cast<uint32_t>(made[i]);
        *ids = copy;
        return static_cast<int64_t>(made.size());
    } catch (const std::exception &) {
        return -1;
    }
}

const char *gwtf_sentencepiece_piece(const struct gwtf_sentencepiece *model, uint32_t id) {
    return model->processor.IdToPiece(static_cast<int>(id)).c_str();
}

enum gwtf_sentencepiece_role gwtf_sentencepiece_role(const struct gwtf_sentencepiece *model,
                                                     uint32_t id) {
    const int place = static_cast<int>(id);
    if (model->processor.IsByte(place))
        return GWTF_SENTENCEPIECE_BYTE;
    if (model->processor.IsUnknown(place))
        return GWTF_SENTENCEPIECE_UNKNOWN;
    if (model->processor.IsControl(place) || model->processor.IsUnused(place))
        return GWTF_SENTENCEPIECE_NOTHING;
    return GWTF_SENTENCEPIECE_TEXT;
}
