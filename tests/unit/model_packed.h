/* Stages whose boundary tensors are packed, against the same tensors packed by hand. */
#ifndef GWTF_TESTS_UNIT_MODEL_PACKED_H
#define GWTF_TESTS_UNIT_MODEL_PACKED_H

#include "model/model.h"

/* All calls of a data node's stage and of a relay, to the last bit. SCALE multiplies what is
 * packed: infinite, some of it is not finite. */
void expect_packed_as_by_hand(enum gwtf_backend_kind backend, enum gwtf_packing packing,
                              float scale);

#endif
