#include "model/sample.h"

#include "share/base/assert.h"

#include <math.h>
#include <stdlib.h>

static uint32_t likeliest(const float *logits, uint32_t count) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static int compare(const void *a, const void *b) {
    const struct gwtf_candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

/* Probabilities of the first COUNT candidates, of which the first is the likeliest. */
static void softmax(struct gwtf_candidate *room, uint32_t count, double temperature) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        room[i].probability = exp(((double)room[i].logit - (double)room[0].logit) / temperature);
        sum += room[i].probability;
    }
    for (uint32_t i = 0; i < count; i++)
        room[i].probability /= sum;
}

uint32_t gwtf_sample(const struct gwtf_sampling *sampling, const float *logits, uint32_t count,
                     double draw, struct gwtf_candidate *room) {
    GWTF_ASSERT(count >= 1 && draw >= 0 && draw < 1 && sampling->top_p > 0);
    if (sampling->temperature <= 0)
        return likeliest(logits, count);
    for (uint32_t i = 0; i < count; i++)
        room[i] = (struct gwtf_candidate){.token = i, .logit = logits[i]};
    qsort(room, count, sizeof *room, compare);
    uint32_t kept = sampling->top_k != 0 && sampling->top_k < count ? sampling->top_k : count;
    softmax(room, kept, sampling->temperature);
    uint32_t nucleus = 0;
    double mass = 0;
    while (nucleus < kept && (nucleus == 0 || mass < sampling->top_p))
        mass += room[nucleus++].probability;
    double left = draw * mass;
    for (uint32_t i = 0; i < nucleus; i++) {
        left -= room[i].probability;
        if (left < 0)
            return room[i].token;
    }
    return room[nucleus - 1].token;
}
