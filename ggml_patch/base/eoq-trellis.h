#pragma once

// Quantising to a trellis: the cheapest path through it. docs/format.md, section 5.6

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// k weights, a multiple of the width, to blocks of `bits` bits a weight
void eoq_quantize_trellis_row(int bits, int width, const float * x, uint8_t * y, int64_t k);

#ifdef __cplusplus
}
#endif
