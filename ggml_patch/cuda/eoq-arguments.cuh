#pragma once

// What launchers and their kernels are given, by ggml's names: ne are sizes, s strides in values, nb strides in bytes.

#include <stddef.h>
#include <stdint.h>

// activations: rows of ne00 values, which become rows of ne0 values with zeros at their end
struct eoq_activation_rows {
    const float * x;
    int64_t       ne00, s01, s02, s03;
    int64_t       ne0, ne1, ne2, ne3;
};

// rows of weights, fetched by indices: row i10 of matrix (i11, i12) is the one that the index there names
struct eoq_fetch {
    int64_t ne00;
    size_t  nb01, nb02, nb03;  // weights
    int64_t ne10, ne11, ne12;
    size_t  nb10, nb11, nb12;  // indices
    size_t  nb1, nb2, nb3;     // what is written
};
