// Codes of the EOQ types to levels, four consecutive positions at a time (docs/format.md, sections 2 and 3).
//
// Before this file: EOQ_TYPE and eoq-format.glsl, and EOQ_DATA(i), word i of 16 bits of the matrix, as uint. Blocks are
// an even number of bytes long, so every plane begins at such a word. The table needs eoq_init.

#if !defined(EOQ_SHARED_SIZE)
#define EOQ_SHARED_SIZE eoq_table_size
#endif

shared float eoq_table[EOQ_SHARED_SIZE];

// A plane has the low bits of all codes, two or four; codes that share a byte are a plane's length of positions apart.
// Planes of single bits follow.
const uint eoq_code_bits   = eoq_bits < 4u ? 2u : 4u;
const uint eoq_parts       = 8u / eoq_code_bits;
const uint eoq_plane       = eoq_code_bits * eoq_width / 8u;
const uint eoq_high_planes = eoq_bits - eoq_code_bits;
const uint eoq_high_plane  = eoq_width / 8u;
const uint eoq_halves      = 1u + eoq_bits * eoq_width / 16u;  // words of 16 bits of a block
const uint eoq_digits      = eoq_code_bits == 2u ? 0x03030303u : 0x0F0F0F0Fu;

// The rotation divides activations by this, so that half precision has the range that it would have without it, and
// rotated weights are multiplied by it: about the square root of the width.
const float eoq_shrink = eoq_width == 256u ? 16.0 : 8.0;

// levels to shared memory; all threads of a group of `threads` take part
void eoq_init(uint thread, uint threads) {
    for (uint i = thread; i < eoq_table_size; i += threads) {
        const uint four = eoq_tables[eoq_table_number * (eoq_table_size / 4u) + i / 4u];
        eoq_table[i] = float(bitfieldExtract(int(four), int(8u * (i % 4u)), 8));
    }
    barrier();
}

float eoq_scale(uint block) {
    return unpackHalf2x16(EOQ_DATA(block * eoq_halves)).x * eoq_level_unit;
}

// of four values of bytes
vec4 eoq_look_up(uint bytes, uint first) {
    return vec4(eoq_table[first + (bytes & 0xFFu)], eoq_table[first + (bytes >> 8 & 0xFFu)],
                eoq_table[first + (bytes >> 16 & 0xFFu)], eoq_table[first + (bytes >> 24)]);
}

// bits of `a` where the mask has ones, else those of `b`
uint eoq_blend(uint a, uint b, uint mask) {
    return (a & mask) | (b & ~mask);
}

// four bytes of a block from an even one on; `qs` is the word of 16 bits at which its codes begin
uint eoq_word(uint qs, uint byte) {
    return EOQ_DATA(qs + byte / 2u) | EOQ_DATA(qs + byte / 2u + 1u) << 16;
}

// ---- trellis: a level depends on the byte of its code and the one before it in the chain

// The bytes before those of word w of the plane: they stand above it, or for the first row in the last one, a byte
// further left; before the first of all are zeros. Without branches, which cost compilers more than two loads.
uint eoq_before(uint qs, uint w) {
    const uint row      = min(eoq_plane, eoq_chain_columns);
    const uint last     = eoq_plane - row;
    const uint j        = 4u * w;
    const bool is_first = j < row;
    const uint at       = mix(j - row, last + j, is_first);
    const uint word     = eoq_word(qs, at);
    const uint left     = mix(EOQ_DATA(qs + at / 2u - 1u) >> 8, 0u, j == 0u);
    return mix(word, word << 8 | left, is_first);
}

uint eoq_swap_bits(uint codes) {
    return eoq_blend(codes << 1, codes >> 1, 0xAAAAAAAAu);
}

