gwtf_test(pack SOURCES test_pack.c USES gwtf_model LABELS unit)
gwtf_test(model SOURCES test_model.c model_pipeline.c USES gwtf_model LABELS unit)
target_link_options(test_model PRIVATE
  -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign)
gwtf_test(model_gradients SOURCES test_model_gradients.c model_pipeline.c USES gwtf_model LABELS unit)
gwtf_test(model_backends SOURCES test_model_backends.c model_pipeline.c USES gwtf_model LABELS unit)
gwtf_test(model_recompute SOURCES test_model_recompute.c model_pipeline.c USES gwtf_model LABELS unit)
if(GWTF_DNNL_LIBRARY AND GWTF_DNNL_INCLUDE)
  gwtf_test(model_precision SOURCES test_model_precision.c model_pipeline.c USES gwtf_model LABELS unit)
  gwtf_test(model_kernels SOURCES test_model_kernels.c USES gwtf_model LABELS unit)
endif()
# Programs that measure, built when asked for.
add_subdirectory(${PROJECT_SOURCE_DIR}/tests/bench ${PROJECT_BINARY_DIR}/tests/bench)
gwtf_test(sample SOURCES test_sample.c USES gwtf_model m LABELS unit)
