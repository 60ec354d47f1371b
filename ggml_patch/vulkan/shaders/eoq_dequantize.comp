#version 450

// Rotated weights of a whole matrix in half precision, for products that have no kernel of the type's own.

#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "dequant_head.glsl"

layout (constant_id = 0) const uint EOQ_TYPE = 0;
#include "eoq-format.glsl"

layout (binding = 0) readonly buffer A { uint16_t data_a[]; };
layout (binding = 1) writeonly buffer D { f16vec4 data_d[]; };

#define EOQ_DATA(i) uint(data_a[i])
#include "eoq.glsl"

#define THREADS 256
#define VALUES  8192  // of a group

layout (local_size_x = THREADS, local_size_y = 1, local_size_z = 1) in;

void main() {
    eoq_init(gl_LocalInvocationID.x, THREADS);
    const uint first = gl_WorkGroupID.x * VALUES + 4u * gl_LocalInvocationID.x;
    for (uint at = first; at < min(gl_WorkGroupID.x * VALUES + VALUES, p.nel); at += 4u * THREADS) {
        data_d[at / 4u] = f16vec4(eoq_rotated_weights(at / eoq_width, at % eoq_width));
    }
}
