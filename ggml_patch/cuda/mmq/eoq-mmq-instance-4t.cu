// mul_mat_q of the trellis types with 4 bits; a file each, so that they compile side by side

#include "../mmq.cuh"
#include "eoq-cuda.cuh"

#if !defined(GGML_USE_HIP) && !defined(GGML_USE_MUSA)
DECL_MMQ_CASE(GGML_TYPE_EOQ4T);
DECL_MMQ_CASE(GGML_TYPE_EOQ4T_128);
DECL_MMQ_CASE(GGML_TYPE_EOQ4T_64);
#endif
