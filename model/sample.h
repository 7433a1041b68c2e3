/* Which token comes next: drawn from what a model expects. Pure. */
#ifndef GWTF_MODEL_SAMPLE_H
#define GWTF_MODEL_SAMPLE_H

#include <stdint.h>

struct gwtf_sampling {
    double temperature; /* logits are divided by it; 0: the likeliest token, always */
    uint32_t top_k;     /* only from so many of the likeliest; 0: from all */
    /* Of those only from the fewest likeliest whose probabilities sum to at least so much, above 0;
     * 1: from all (nucleus sampling: Holtzman et al., arXiv 1904.09751). */
    double top_p;
};

/* Room for one token of the vocabulary. */
struct gwtf_candidate {
    uint32_t token;
    float logit;
    double probability;
};

/*
 * The token that DRAW, from [0, 1), picks from LOGITS[0..COUNT-1], COUNT at least 1, all finite.
 * Equally likely ones stand in the order of their ids. ROOM has COUNT candidates.
 */
uint32_t gwtf_sample(const struct gwtf_sampling *sampling, const float *logits, uint32_t count,
                     double draw, struct gwtf_candidate *room);

#endif
