#version 450

// True weights of rows: integers until one multiplication, so that their bits are the reference's.

#include "generic_binary_head.glsl"

layout (constant_id = 1) const uint EOQ_TYPE = 0;
#include "eoq-format.glsl"

#define EOQ_DATA(i) uint(data_a[i])
#include "eoq.glsl"
#include "eoq-transform.glsl"

layout (local_size_x = EOQ_THREADS, local_size_y = 1, local_size_z = 1) in;

void main() {
    const uint thread = gl_LocalInvocationID.x;
    const uint first  = gl_WorkGroupID.x * EOQ_VALUES;
    eoq_init(thread, EOQ_THREADS);

    for (uint z = gl_WorkGroupID.z; z < p.ne11 * p.ne12; z += gl_NumWorkGroups.z) {
        const uint i11 = z / p.ne12;
        const uint i12 = z % p.ne12;
        for (uint i10 = gl_WorkGroupID.y; i10 < p.ne10; i10 += gl_NumWorkGroups.y) {
            const uint i01 = data_b[get_boffset() + i10 * p.nb10 + i11 * p.nb11 + i12 * p.nb12];
            const uint row = get_aoffset() + i01 * p.nb01 + i11 * p.nb02 + i12 * p.nb03;
            const uint to  = get_doffset() + i10 * p.nb21 + i11 * p.nb22 + i12 * p.nb23;

            const uint at     = 4u * thread;
            const uint column = first + at;
            const vec4 levels = column < p.ne00 ? eoq_levels_at(row + column / eoq_width, column % eoq_width) : vec4(0);
            [[unroll]] for (uint i = 0u; i < 4u; ++i) {
                eoq_values[at + i] = levels[i];
            }
            eoq_transform(thread);
            for (uint i = thread; i < EOQ_VALUES && first + i < p.ne00; i += EOQ_THREADS) {
                const float value = eoq_is_negative(i % eoq_width) ? -eoq_values[i] : eoq_values[i];
                data_d[to + first + i] = D_TYPE(value * eoq_scale(row + (first + i) / eoq_width));
            }
            barrier();
        }
    }
}
