#version 450

// A whole contiguous matrix as true weights: integers until one multiplication, so that their bits are the reference's.

#include "generic_unary_head.glsl"

layout (constant_id = 0) const uint EOQ_TYPE = 0;
#include "eoq-format.glsl"

#define EOQ_DATA(i) uint(data_a[i])
#include "eoq.glsl"
#include "eoq-transform.glsl"

layout (local_size_x = EOQ_THREADS, local_size_y = 1, local_size_z = 1) in;

void main() {
    const uint thread = gl_LocalInvocationID.x;
    const uint first  = gl_WorkGroupID.z * 262144 + gl_WorkGroupID.y * 512 + gl_WorkGroupID.x * EOQ_VALUES;
    eoq_init(thread, EOQ_THREADS);

    const uint at     = 4u * thread;
    const uint column = first + at;
    const vec4 levels = column < p.ne ? eoq_levels_at(get_aoffset() + column / eoq_width, column % eoq_width) : vec4(0);
    [[unroll]] for (uint i = 0u; i < 4u; ++i) {
        eoq_values[at + i] = levels[i];
    }
    eoq_transform(thread);
    for (uint i = thread; i < EOQ_VALUES && first + i < p.ne; i += EOQ_THREADS) {
        const float value = eoq_is_negative(i % eoq_width) ? -eoq_values[i] : eoq_values[i];
        data_d[get_doffset() + first + i] = D_TYPE(value * eoq_scale(get_aoffset() + (first + i) / eoq_width));
    }
}
