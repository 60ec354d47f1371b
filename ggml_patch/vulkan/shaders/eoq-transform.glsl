// The transform of blocks in shared memory (docs/format.md, section 3). Behind eoq-format.glsl.

#define EOQ_VALUES  512
#define EOQ_THREADS 128

// levels and their sums are integers that floats hold exactly
shared float eoq_values[EOQ_VALUES];

bool eoq_is_negative(uint position) {
    return (eoq_sign_words[position / 32u] >> (position % 32u) & 1u) != 0u;
}

// all blocks of eoq_values, butterflies of stride 1, 2, 4, ... in that order; all threads take part
void eoq_transform(uint thread) {
    barrier();
    [[unroll]] for (uint stride = 1u; stride < eoq_width; stride *= 2u) {
        [[unroll]] for (uint i = thread; i < EOQ_VALUES / 2; i += EOQ_THREADS) {
            const uint  at   = i / stride * (2u * stride) + i % stride;
            const float low  = eoq_values[at];
            const float high = eoq_values[at + stride];
            eoq_values[at]          = low + high;
            eoq_values[at + stride] = low - high;
        }
        barrier();
    }
}
