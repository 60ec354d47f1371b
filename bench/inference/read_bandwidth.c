// How fast this machine reads memory: read_bandwidth MIB THREADS PASSES
//
// Each thread sums its own part of a buffer, which should be much larger than the caches. Nothing is written, as token
// generation only reads its weights. Prints GB/s (10^9 bytes) of each pass, a line each.

#define _DEFAULT_SOURCE  // madvise

#include "read_sum.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct part {
    pthread_t thread;
    uint8_t * data;
    size_t    size;
    uint64_t  sum;
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

// by the thread that will read it, for the memory to be near; no zeros, since pages of zeros may be one page
static void * fill(void * argument) {
    struct part * part = (struct part *) argument;
    memset(part->data, 1, part->size);
    return NULL;
}

static void * read_part(void * argument) {
    struct part * part = (struct part *) argument;
    part->sum          = read_sum(part->data, part->size);
    return NULL;
}

static void run(struct part * parts, int threads, void * (*work)(void *) ) {
    for (int i = 1; i < threads; ++i) {
        if (pthread_create(&parts[i].thread, NULL, work, &parts[i]) != 0) {
            fprintf(stderr, "cannot start %d threads\n", threads);
            exit(1);
        }
    }
    work(&parts[0]);
    for (int i = 1; i < threads; ++i) {
        pthread_join(parts[i].thread, NULL);
    }
}

int main(int argc, char ** argv) {
    const long mib     = argc == 4 ? strtol(argv[1], NULL, 10) : 0;
    const long threads = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
    const long passes  = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
    if (mib < 1 || threads < 1 || threads > 1024 || passes < 1) {
        fprintf(stderr, "usage: read_bandwidth MIB THREADS PASSES\n");
        return 1;
    }
    const size_t step = 2 << 20;  // of parts: a huge page
    const size_t size = ((size_t) mib << 20) / (step * (size_t) threads) * step;

    uint8_t *     buffer = (uint8_t *) aligned_alloc(step, size * (size_t) threads);
    struct part * parts  = (struct part *) calloc((size_t) threads, sizeof(*parts));
    if (size == 0 || buffer == NULL || parts == NULL) {
        fprintf(stderr, "cannot have %ld MiB for %ld threads\n", mib, threads);
        return 1;
    }
#ifdef MADV_HUGEPAGE
    // the ceiling is what the memory can do, not what page tables leave of it
    madvise(buffer, size * (size_t) threads, MADV_HUGEPAGE);
#endif
    for (long i = 0; i < threads; ++i) {
        parts[i].data = buffer + size * (size_t) i;
        parts[i].size = size;
    }
    run(parts, (int) threads, fill);

    uint64_t sum = 0;
    for (long pass = 0; pass < passes; ++pass) {
        const double start = seconds();
        run(parts, (int) threads, read_part);
        const double taken = seconds() - start;
        for (long i = 0; i < threads; ++i) {
            sum += parts[i].sum;
        }
        printf("%.3f\n", (double) size * (double) threads / taken / 1e9);
    }
    // the sum is used, so that reading is not optimised away
    if (sum != (uint64_t) passes * (uint64_t) threads * (size / sizeof(uint64_t)) * 0x0101010101010101u) {
        fprintf(stderr, "the sum of what was read is wrong\n");
        return 1;
    }
    free(parts);
    free(buffer);
    return 0;
}
