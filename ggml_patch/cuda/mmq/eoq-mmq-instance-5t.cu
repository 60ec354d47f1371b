// mul_mat_q of the trellis types with 5 bits; a file each, so that they compile side by side

#include "../mmq.cuh"
#include "eoq-cuda.cuh"

#if !defined(GGML_USE_HIP) && !defined(GGML_USE_MUSA)
DECL_MMQ_CASE(GGML_TYPE_EOQ5T);
DECL_MMQ_CASE(GGML_TYPE_EOQ5T_128);
DECL_MMQ_CASE(GGML_TYPE_EOQ5T_64);
#endif
