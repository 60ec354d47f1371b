#version 450

// Products of rows of an EOQ matrix and up to eight rotated vectors: a thread takes words of the rows' planes, and of
// each word the codes of all its parts.

#extension GL_EXT_shader_explicit_arithmetic_types_int32 : require

layout (constant_id = 3) const uint EOQ_TYPE = 0;
#include "eoq-format.glsl"

#define A_TYPE uint16_t
#define QUANT_K eoq_width
#include "mul_mat_vec_base.glsl"

#define EOQ_DATA(i) uint(data_a[i])
#include "eoq.glsl"

layout (local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

FLOAT_TYPE temp[NUM_COLS][NUM_ROWS];

void compute_outputs(const uint first_row, const uint num_rows) {
    uint a_offset, b_offset, d_offset;
    get_offsets(a_offset, b_offset, d_offset);

    [[unroll]] for (uint j = 0; j < NUM_COLS; ++j) {
        [[unroll]] for (uint n = 0; n < NUM_ROWS; ++n) {
            temp[j][n] = FLOAT_TYPE(0);
        }
    }

    const uint blocks = p.ncols / eoq_width;
    const uint words  = eoq_plane / 4u;  // of a block
    for (uint i = gl_LocalInvocationID.x; i < blocks * words; i += gl_WorkGroupSize.x) {
        const uint w = i % words;
        const uint y = (b_offset + i / words * eoq_width) / 4u + w;
        [[unroll]] for (uint n = 0; n < num_rows; ++n) {
            const uint      block = a_offset + (first_row + n) * blocks + i / words;
            const uint      qs    = block * eoq_halves + 1u;
            const eoq_codes codes = eoq_read(qs, w);

            FLOAT_TYPE sums[NUM_COLS];
            [[unroll]] for (uint j = 0; j < NUM_COLS; ++j) {
                sums[j] = FLOAT_TYPE(0);
            }
            [[unroll]] for (uint part = 0u; part < eoq_parts; ++part) {
                const vec4 levels = eoq_levels(qs, codes, part);
                [[unroll]] for (uint j = 0; j < NUM_COLS; ++j) {
                    sums[j] += dot(levels, data_b_v4[j * p.batch_stride_b / 4u + y + part * (eoq_plane / 4u)]);
                }
            }
            const float scale = eoq_scale(block) * eoq_shrink;
            [[unroll]] for (uint j = 0; j < NUM_COLS; ++j) {
                temp[j][n] = fma(scale, sums[j], temp[j][n]);
            }
        }
    }

    reduce_result(temp, d_offset, first_row, num_rows, gl_LocalInvocationID.x);
}

void main() {
    eoq_init(gl_LocalInvocationID.x, gl_WorkGroupSize.x);

    const uint first_row = NUM_ROWS * (gl_WorkGroupID.x + gl_NumWorkGroups.x * gl_WorkGroupID.z);
    if (first_row + NUM_ROWS <= p.stride_d) {
        compute_outputs(first_row, NUM_ROWS);
    } else if (first_row < p.stride_d) {
        compute_outputs(first_row, p.stride_d - first_row);
    }
}
