/* Stages that pack and unpack their boundary tensors (gwtf_stage_options.packing). */
#include "tests/support/suite.h"
#include "tests/unit/model_packed.h"

static void processors_pack_as_by_hand(void) {
    for (int packing = GWTF_PACKING_NONE; packing <= GWTF_PACKING_INT8; packing++) {
        expect_packed_as_by_hand(GWTF_BACKEND_REFERENCE, (enum gwtf_packing)packing, 1);
        expect_packed_as_by_hand(GWTF_BACKEND_ONEDNN, (enum gwtf_packing)packing, 1);
    }
}

int main(int argc, char **argv) {
    static const struct gwtf_test tests[] = {GWTF_TEST(processors_pack_as_by_hand)};
    return gwtf_suite_main(argc, argv, "model_packed", tests, sizeof tests / sizeof tests[0], NULL,
                           NULL);
}
