// Which operations have EOQ kernels here.

#include "eoq-cuda.cuh"

// the quantiser of activations loads four values at a time
static bool eoq_is_aligned(const ggml_tensor * b) {
    return b->type == GGML_TYPE_F32 && b->nb[0] == sizeof(float) && b->nb[1] % 16 == 0 && b->nb[2] % 16 == 0 &&
           b->nb[3] % 16 == 0 && (b->view_src == nullptr || b->view_offs % 16 == 0);
}

bool ggml_cuda_eoq_supports_op(const ggml_tensor * op) {
    const ggml_tensor * a = op->src[0];
    const ggml_tensor * b = op->src[1];
    switch (op->op) {
        // changes nothing but shapes
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
            return true;
        case GGML_OP_MUL_MAT:
            return ggml_cuda_is_eoq(a->type) && a->nb[0] == ggml_element_size(a) && eoq_is_aligned(b) &&
                   op->type == GGML_TYPE_F32;
        case GGML_OP_MUL_MAT_ID:
            return ggml_cuda_is_eoq(a->type) && a->nb[0] == ggml_element_size(a) && eoq_is_aligned(b) &&
                   op->type == GGML_TYPE_F32 && ggml_get_op_params_i32(op, 3) != GGML_PREC_F32;
        case GGML_OP_GET_ROWS:
            return ggml_cuda_is_eoq(a->type) && b->type == GGML_TYPE_I32 && op->type == GGML_TYPE_F32;
        case GGML_OP_CPY:
        case GGML_OP_DUP:
        case GGML_OP_CONT:
            return ggml_cuda_is_eoq(a->type) && (op->type == GGML_TYPE_F32 || op->type == a->type) &&
                   ggml_is_contiguous(a) && ggml_is_contiguous(op);
        default:
            return false;
    }
}
