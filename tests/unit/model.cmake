gwtf_test(model_gradients SOURCES test_model_gradients.c model_pipeline.c USES gwtf_model LABELS unit)
gwtf_test(model_backends SOURCES test_model_backends.c model_pipeline.c USES gwtf_model LABELS unit)
