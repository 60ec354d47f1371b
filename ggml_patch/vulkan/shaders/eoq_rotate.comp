#version 450

// Rotated activations: signs, then an unnormalised Walsh-Hadamard transform of each block, over eoq_shrink. The
// source has any strides, what is written none. A group has 512 values, which are whole blocks.

#extension GL_EXT_shader_16bit_storage : require

#include "generic_unary_head.glsl"

layout (constant_id = 0) const uint EOQ_TYPE = 0;
#include "eoq-format.glsl"

#define EOQ_DATA(i) 0u
#include "eoq.glsl"
#include "eoq-transform.glsl"

layout (local_size_x = EOQ_THREADS, local_size_y = 1, local_size_z = 1) in;

void main() {
    const uint thread = gl_LocalInvocationID.x;
    const uint first  = gl_WorkGroupID.z * 262144 + gl_WorkGroupID.y * 512 + gl_WorkGroupID.x * EOQ_VALUES;
    for (uint i = thread; i < EOQ_VALUES; i += EOQ_THREADS) {
        const float x = first + i < p.ne ? float(data_a[get_aoffset() + src0_idx(first + i)]) : 0.0;
        eoq_values[i] = eoq_is_negative(i % eoq_width) ? -x : x;
    }
    eoq_transform(thread);
    for (uint i = thread; i < EOQ_VALUES; i += EOQ_THREADS) {
        if (first + i < p.ne) {
            data_d[get_doffset() + first + i] = D_TYPE(eoq_values[i] / eoq_shrink);
        }
    }
}
