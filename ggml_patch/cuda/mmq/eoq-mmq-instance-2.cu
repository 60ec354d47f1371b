// mul_mat_q of the types with 2 bits; a file each, so that they compile side by side

#include "../mmq.cuh"
#include "eoq-cuda.cuh"

#if !defined(GGML_USE_HIP) && !defined(GGML_USE_MUSA)
DECL_MMQ_CASE(GGML_TYPE_EOQ2);
DECL_MMQ_CASE(GGML_TYPE_EOQ2_64);
#endif