// Numbers of the levels of codes of 2 bits, as digits: those of the first and third code of each byte, and those of
// the second and fourth. With the code i steps ago as c[i] and its bits swapped as s[i], the two low bits of a number
// are c[0] ^ s[3] ^ c[4], the high ones c[1] ^ s[2] ^ s[3].
uvec2 eoq_numbers(uint own, uint before) {
    const uint swapped        = eoq_swap_bits(own);
    const uint swapped_before = eoq_swap_bits(before);
    const uint ago_1          = eoq_blend(own << 2, before >> 6, 0xFCFCFCFCu);
    const uint swapped_ago_2  = eoq_blend(swapped << 4, swapped_before >> 4, 0xF0F0F0F0u);
    const uint swapped_ago_3  = eoq_blend(swapped << 6, swapped_before >> 2, 0xC0C0C0C0u);
    const uint low            = own ^ swapped_ago_3 ^ before;
    const uint high           = ago_1 ^ swapped_ago_2 ^ swapped_ago_3;
    return uvec2(eoq_blend(low, high << 2, 0x33333333u), eoq_blend(low >> 2, high, 0x33333333u));
}

// numbers of the second levels of codes of 4 bits, as digits: the code before last ^ older[last code], which is linear
uint eoq_history(uint own, uint before) {
    const uint last   = eoq_blend(before >> 4, own << 4, 0x0F0F0F0Fu);
    const uint masks  = 7u * (eoq_bits - 4u);
    uint       number = before;
    [[unroll]] for (uint i = 0u; i < 7u; ++i) {
        number ^= (i < 3u ? last >> (3u - i) : last << (i - 3u)) & eoq_older_masks[masks + i];
    }
    return number;
}

// ---- all types

// Word w of the plane, decoded as far as its codes have it in common: they are at the positions 4 * w + part * plane
// and the three that follow, for each part.
struct eoq_codes {
    uint w;
    uint own;    // codes as they lie there, or of a trellis of 2 bits the numbers of the even parts
    uint other;  // of a trellis of 2 bits the numbers of the odd parts, of 4 bits those of the second levels
};

eoq_codes eoq_read(uint qs, uint w) {
    eoq_codes codes = eoq_codes(w, eoq_word(qs, 4u * w), 0u);
    if (eoq_is_trellis != 0u) {
        const uint before = eoq_before(qs, w);
        if (eoq_code_bits == 2u) {
            const uvec2 numbers = eoq_numbers(codes.own, before);
            codes.own           = numbers.x;
            codes.other         = numbers.y;
        } else {
            codes.other = eoq_history(codes.own, before);
        }
    }
    return codes;
}

// levels of four positions
vec4 eoq_levels(uint qs, eoq_codes codes, uint part) {
    const uint position = part * eoq_plane + 4u * codes.w;
    if (eoq_is_trellis == 0u) {
        uint digits = codes.own >> (eoq_code_bits * part) & eoq_digits;
        [[unroll]] for (uint h = 0u; h < eoq_high_planes; ++h) {
            const uint first = (eoq_plane + h * eoq_high_plane) / 2u;
            const uint four  = EOQ_DATA(qs + first + position / 16u) >> (position % 16u) & 0xFu;
            // a bit to the lowest place of each byte
            digits |= (four * 0x00204081u & 0x01010101u) << (eoq_code_bits + h);
        }
        return eoq_look_up(digits, 0u);
    }
    uint digits = codes.own >> (4u * part);
    if (eoq_code_bits == 2u) {
        digits = mix(codes.own, codes.other, part % 2u != 0u) >> (4u * (part / 2u));
    }
    digits &= 0x0F0F0F0Fu;
    if (eoq_high_planes != 0u) {
        // the free bits choose between two tables
        const uint free = eoq_word(qs, eoq_plane + position % eoq_high_plane) >> (position / eoq_high_plane);
        digits |= (free & 0x01010101u) << 4;
    }
    vec4 levels = eoq_look_up(digits, 0u);
    if (eoq_code_bits == 4u) {
        levels += eoq_look_up(codes.other >> (4u * part) & 0x0F0F0F0Fu, eoq_table_second);
    }
    return levels;
}

// levels of four positions from `position` on, a multiple of four
vec4 eoq_levels_at(uint block, uint position) {
    const uint qs = block * eoq_halves + 1u;
    return eoq_levels(qs, eoq_read(qs, position % eoq_plane / 4u), position / eoq_plane);
}

// rotated weights of those positions
vec4 eoq_rotated_weights(uint block, uint position) {
    return eoq_levels_at(block, position) * (eoq_scale(block) * eoq_shrink);
}
