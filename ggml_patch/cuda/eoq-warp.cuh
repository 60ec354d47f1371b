#pragma once

// The rotation of a block by a group of lanes of a warp: width / 4 with four values each or width / 8 with eight.

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

// The same of eight values a lane of a group of width / 8: four in the low halves of v, and in the high halves the four
// that are half a block behind them. Sums of each stay below 2^15, so that one addition does two.
template <int width>
static __device__ __forceinline__ void eoq_transform_halves(const int32_t * v, int lane, int32_t * out) {
    int32_t both[4] = { v[0], v[1], v[2], v[3] };
    eoq_transform<width / 2>(both, lane);
    EOQ_UNROLLED
    for (int i = 0; i < 4; ++i) {
        const int32_t low = (int16_t) both[i], high = (both[i] - low) >> 16;
        out[i]     = low + high;
        out[4 + i] = low - high;
    }
}

// values of which bit i of `signs` is set, negated
static __device__ __forceinline__ void eoq_apply_signs(float * v, uint32_t signs) {
    EOQ_UNROLLED
    for (int i = 0; i < 4; ++i) {
        v[i] = __uint_as_float(__float_as_uint(v[i]) ^ (signs >> i) << 31);
    }
}

// rotated activations: signs, then the transform
template <int width> static __device__ __forceinline__ void eoq_rotate(float * v, int lane) {
    eoq_apply_signs(v, eoq_lane_signs<0>(lane));
    if constexpr (width == 256) {
        eoq_apply_signs(v + 4, eoq_lane_signs<1>(lane));
        eoq_transform<128>(v, lane);
        eoq_transform<128>(v + 4, lane);
        EOQ_UNROLLED
        for (int i = 0; i < 4; ++i) {
            const float low = v[i], high = v[4 + i];
            v[i]     = low + high;
            v[4 + i] = low - high;
        }
    } else {
        eoq_transform<width>(v, lane);
    }
}
