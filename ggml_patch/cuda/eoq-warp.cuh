#pragma once

// The rotation of a block by a group of width / 4 lanes of a warp, with four values each.

#include "eoq-device.cuh"

// v: the transform of the group's values; butterflies of stride 1, 2, 4, ... as everywhere
template <int width, typename number> static __device__ __forceinline__ void eoq_transform(number * v, int lane) {
    eoq_butterflies_in_lane(v);
    EOQ_UNROLLED
    for (int distance = 1; distance < width / 4; distance *= 2) {
        EOQ_UNROLLED
        for (int i = 0; i < 4; ++i) {
            v[i] = eoq_butterfly(v[i], __shfl_xor_sync(0xFFFFFFFF, v[i], distance, 32), lane, distance);
        }
    }
}

// rotated activations: signs, then the transform
template <int width> static __device__ __forceinline__ void eoq_rotate(float * v, int lane) {
    const uint32_t signs = eoq_lane_signs(lane);
    EOQ_UNROLLED
    for (int i = 0; i < 4; ++i) {
        v[i] = __uint_as_float(__float_as_uint(v[i]) ^ (signs >> i) << 31);
    }
    eoq_transform<width>(v, lane);
}
