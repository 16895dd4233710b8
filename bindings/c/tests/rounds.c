// Loads a model, encodes a picture and drops both, many times, and fails where memory grows. Linux only: it reads /proc/self/statm.
//
//   rounds MODEL PICTURE ROUNDS GPU-ROUNDS
//
// A GPU-ROUND opens the device anew as well. The first fifth of the rounds fills what is kept for reuse and is not counted.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <tipi.h>

static void check(TipiStatus status)
{
    if (status != TIPI_OK) {
        fprintf(stderr, "%s\n", tipi_last_error().data);
        exit(EXIT_FAILURE);
    }
}

static double resident_mib(void)
{
    unsigned long total, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu %lu", &total, &resident) != 2) {
        fprintf(stderr, "/proc/self/statm: not read\n");
        exit(EXIT_FAILURE);
    }
    fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1024.0 * 1024.0);
}

static void one(TipiGpu *gpu, TipiStr folder, TipiStr path)
{
    TipiModel *model;
    TipiPictures *pictures;
    TipiFeatures *features;
    TipiMatrix matrix;
    check(tipi_model_load(gpu, folder, NULL, NULL, &model));
    check(tipi_pictures_new(&pictures));
    check(tipi_pictures_add_file(pictures, path));
    check(tipi_model_encode(model, pictures, NULL, &features));
    check(tipi_features_get(features, &matrix));
    if (matrix.rows != 1) {
        fprintf(stderr, "%zu rows\n", matrix.rows);
        exit(EXIT_FAILURE);
    }
    check(tipi_free(features));
    check(tipi_free(pictures));
    check(tipi_free(model));
}

// Runs rounds, and says how much memory grew in the last four fifths of them, in MiB.
static double grown(TipiGpu *given, int rounds, char **arguments)
{
    double first = 0.0;
    for (int i = 0; i < rounds; i++) {
        TipiGpu *gpu = given;
        if (i == rounds / 5) {
            first = resident_mib();
        }
        if (given == NULL) {
            check(tipi_gpu_open(TIPI_ABI_VERSION, NULL, &gpu));
        }
        one(gpu, tipi_str(arguments[1]), tipi_str(arguments[2]));
        if (given == NULL) {
            check(tipi_free(gpu));
        }
        if (i % (rounds / 10 + 1) == 0) {
            printf("  round %d: %.1f MiB\n", i, resident_mib());
            fflush(stdout);
        }
    }
    printf("%d rounds%s: from %.1f to %.1f MiB after the first fifth\n", rounds, given ? "" : " with the device",
           first, resident_mib());
    return resident_mib() - first;
}

int main(int count, char **arguments)
{
    if (count != 5) {
        fprintf(stderr, "usage: rounds MODEL PICTURE ROUNDS GPU-ROUNDS\n");
        return EXIT_FAILURE;
    }
    TipiGpu *gpu;
    check(tipi_gpu_open(TIPI_ABI_VERSION, NULL, &gpu));
    double model = grown(gpu, atoi(arguments[3]), arguments);
    TipiGpuInfo info;
    check(tipi_gpu_release(gpu));
    check(tipi_gpu_info(gpu, &info));
    printf("GPU memory at the end: %llu bytes\n", (unsigned long long)info.allocated);
    check(tipi_free(gpu));
    double device = grown(NULL, atoi(arguments[4]), arguments);
    // The model's weights are 5 MB and more: one that is left in each round is seen.
    if (model > 16.0 || device > 32.0 || tipi_live_handles() != 0) {
        fprintf(stderr, "memory grew\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
